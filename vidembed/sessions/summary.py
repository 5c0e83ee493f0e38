"""The printed summary of a co-watch count: counts, warnings and proposals."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

WARNED_TIE_SHARE = 0.01
WARNED_TOP_SHARE = 0.5
LEAST_USERS = 50
"""With fewer users, the top 1 % is a single one of few, and no warning is given."""


def tie_share(counts: Mapping[str, Any]) -> float:
    """Ties as a share of all watches that follow another in their session."""
    return float(counts["ties"]) / max(1, counts["events"] - counts["sessions"])


def describe_ties(counts: Mapping[str, Any]) -> str:
    """How many watches have the same timestamp as the previous one, as a clause."""
    return (
        f"{counts['ties']:,} watches ({tie_share(counts):.1%} of those that follow another in "
        "their session) have the same timestamp as the previous watch"
    )


def print_summary(report: Mapping[str, Any], edges: str) -> None:
    """Print the counts, warnings, and options to try."""
    console = Console(highlight=False, soft_wrap=True)
    console.print("\n".join(_counted(report, edges)), markup=False)
    for warning in _warnings(report, edges):
        console.print(f"warning: {warning}", style="bold yellow", markup=False)
    if not report["edges"]:
        console.print(f"warning: {_nothing(report, edges)}", style="bold red", markup=False)


def _counted(report: Mapping[str, Any], edges: str) -> Iterator[str]:
    kind = "SIMULATED sessions" if report["simulated"] else "sessions"
    is_unordered = report["parameters"].get("unordered", False)
    yield (
        f"{report['events']:,} watches of {report['videos']:,} videos in {report['sessions']:,} "
        f"{kind} ({report['repeats']:,} repeats of the same video ignored)"
    )
    if "left_out_watches" in report:
        lists = (name for name in report if name.startswith("left_") and name.endswith("ids"))
        ids = (
            f"{report[name]:,} {name.removeprefix('left_')}, {report['absent_' + name[5:]]:,} of "
            "them not in the sessions"
            for name in lists
        )
        yield f"{report['left_out_watches']:,} watches left out by lists: {'; '.join(ids)}"
    how = "in one session, in any order" if is_unordered else "one after the other"
    weight, dropped = report["parameters"]["min_weight"], report["pairs"] - report["edges"]
    yield (
        f"{report['pairs']:,} pairs watched {how}, {report['edges']:,} of them at least {weight:g} "
        + ("(sum of weights)" if is_unordered else "times")
        + (f"; {dropped:,} are dropped (--min-weight {weight:g})" if dropped else "")
    )
    if 0 < tie_share(report) <= WARNED_TIE_SHARE:
        yield f"{describe_ties(report)}, and are ordered by video id"
    yield (
        f"the {report['top_users']:,} of {report['users']:,} users with most co-watches make "
        f"{report['top_share']:.1%} of the total weight"
    )
    proposed = report["proposed_min_weight"]
    if proposed is not None and proposed != weight:
        yield (
            f"proposal: --min-weight {proposed:g}, at which chance explains at most one in twenty "
            "of the edges"
        )
    yield f"{edges} written in {report['seconds']:.1f} s"


def _warnings(report: Mapping[str, Any], edges: str) -> Iterator[str]:
    if tie_share(report) > WARNED_TIE_SHARE:
        yield f"{describe_ties(report)}: they are ordered by video id"
    if report["top_share"] > WARNED_TOP_SHARE and report["users"] >= LEAST_USERS:
        yield (
            f"few users make most of {edges}: --max-length limits the weight of long histories, "
            "--min-people requires several users per edge"
        )


def _nothing(report: Mapping[str, Any], edges: str) -> str:
    weight = report["parameters"]["min_weight"]
    why = f"no pair was watched at least {weight:g} times (min_weight): lower --min-weight, or "
    within = " within the window" if "window_seconds" in report["parameters"] else ""
    return (
        f"{edges} holds no edges, so no model can be trained on it; "
        + (why if report["pairs"] else f"no session holds two different videos{within}: ")
        + "provide more sessions"
    )
