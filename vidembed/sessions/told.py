"""What is said of co-watches that were counted."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

WARNED_TIE_SHARE = 0.01
WARNED_TOP_SHARE = 0.5
LEAST_USERS = 50
"""Among fewer, one in a hundred is one of few."""


def tie_share(counts: Mapping[str, Any]) -> float:
    """The share of the watches with one before them that are at the same time as that one."""
    return float(counts["ties"]) / max(1, counts["events"] - counts["sessions"])


def ties(counts: Mapping[str, Any]) -> str:
    """How many watches are at the same time as the one before them."""
    return (
        f"{counts['ties']:,} watches ({tie_share(counts):.1%} of those with one before them in "
        "their session) are at the same time as that one"
    )


def tell(report: Mapping[str, Any], edges: str) -> None:
    """Print what was counted, what to be wary of, and what to try."""
    console = Console(highlight=False, soft_wrap=True)
    console.print("\n".join(_counted(report, edges)), markup=False)
    for warning in _warnings(report, edges):
        console.print(f"warning: {warning}", style="bold yellow", markup=False)
    if not report["edges"]:
        console.print(f"warning: {_nothing(report, edges)}", style="bold red", markup=False)


def _counted(report: Mapping[str, Any], edges: str) -> Iterator[str]:
    told = "SIMULATED sessions" if report["simulated"] else "sessions"
    is_unordered = report["parameters"].get("unordered", False)
    repeats = "of the same video left out"
    yield (
        f"{report['events']:,} watches of {report['videos']:,} videos in {report['sessions']:,} "
        f"{told} ({report['repeats']:,} repeats {repeats})"
    )
    if "left_out_watches" in report:
        lists = (name for name in report if name.startswith("left_") and name.endswith("ids"))
        ids = (
            f"{report[name]:,} {name.removeprefix('left_')}, {report['absent_' + name[5:]]:,} of "
            "them not in the sessions"
            for name in lists
        )
        yield f"{report['left_out_watches']:,} watches left out by lists: {'; '.join(ids)}"
    how = "in one session, in whatever order" if is_unordered else "one after the other"
    weight = report["parameters"]["min_weight"]
    yield (
        f"{report['pairs']:,} pairs watched {how}, {report['edges']:,} of them at least {weight:g} "
        + ("(sum of weights)" if is_unordered else "times")
    )
    if 0 < tie_share(report) <= WARNED_TIE_SHARE:
        yield f"{ties(report)}, in the order of ids"
    yield (
        f"the {report['top_users']:,} of {report['users']:,} users with most co-watches make "
        f"{report['top_share']:.1%} of their weight"
    )
    proposed = report["proposed_min_weight"]
    if proposed is not None and proposed != weight:
        yield (
            f"proposal: --min-weight {proposed:g}, from which on chance would make at most one in "
            "twenty of the edges"
        )
    yield f"{edges} written in {report['seconds']:.1f} s"


def _warnings(report: Mapping[str, Any], edges: str) -> Iterator[str]:
    if tie_share(report) > WARNED_TIE_SHARE:
        yield f"{ties(report)}: these were put in the order of ids"
    if report["top_share"] > WARNED_TOP_SHARE and report["users"] >= LEAST_USERS:
        yield (
            f"few users make most of {edges}: --max-length takes the weight of long histories "
            "away, --min-people asks for edges of several users"
        )


def _nothing(report: Mapping[str, Any], edges: str) -> str:
    weight = report["parameters"]["min_weight"]
    why = f"no pair was watched at least {weight:g} times (min_weight): lower --min-weight, or "
    within = " within the window" if "window_seconds" in report["parameters"] else ""
    return (
        f"{edges} holds no edges, and nothing can be trained on it; "
        + (why if report["pairs"] else f"no session holds two different videos{within}: ")
        + "bring more sessions"
    )
