"""Which closed form: its options from a small grid, chosen on validation videos.

    python -m experiments.closed_forms --corpus.table T --corpus.edges E

tries the grid below on one pass's sums, shows NDCG@10 of the validation videos in three directions,
and names the options of `vidembed train linear` that are best by their mean. Test videos are not
looked at.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from vidembed.cli.command_line import start
from vidembed.corpora.watched import Corpus, CorpusPaths
from vidembed.evaluators.baselines import raw_features
from vidembed.evaluators.closed_form import sums
from vidembed.evaluators.queries import DIRECTIONS, Direction
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.models.linear import directions, scaled
from vidembed.progress import Progress
from vidembed.records.statistics import train_statistics
from vidembed.report import wording

RIDGES, POWERS, SIZES = (0.1, 0.3, 1.0, 3.0, 10.0), (0.5, 1.0), (128, 256, 512)
"""What is tried; of the sizes those that the features allow."""
MAIN = "ndcg@10"


class Choice(NamedTuple):
    """Options, and what they score on validation: direction → NDCG@10."""

    ridge: float
    power: float
    size: int
    scores: Mapping[Direction, float]

    @property
    def mean(self) -> float:
        """Over the directions."""
        return float(np.mean(list(self.scores.values())))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClosedForms:
    """Options of the closed form, from a small grid on validation videos."""

    corpus: CorpusPaths = CorpusPaths(validation_share=0.5)

    def run(self) -> int:
        """Shows the grid, and the command with the best."""
        progress = Progress()
        with progress.stage("reading the data"):
            corpus = self.corpus.open()
        if "validation" not in corpus.held_out:
            raise ValueError("nothing to choose by: give --corpus.validation-share above 0")
        found = list[Choice]()
        with progress.stage("solving and measuring", len(RIDGES), "ridges") as stage:
            for choice in choices(corpus):
                found.append(choice)
                stage.update(len({one.ridge for one in found}) - 1)
        heads = ", ".join(map(wording.direction, DIRECTIONS))
        progress.say(f"ridge, power, size: validation NDCG@10 {heads}, mean")
        for one in sorted(found, key=lambda one: -one.mean):
            values = "  ".join(f"{value:.3f}" for value in one.scores.values())
            progress.say(f"{one.ridge:6g} {one.power:4g} {one.size:5}  {values}  {one.mean:.4f}")
        best = max(found, key=lambda one: one.mean)
        progress.say(
            f"best: vidembed train linear --task.ridge {best.ridge:g} --task.power {best.power:g} "
            f"--task.model.layers.size {best.size}"
        )
        return 0


def choices(corpus: Corpus) -> Iterator[Choice]:
    """All of the grid; a ridge is solved for once, and sizes and powers are made of the same
    directions."""
    table, evaluator = corpus.table, RelatedVideos()
    statistics = train_statistics(table, corpus.is_train)
    features = raw_features(table, tuple(table.features), statistics)
    rows, edges = sums(corpus, features)
    widest = min(max(SIZES), features.shape[1])
    sizes = sorted({min(size, widest) for size in SIZES})
    for ridge in RIDGES:
        values, vectors = directions(rows, edges, size=widest, ridge=ridge)
        for power in POWERS:
            every = features @ scaled(values, vectors, power).astype(np.float32)
            for size in sizes:
                asked: Any = partial(evaluator.per_query, every[:, :size], corpus)
                scores = {d: float(asked(d, "validation").values[MAIN].mean()) for d in DIRECTIONS}
                yield Choice(ridge, power, size, scores)


main = partial(start, ClosedForms, prog="python -m experiments.closed_forms")

if __name__ == "__main__":
    sys.exit(main())
