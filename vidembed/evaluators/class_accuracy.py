"""Evaluate the classification of clips: accuracy over videos, and over classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from vidembed.evaluators import clip_scores
from vidembed.evaluators.clip_scores import LabelledClips, Measured
from vidembed.evaluators.evaluator import Evaluator
from vidembed.evaluators.labelled_clips import Clips, check_clips, clips_of
from vidembed.metrics.class_mean import class_mean
from vidembed.metrics.intervals import Interval, Result, Selection
from vidembed.metrics.tied_ranks import Ranks
from vidembed.records.scores_file import PerQuery

OVER_CLASSES = "class_accuracy"


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy(Evaluator):
    """How often the class of a held-out video is among the most probable ones.

    `accuracy@k` is the share of videos whose class is among the k most probable; ties count by
    chance, and a video of which nothing could be read is wrong. `class_accuracy` is the mean over
    classes of their accuracy@1. Intervals resample sources, each with all of its videos. Accuracy@1
    of the validation videos chooses the checkpoint.
    """

    at: tuple[int, ...] = (1, 5)
    """Depths k. Those that reach the number of classes are left out."""
    resamples: int = 1000
    """Bootstrap resamples behind each 95 % interval."""
    seed: int = 0
    """Seed of the bootstrap."""

    def __post_init__(self) -> None:
        if 1 not in self.at or min(self.at) < 1 or len(set(self.at)) < len(self.at):
            raise ValueError(f"at must be distinct depths, 1 among them, found {self.at}")
        if self.resamples < 40:
            raise ValueError(f"{self.resamples} resamples are too few for an interval: use 1,000")

    def check(self, corpus: Clips) -> None:
        """Raise ValueError for data that `check_clips` refuses."""
        check_clips(corpus)

    def run(
        self,
        outputs: Mapping[str, Callable[..., np.ndarray]],
        corpus: Clips,
        *,
        mesh: jax.sharding.Mesh | None = None,
    ) -> Result:
        """Measure the output `labels`: (table, rows i64[n]) → probabilities f32[n, C].

        Scores are named `test/accuracy@1`, `validation/class_accuracy`. Results of single videos
        list the most probable classes, as `predicted`, and the right one, as `label`, by number.
        Raises ValueError if the task has no such output, and for one of another width or with
        values that are not finite.
        """
        del mesh
        if "labels" not in outputs:
            raise ValueError(
                "accuracy needs the output `labels`, the probabilities of the classes; this task "
                f"has {', '.join(outputs) or 'no output'}: choose another evaluator for it"
            )
        held_out = np.logical_or.reduce(list(corpus.parts.values()))
        rows = np.flatnonzero(held_out & (corpus.labels.per_row > 0))
        scores = np.zeros((len(held_out), corpus.labels.classes), np.float32)
        of_rows = np.asarray(outputs["labels"](corpus.table, rows), np.float32)
        if of_rows.shape != (len(rows), corpus.labels.classes):
            raise ValueError(
                f"the corpus has {corpus.labels.classes:,} classes, but the output `labels` gives "
                f"{list(of_rows.shape)} for {len(rows):,} videos: was the model trained with other "
                "classes?"
            )
        scores[rows] = of_rows
        return self.measure(scores, corpus)

    def measure(self, scores: np.ndarray, corpus: Clips) -> Result:
        """The result of any scores f32[N, C]; higher is more probable, all zero is unknown."""
        clip_scores.refuse_unfinite(scores)
        intervals, per_query = dict[str, Interval](), {}
        for part in corpus.parts:
            clips = clips_of(corpus, part)
            of = self._measured(scores, clips)
            labels = clips.labels[of.rows]
            options = {"seed": self.seed, "resamples": self.resamples}
            means = clip_scores.intervals(of, clips, **options)
            means[OVER_CLASSES] = class_mean(
                of.values["accuracy@1"], labels, clips.groups[of.rows], **options
            )
            intervals |= {f"{part}/{metric}": interval for metric, interval in means.items()}
            best = np.argsort(-scores[of.rows], axis=1, kind="stable")[:, : max(self.at)]
            lists = {"predicted": best.astype(np.int32), "label": labels[:, None].astype(np.int32)}
            ids = corpus.table.ids[of.rows]
            per_query[part] = PerQuery(ids=ids, values=of.values, lists=lists)
        return Result(scores=intervals, per_query=per_query)

    def baselines(
        self, corpus: Clips, *, mesh: jax.sharding.Mesh | None = None
    ) -> dict[str, Result]:
        """`popularity`: each class's share of the train videos, for every video."""
        del mesh
        train = np.flatnonzero(corpus.is_train & (corpus.labels.per_row > 0))
        share = (corpus.labels.counts(train) / max(1, len(train))).astype(np.float32)
        scores = np.tile(share, (len(corpus.is_train), 1))
        return {"popularity": self.measure(scores, corpus)}

    def selection(self, values: Mapping[str, float]) -> Selection:
        """Accuracy@1 of validation videos if there are any, else of test videos."""
        name = "validation/accuracy@1"
        name = name if name in values else "test/accuracy@1"
        return Selection(name=name, value=values[name])

    def counts(self, corpus: Clips) -> dict[str, dict[str, int]]:
        """Part → measured videos (`queries`), and those `left_out`, with the reason."""
        counts = {}
        for part, inside in corpus.parts.items():
            lacking = int((inside & (corpus.labels.per_row == 0)).sum())
            queries = int(inside.sum()) - lacking
            counts[part] = {
                "queries": queries,
                "left_out": lacking,
                "videos without a class": lacking,
            }
        return counts

    def _measured(self, scores: np.ndarray, clips: LabelledClips) -> Measured:
        rows = np.flatnonzero(clips.test)
        some, labels = scores[rows], clips.labels[rows]
        own = some[np.arange(len(rows)), labels][:, None]
        ranks = Ranks(
            above=(some > own).sum(axis=1),
            tied=(some == own).sum(axis=1) - 1,
            right=np.ones(len(rows), np.int64),
        )
        known = some.any(axis=1)
        depths = [k for k in self.at if k == 1 or k < clips.classes]
        return Measured(rows, {f"accuracy@{k}": ranks.recall(k) * known for k in depths})
