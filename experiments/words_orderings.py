"""The orderings of JEMC's Table 1 beside those measured: paired differences, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.words_measures import AT, Ranked
from experiments.words_systems import CHANCE
from vidembed.metrics.caption_ranks import BothRanks
from vidembed.metrics.intervals import Interval, differences

METRIC = f"r@{AT[-1]}"
TWO, ONE, SOUND_ALONE = "two", "concatenation", "audio alone"
CLAIMS = (
    ("VSE++ above VSE", "vse++", "vse"),
    ("weighted ranking above VSE++", "weighted", "vse++"),
    ("a single feature above concatenation", "*", ONE),
    ("two spaces above a shared one", TWO, "shared"),
    ("two spaces above one", TWO, ONE),
    ("two spaces above two copies of one (not in the paper)", TWO, "copies"),
    ("audio alone near chance", SOUND_ALONE, CHANCE),
    ("with audio above without", TWO, "two silent"),
    ("fusion above each feature", TWO, "*"),
)
"""What the paper says, and the keys of two rows; * for each feature alone."""


class Queries(NamedTuple):
    """Recall of each query of a system, by direction, with its video: as `differences` reads it."""

    values: Mapping[str, np.ndarray]
    videos: Mapping[str, np.ndarray]


def queries_of(ranked: Ranked, first: int) -> Queries:
    """The recalls of one seed. first: added to table rows, where each seed has its own videos."""
    values = {
        direction: side.metrics(AT)[METRIC]
        for direction, side in zip(BothRanks._fields, ranked.ranks)
    }
    videos = first + ranked.videos
    return Queries(values, dict(zip(BothRanks._fields, (videos[ranked.owners], videos))))


def orderings(
    systems: Mapping[str, Sequence[Queries]], resamples: int
) -> Iterator[tuple[str, str, str, dict[str, Interval]]]:
    """(claim, key, other key, direction → difference) of the systems that there are, by key."""
    for claim, one, other in CLAIMS:
        for key in _each(one, systems):
            for rival in _each(other, systems):
                if key in systems and rival in systems:
                    yield claim, key, rival, _minus(systems[key], systems[rival], resamples)


def _each(key: str, systems: Mapping[str, Any]) -> list[str]:
    return [name for name in systems if name.endswith(" alone")] if key == "*" else [key]


def _minus(
    ones: Sequence[Queries], others: Sequence[Queries], resamples: int
) -> dict[str, Interval]:
    return {
        direction: differences(
            [{direction: of.values[direction]} for of in ones],
            [{direction: of.values[direction]} for of in others],
            videos=[of.videos[direction] for of in ones],
            seed=0,
            resamples=resamples,
        )[direction]
        for direction in ones[0].values
    }


def verdict(claim: str, difference: Interval) -> str:
    """Whether the paper's ordering appears, by the interval of a difference."""
    if claim.endswith("near chance"):
        return "no, above chance" if difference.low > 0 else "yes"
    if difference.low > 0:
        return "yes"
    return "reversed" if difference.high < 0 else "not told apart"


def cells(claim: str, key: str, other: str, of: Mapping[str, Interval]) -> list[str]:
    """A row of the table of orderings."""
    shown = [f"{d.value:+.1%} [{d.low:+.1%}, {d.high:+.1%}]".replace("%", "") for d in of.values()]
    return [claim, f"{key} − {other}", *shown, verdict(claim, of["text_to_video"])]
