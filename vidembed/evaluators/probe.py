"""Evaluate an embedding of labelled clips: retrieval by class and source, and a linear probe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from vidembed.evaluators import clip_scores
from vidembed.evaluators.clip_scores import LabelledClips, Measured, Probing
from vidembed.evaluators.evaluator import Evaluator
from vidembed.evaluators.labelled_clips import Clips, check_clips, clips_of
from vidembed.evaluators.slices import LabelKinds, Slice, Slices
from vidembed.metrics.intervals import Interval, Result, Selection
from vidembed.records.scores_file import PerQuery
from vidembed.records.table import FeatureTable


@dataclass(frozen=True, kw_only=True)
class Probe(Evaluator):
    """How well an embedding of clips tells classes and sources apart.

    Each held-out clip is searched for among the train clips by cosine: R@k is the share with a clip
    of its class among the k nearest. `same_source` is the share whose nearest other clip of the
    same part is of the same source, for clips with such a clip. `probe` is the accuracy of a
    logistic regression fitted on the train clips. Intervals resample sources, each with all of its
    clips. R@1 on validation clips chooses the checkpoint.
    """

    output: str = "video"
    """The output of the task to measure."""
    at: tuple[int, ...] = (1, 5, 10, 20, 50)
    """Depths of R@k."""
    probing: Probing = Probing()
    """The linear probe."""
    resamples: int = 1000
    """Bootstrap resamples behind each 95 % interval."""
    seed: int = 0
    """Seed of the bootstrap."""

    def __post_init__(self) -> None:
        if not self.at or min(self.at) < 1 or len(set(self.at)) < len(self.at):
            raise ValueError(f"at must be distinct depths of 1 or more, found {self.at}")
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
        """Measure an output: table → vectors f32[N, D]. Scores are named `test/r@1`, `test/probe`,
        `test/same_source`. Raises ValueError if the task has no such output, and for vectors that
        are not finite."""
        del mesh
        if self.output not in outputs:
            raise ValueError(
                f"the task has no output {self.output!r}; it has {', '.join(outputs) or 'none'}: "
                "choose one (--evaluator.output), or another evaluator"
            )
        rows = np.flatnonzero(corpus.labels.per_row > 0)
        vectors = np.asarray(outputs[self.output](corpus.table, rows), np.float32)
        embeddings = np.zeros((len(corpus.table), vectors.shape[1]), np.float32)
        embeddings[rows] = vectors
        return self.measure(embeddings, corpus)

    def measure(self, embeddings: np.ndarray, corpus: Clips) -> Result:
        """The result of any vectors f32[N, D]; zeros for clips that have none."""
        return self._result(
            corpus,
            lambda clips: clip_scores.measured(embeddings, clips, at=self.at, options=self.probing),
        )

    def baselines(
        self, corpus: Clips, *, mesh: jax.sharding.Mesh | None = None
    ) -> dict[str, Result]:
        """Each modality's features as they are, all of them side by side, and `chance`."""
        del mesh
        table = corpus.table
        systems = {name: features_of(table, (name,)) for name in table.features}
        if len(systems) > 1:
            systems["side by side"] = clip_scores.side_by_side(list(systems.values()))
        results = {name: self.measure(features, corpus) for name, features in systems.items()}
        chance = self._result(corpus, lambda clips: clip_scores.chance(clips, at=self.at))
        return results | {"chance": chance}

    def selection(self, values: Mapping[str, float]) -> Selection:
        """R@k of the smallest depth on validation clips if there are any, else on test clips."""
        name = f"validation/r@{min(self.at)}"
        name = name if name in values else f"test/r@{min(self.at)}"
        return Selection(name=name, value=values[name])

    def slices(
        self, embeddings: np.ndarray, corpus: Clips, label_kinds: LabelKinds
    ) -> dict[str, Slices]:
        """The results of each class of the test clips."""
        del label_kinds
        clips = clips_of(corpus, "test")
        of, _ = clip_scores.measured(embeddings, clips, at=self.at, options=self.probing)
        classes = clip_scores.by_class(of, clips, seed=self.seed, resamples=self.resamples)
        counts = np.bincount(clips.labels[of.rows], minlength=clips.classes)
        names = corpus.labels.names
        slices = {names[c]: Slice(int(counts[c]), scores) for c, scores in classes.items()}
        return {"test": {"class": slices}}

    def counts(self, corpus: Clips) -> dict[str, dict[str, int]]:
        """Part → clips (`queries`), and the clips without another of their source, `left_out` of
        the search by source."""
        counts = {}
        for part in corpus.parts:
            first, second = clip_scores.chance(clips_of(corpus, part), at=self.at)
            counts[part] = {
                "queries": len(first.rows),
                "left_out": len(first.rows) - len(second.rows),
            }
        return counts

    def _result(
        self, corpus: Clips, measure: Callable[[LabelledClips], tuple[Measured, Measured]]
    ) -> Result:
        scores, per_query = dict[str, Interval](), {}
        for part in corpus.parts:
            clips = clips_of(corpus, part)
            both = measure(clips)
            for of in both:
                means = (
                    clip_scores.intervals(of, clips, seed=self.seed, resamples=self.resamples)
                    if len(of.rows)
                    else {}
                )
                scores |= {f"{part}/{metric}": interval for metric, interval in means.items()}
            per_query[part] = PerQuery(ids=corpus.table.ids[both[0].rows], values=both[0].values)
        return Result(scores=scores, per_query=per_query)


def features_of(table: FeatureTable, modalities: tuple[str, ...]) -> np.ndarray:
    """Features f32[N, D] of a table, zeros where a video lacks the modality; several at unit length
    side by side."""
    parts = []
    for name in modalities:
        rows = table.floats(name)
        rows[~table.has(name)] = 0
        parts.append(rows)
    return parts[0] if len(parts) == 1 else clip_scores.side_by_side(parts)
