"""Evaluate video annotation: classification of videos into thousands of classes (CDML, 4.3)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Protocol

import jax
import numpy as np

from vidembed import TUNABLE
from vidembed.corpora.labels import Labels
from vidembed.evaluators.evaluator import Evaluator
from vidembed.metrics import full_map_interval
from vidembed.metrics.calibration import Reliability
from vidembed.metrics.intervals import Interval, Result, Selection
from vidembed.metrics.multilabel import Accumulator, Predictions
from vidembed.metrics.multilabel_intervals import bootstrap, stored
from vidembed.records.scores_file import PerQuery
from vidembed.records.table import FeatureTable

SCORES_AT_ONCE = 1 << 24
"""Scores on the host at a time: 64 MB."""
ALL = "all_held_out"
"""Scores on test and validation videos together."""

Scorer = Callable[[np.ndarray], np.ndarray]
"""Rows i64[b] → probabilities f32[b, C]."""


class LabelledVideos(Protocol):
    """What is read of a corpus."""

    @property
    def table(self) -> FeatureTable:
        """N videos."""

    @property
    def labels(self) -> Labels:
        """The classes of all N videos."""

    @property
    def is_train(self) -> np.ndarray:
        """bool[N]"""

    @property
    def parts(self) -> Mapping[str, np.ndarray]:
        """`test` and, if there are any, `validation` → bool[N]."""


@dataclass(frozen=True, kw_only=True)
class Annotation(Evaluator):
    """How well predicted classes match the labels of held-out videos.

    GAP@k, MAP per class (over all videos, and over the pooled k best) and per video, Hit@k and
    PERR: see `metrics.multilabel` for their conventions. Test and validation videos are measured
    separately, and together as `all_held_out`, to compare with others who have no validation part.
    Validation GAP chooses the checkpoint. Videos without labels are left out and counted.

    Intervals resample videos. MAP per class over all videos is missing if there are more than 64 M
    scores.
    """

    k: int = 20
    """Predictions of each video in GAP@k and in `map_per_class@k`."""
    hits_at: tuple[int, ...] = (1, 5)
    """Depths of Hit@k."""
    resamples: int = 1000
    """Bootstrap resamples behind each 95 % interval."""
    seed: int = 0
    """Seed of the bootstrap and of the random baseline."""
    block: Annotated[int | None, TUNABLE] = None
    """Videos scored at a time; None: as many as fit in 64 MB, rounded down to a power of two."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, found {self.k}")
        if not self.hits_at or min(self.hits_at) < 1 or len(set(self.hits_at)) < len(self.hits_at):
            raise ValueError(f"hits_at must be distinct depths of 1 or more, found {self.hits_at}")
        if self.resamples < 40:
            raise ValueError(f"{self.resamples} resamples are too few for an interval: use 1,000")
        if self.block is not None and self.block < 1:
            raise ValueError(f"block must be 1 video or more, found {self.block}")

    def check(self, corpus: LabelledVideos) -> None:
        """Raise ValueError if a part has no labelled videos; needs no scores."""
        for part, inside in corpus.parts.items():
            if not (inside & (corpus.labels.per_row > 0)).any():
                raise ValueError(
                    f"none of the {int(inside.sum()):,} {part} videos has a label, so nothing can "
                    "be measured: give their labels, or change the split"
                )

    def run(
        self,
        outputs: Mapping[str, Callable[..., np.ndarray]],
        corpus: LabelledVideos,
        *,
        mesh: jax.sharding.Mesh | None = None,
    ) -> Result:
        """Measure the output `labels`: (table, rows i64[b]) → probabilities f32[b, C].

        Scores are named `test/gap@20`, `validation/hit@1`, `all_held_out/map_per_video`. Raises
        ValueError if the task has no such output, and for one of another width or with values that
        are not finite.
        """
        del mesh
        return self.measure(self._scorer(outputs, corpus), corpus)

    def measure(self, scorer: Scorer, corpus: LabelledVideos) -> Result:
        """The result of any probabilities."""
        self.check(corpus)
        accumulator = Accumulator(k=self.k, hits_at=self.hits_at)
        for rows, scores, labels in self._blocks(scorer, corpus):
            accumulator.add(rows, scores, labels)
        held_out = accumulator.result()
        inside = {name: part[held_out.rows] for name, part in corpus.parts.items()}
        parts = {name: held_out.of(np.flatnonzero(some)) for name, some in inside.items()}
        width = int(corpus.labels.per_row.max())
        intervals, per_query = dict[str, Interval](), {}
        for name, part in (parts | ({ALL: held_out} if len(parts) > 1 else {})).items():
            results = stored(part, corpus.table.ids[part.rows], width=width)
            means = self._means(part, results)
            intervals |= {f"{name}/{metric}": interval for metric, interval in means.items()}
            if name in parts:
                per_query[name] = results
        return Result(scores=intervals, per_query=per_query)

    def _means(self, part: Predictions, results: PerQuery) -> dict[str, Interval]:
        means = bootstrap([results], seed=self.seed, resamples=self.resamples)
        over_all = full_map_interval.interval(
            part, results.ids, seed=self.seed, resamples=self.resamples
        )
        return means if over_all is None else means | {"map_per_class": over_all}

    def baselines(
        self, corpus: LabelledVideos, *, mesh: jax.sharding.Mesh | None = None
    ) -> dict[str, Result]:
        """`popularity`, each class's share of the labelled train videos, for every video; and
        `chance`, uniform random scores."""
        del mesh
        labels = corpus.labels
        train = np.flatnonzero(corpus.is_train & (labels.per_row > 0))
        share = (labels.counts(train) / max(1, len(train))).astype(np.float32)
        rng = np.random.default_rng(self.seed)

        def chance(rows: np.ndarray) -> np.ndarray:
            return rng.random((len(rows), labels.classes), np.float32)

        systems: dict[str, Scorer] = {
            "popularity": lambda rows: np.tile(share, (len(rows), 1)),
            "chance": chance,
        }
        return {name: self.measure(scorer, corpus) for name, scorer in systems.items()}

    def selection(self, values: Mapping[str, float]) -> Selection:
        """GAP@k on validation videos if they were measured, else on test videos."""
        name = f"validation/gap@{self.k}"
        name = name if name in values else f"test/gap@{self.k}"
        return Selection(name=name, value=values[name])

    def counts(self, corpus: LabelledVideos) -> dict[str, dict[str, int]]:
        """Part → measured videos (`queries`), videos `left_out`, and the numbers by reason."""
        labels, counts = corpus.labels, {}
        for name, inside in corpus.parts.items():
            labelled = inside & (labels.per_row > 0)
            lacking = int(inside.sum() - labelled.sum())
            counts[name] = {
                "queries": int(labelled.sum()),
                "left_out": lacking,
                "videos without labels": lacking,
                "classes without a video": int(
                    (labels.counts(np.flatnonzero(labelled)) == 0).sum()
                ),
            }
        return counts

    def reliability(
        self, outputs: Mapping[str, Callable[..., np.ndarray]], corpus: LabelledVideos
    ) -> dict[str, Reliability]:
        """Part → calibration over all classes of its labelled videos."""
        curves: dict[str, Reliability] = {}
        for rows, scores, labels in self._blocks(self._scorer(outputs, corpus), corpus):
            for name, part in corpus.parts.items():
                some = np.flatnonzero(part[rows])
                own = labels.of(some)
                curve = Reliability.of_block(scores[some], own.offsets, own.values)
                curves[name] = curves[name] + curve if name in curves else curve
        return curves

    def _scorer(
        self, outputs: Mapping[str, Callable[..., np.ndarray]], corpus: LabelledVideos
    ) -> Scorer:
        if "labels" not in outputs:
            raise ValueError(
                "annotation needs the output `labels`, the probabilities of the classes; this task "
                f"has {', '.join(outputs) or 'no output'}: choose another evaluator for it"
            )
        return partial(outputs["labels"], corpus.table)

    def _blocks(
        self, scorer: Scorer, corpus: LabelledVideos
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Labels]]:
        """Yield rows i64[b], scores f32[b, C] and labels of the held-out videos with labels.

        The last block is filled up with its last row while it is scored, so that all have one
        shape and are compiled once.
        """
        labels = corpus.labels
        inside = np.logical_or.reduce(list(corpus.parts.values()))
        every = np.flatnonzero(inside & (labels.per_row > 0))
        size = min(self.block or _power_of_two(SCORES_AT_ONCE // labels.classes), len(every))
        for start in range(0, len(every), size):
            rows = every[start : start + size]
            filled = every[np.minimum(np.arange(start, start + size), len(every) - 1)]
            scores = np.asarray(scorer(filled), np.float32)
            if scores.shape != (size, labels.classes):
                raise ValueError(
                    f"the corpus has {labels.classes:,} classes, but the output `labels` gives "
                    f"{list(scores.shape)} for {size} videos: was the model trained with another "
                    "vocabulary?"
                )
            scores = scores[: len(rows)]
            _refuse_unfinite(scores, corpus.table.ids[rows])
            yield rows, scores, labels.of(rows)


def _power_of_two(most: int) -> int:
    """The largest power of two up to `most`; at least 1."""
    return 1 << max(0, most.bit_length() - 1)


def _refuse_unfinite(scores: np.ndarray, ids: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        names = ", ".join(bytes(i).decode(errors="replace") for i in ids[bad[:10]])
        raise ValueError(
            f"{len(bad)} of {len(ids)} videos have scores that are not finite (videos {names}): "
            "check the checkpoint and the features of these videos"
        )
