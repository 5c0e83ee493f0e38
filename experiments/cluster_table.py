"""The quality of clusterings as a table: on the terminal, as Markdown, and all of it as JSON."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from vidembed import files

TRUTHS = ("label", "vertical")
COUNTS = {
    "clusters": "clusters",
    "linked_clusters": "of linked",
    "largest": "largest",
    "singletons": "alone, %",
}
SCORES = {
    f"{truth}/{score}": f"{truth}\n{score}" for truth in TRUTHS for score in ("purity", "AMI")
}


def print_quality(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Two tables, of counts and of scores, 80 columns wide, and what to know of them."""
    console = console or Console(highlight=False)
    for columns in (COUNTS, SCORES):
        table = Table(
            title=_title(result),
            title_justify="left",
            box=None,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        table.add_column("")
        for name in columns.values():
            table.add_column(name, justify="right")
        for row in _rows(result, columns, "\n"):
            table.add_row(*row)
        console.print(table, "")
    for line in remarks(result):
        console.print(line, markup=False, soft_wrap=True)


def write_quality(result: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Writes cluster_quality.json and .md into `folder`; yields each path."""
    files.write_json(folder / "cluster_quality.json", result)
    yield folder / "cluster_quality.json"
    files.write_text(folder / "cluster_quality.md", as_markdown(result))
    yield folder / "cluster_quality.md"


def as_markdown(result: Mapping[str, Any]) -> str:
    """One table of counts and scores: mean over seeds [smallest, largest]."""
    columns = COUNTS | SCORES
    header = ["", *(name.replace("\n", " ") for name in columns.values())]
    rows = [header, ["---"] * len(header), *_rows(result, columns, " ")]
    lines = [f"# {_title(result)}", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join([*lines, *(f"- {line}" for line in remarks(result))]) + "\n"


def remarks(result: Mapping[str, Any]) -> list[str]:
    """What has to be said beside the numbers, and what of them is missing."""
    seeds = result["seeds"]
    worlds = list(seeds.values())
    said = []
    if result["simulated_sessions"]:
        said.append(
            "SIMULATED sessions, made from these same labels: this shows what a method finds of "
            "what was put into the graph, not how real watches cluster."
        )
    said += [
        f"Means over seeds {', '.join(seeds)}, with the smallest and the largest.",
        "label: a video's rarest label (fewest videos in the whole table; ties: the smaller "
        "number). vertical: Vertical1 of that label.",
        f"Scores are over the {_range(worlds, 'linked_videos')} of {_range(worlds, 'train_videos')}"
        " train videos that have a relation to another; the others are alone in every row.",
    ]
    for truth in TRUTHS:
        without = [world["without"][truth] for world in worlds]
        classes = [world["classes"][truth] for world in worlds]
        said.append(
            f"{truth}: {_ends(classes)} classes; {_ends(without)} of those videos have none and "
            "are left out."
        )
    said.append(
        "random: the same sizes, videos shuffled at random. k-means: raw features at unit length, "
        "as many clusters as the level has of linked videos. Louvain, Leiden: modularity, "
        "resolution 1."
    )
    shares = [
        f"{name} {np.mean([world['shared_labels'][name] for world in worlds]):.1%}"
        for name in worlds[0]["shared_labels"]
    ]
    said.append(f"Pairs that share a label: {', '.join(shares)}.")
    return said + list(result["left_out"])


def _title(result: Mapping[str, Any]) -> str:
    told = ", SIMULATED sessions" if result["simulated_sessions"] else ""
    return f"Clusters of the train graph{told}"


def _rows(result: Mapping[str, Any], columns: Iterable[str], between: str) -> Iterator[list[str]]:
    """The name of each clustering and its cells, mean and range of a column `between` them."""
    worlds = [world["rows"] for world in result["seeds"].values()]
    for name in worlds[0]:
        cells = []
        for column in columns:
            first, _, second = column.partition("/")
            found = [world[name][first] for world in worlds]
            values = [of[second.lower()] for of in found] if second else found
            cells.append(_text(values, column, between))
        yield [name, *cells]


def _text(values: Sequence[float], column: str, between: str) -> str:
    scale, form = (
        (100, ".1f") if column == "singletons" else (1, ".3f" if "/" in column else ",.0f")
    )
    ends = min(values), sum(values) / len(values), max(values)
    # Adding 0 makes a zero of what was rounded to one from below.
    low, mean, high = (format(round(scale * value, 3) + 0, form) for value in ends)
    return mean if len(values) == 1 else f"{mean}{between}[{low}, {high}]"


def _range(worlds: Sequence[Mapping[str, Any]], name: str) -> str:
    return _ends([world[name] for world in worlds])


def _ends(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
