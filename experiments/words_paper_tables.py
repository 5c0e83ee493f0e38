"""The results of `experiments.words_tables` in the form of JEMC's Tables 1, 2 and 3."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.annotation_runs import Titled
from experiments.words import cell
from experiments.words_measures import AT
from experiments.words_orderings import METRIC, Queries
from experiments.words_paper import TABLE_2, TABLE_3, Five, Quoted
from experiments.words_rows import BLOCKS
from experiments.words_systems import CCA, CHANCE, EVERY, RIDGE, SHUFFLED
from vidembed.metrics.intervals import Interval

FIVE = (*(f"r@{k}" for k in AT), "median_rank", "mean_rank")
SHOWN = ("R@1", "R@5", "R@10", "MedR", "MeanR")
DIRECTIONS = ("text_to_video", "video_to_text")
HEADER = ["", *(f"{arrow} {name}" for arrow in ("t→v", "v→t") for name in SHOWN)]
COMPARED = (
    *(CHANCE, SHUFFLED, RIDGE, EVERY, CCA),
    *("vse", "vse++", "weighted", "info-nce", "two silent", "two", "gru"),
)
"""Rows of Table 2, by key; Table 3 has those that read no sound."""
OTHER = "the paper's rows are quoted, on other data"
ERRORS = 3.0
"""Standard errors within which shuffled features are at chance."""


class Line(NamedTuple):
    """A system over the seeds."""

    name: str
    block: str
    silent: bool
    """Whether it reads no sound."""
    gallery: int
    """Test videos of the first seed."""
    scores: list[dict[str, Interval]]
    queries: list[Queries]

    def mean(self, measure: str) -> float:
        """Over the seeds."""
        return float(np.mean([of[measure].value for of in self.scores]))

    def goal(self, measure: str, bound: float) -> str:
        """A remark on whether a mean reaches a bound: a rank from above, others from below."""
        value, rank = self.mean(measure), "rank" in measure
        shown, limit = (f"{x:.0f}" if rank else f"{x:.1%}" for x in (value, bound))
        reached = "reached" if (value <= bound if rank else value >= bound) else "NOT REACHED"
        sign = "at most" if rank else "at least"
        return f"asked: {self.name}, {measure} {sign} {limit}: {reached} ({shown})"


def tables(title: str, lines: Mapping[str, Line], ordered: Sequence[list[str]]) -> Iterator[Titled]:
    """Table 1 with its blocks, labels if there are any, orderings, and the forms of 2 and 3."""
    blocks = dict.fromkeys((*BLOCKS, *(line.block for line in lines.values())))
    sorted_lines = [line for block in blocks for line in lines.values() if line.block == block]
    head = f"{title}. Per cent and ranks; means over seeds ± half their range"
    with_block = [[line.block, *_ten(line)] for line in sorted_lines]
    yield f"Table 1 in form. {head}", ["block", "system", *HEADER[1:]], with_block
    if labels := [name for name in next(iter(lines.values())).scores[0] if _of_labels(name)]:
        average = [[line.name, *(_cell(line, name) for name in labels)] for line in sorted_lines]
        yield f"Mean average precision of labels. {head}", ["", *labels], average
    if ordered:
        columns = ["the paper", "difference", *HEADER[3:9:5], "here"]
        yield f"Orderings, {METRIC.upper()}. {title}; paired, 95 % intervals", columns, [*ordered]
    rows = [_ten(lines[key]) for key in COMPARED if key in lines]
    yield f"Table 2 in form (MSR-VTT). {head}; {OTHER}", HEADER, [*rows, *map(_quoted, TABLE_2)]
    silent = [_ten(line) for key, line in lines.items() if line.silent or key == CHANCE]
    form = f"Table 3 in form (MSVD, silent). {head}; {OTHER}"
    yield form, HEADER, [*silent, *map(_quoted, TABLE_3)]


def narrow(of: Iterable[Titled]) -> Iterator[Titled]:
    """The same tables for a terminal: one for each direction, without blocks."""
    for title, header, rows in of:
        if len(header) < len(HEADER):
            yield title, header, rows
            continue
        first = len(header) - len(HEADER)
        for start, direction in zip((1, 6), ("text to video", "video to text")):
            some = slice(first + start, first + start + len(SHOWN))
            part = [[row[first], *row[some]] for row in rows]
            yield f"{title}: {direction}", ["", *SHOWN], part


def _ten(line: Line) -> list[str]:
    names = (f"{direction}/{name}" for direction in DIRECTIONS for name in FIVE)
    return [line.name, *(_cell(line, name) for name in names)]


def _cell(line: Line, name: str) -> str:
    return cell(name, [of[name].value for of in line.scores if name in of])


def _quoted(row: Quoted) -> list[str]:
    return [f"the paper: {row.name}", *_shown(row.text_to_video), *_shown(row.video_to_text)]


def _shown(five: Five) -> list[str]:
    return ["–" if value is None else f"{value:g}" for value in five]


def _of_labels(name: str) -> bool:
    return "/" not in name and name != "sum_of_recalls"


def remarks(lines: Mapping[str, Line]) -> Iterator[str]:
    """What there is to say of the controls."""
    for line in lines.values():
        if "shuffled" in line.name:
            measure = f"text_to_video/{METRIC}"
            videos, queries = (
                line.gallery,
                sum(len(of.values["text_to_video"]) for of in line.queries),
            )
            chance = min(1.0, AT[-1] / videos)
            # Captions of one video share its luck, so that videos count, not queries.
            count = min(queries, videos * len(line.queries))
            error = float(np.sqrt(chance * (1 - chance) / count))
            far = abs(line.mean(measure) - chance) > ERRORS * error
            yield (
                f"{line.name}: {METRIC.upper()} {line.mean(measure):.1%}, chance {chance:.1%}: "
                f"{'NOT at chance' if far else 'at chance'}"
            )
    yield (
        "Rows of one loss, of frozen sentence vectors unless named: ordinary `vidembed train jemc` "
        "commands, measured at their last step."
    )
