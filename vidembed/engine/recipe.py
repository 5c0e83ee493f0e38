"""A recipe: everything that decides what a run computes, as one frozen tree of parts."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any

from vidembed import MEASURING, TUNABLE
from vidembed.corpora.watched import CorpusPaths
from vidembed.distributed.mesh import MeshShape
from vidembed.engine.old_recipes import former_evaluator, modernised
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.typed_json import from_json, to_json
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.triplets import Triplets
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.metric_learning import MetricLearning


@dataclass(frozen=True, kw_only=True)
class Retention:
    """When checkpoints are written, and which are kept."""

    every_steps: int = 1000
    """A checkpoint each time this many updates have been applied, and one at the end."""
    keep_last: int = 3
    """How many of the newest are kept."""
    keep_every: int = 0
    """Also keep those whose step divides by this; 0 is none."""

    def __post_init__(self) -> None:
        if self.every_steps < 1 or self.keep_last < 1 or self.keep_every < 0:
            raise ValueError(
                f"every_steps {self.every_steps} and keep_last {self.keep_last} must be 1 or more, "
                f"keep_every {self.keep_every} 0 or more"
            )

    def stale(
        self, steps: Collection[int], *, pinned: Collection[int], measured: Collection[int] | None
    ) -> list[int]:
        """The steps that may go, ascending.

        pinned: steps that an evaluation named best; these stay.
        measured: what the attached evaluation jobs have measured; any other step waits for them.
        None if no job is attached.
        """
        return [
            step
            for step in sorted(steps)[: -self.keep_last]
            if step not in pinned
            and not (self.keep_every and step % self.keep_every == 0)
            and (measured is None or step in measured)
        ]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to learn from, what to learn, how, how long and where."""

    corpus: CorpusPaths = CorpusPaths()
    task: MetricLearning | ClusterLabels = MetricLearning()
    feed: Triplets | LabelledVideos = Triplets()
    optimiser: Optimiser = Optimiser()
    evaluator: Annotated[RelatedVideos, TUNABLE, MEASURING] = RelatedVideos()
    checkpoints: Annotated[Retention, TUNABLE] = Retention()
    mesh: Annotated[MeshShape, TUNABLE, MEASURING] = MeshShape()
    steps: Annotated[int, TUNABLE] = 200_000
    """Updates to apply in all."""
    seed: int = 0
    """Seed of parameters, batches and dropout."""
    log_every: Annotated[int, TUNABLE] = 100
    """Steps between lines of metrics.jsonl."""
    evaluate_every: Annotated[int, TUNABLE] = 0
    """Steps between evaluations in this process, which also measures the last step; 0 leaves all
    to the evaluation job."""
    profile_steps: Annotated[int, TUNABLE] = 0
    """Trace this many steps, after ten to warm up, into WORKDIR/profile; 0 is none."""

    def __post_init__(self) -> None:
        if self.task.learns_from != self.feed.unit:
            raise ValueError(
                f"task {type(self.task).__name__} learns from {self.task.learns_from}, feed "
                f"{type(self.feed).__name__} gives {self.feed.unit}: choose feed:triplets for "
                "task:metric-learning, feed:labelled-videos for task:cluster-labels"
            )
        if self.steps < 1 or self.log_every < 1 or self.evaluate_every < 0:
            raise ValueError(
                f"steps {self.steps} and log_every {self.log_every} must be 1 or more, "
                f"evaluate_every {self.evaluate_every} 0 or more"
            )
        if not 0 <= self.seed < 2**32 or self.profile_steps < 0:
            raise ValueError(
                f"seed {self.seed} must lie in [0, 2^32), profile_steps {self.profile_steps} be 0 "
                "or more"
            )
        if self.evaluate_every % self.checkpoints.every_steps:
            raise ValueError(
                f"evaluate_every {self.evaluate_every} must be a multiple of "
                f"checkpoints.every_steps {self.checkpoints.every_steps}: checkpoints are evaluated"
            )

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values, class names included."""
        return to_json(self)

    @staticmethod
    def from_json(data: dict[str, Any], classes: Collection[type] = ()) -> "Recipe":
        """The recipe that `to_json` wrote, today or before; raises RecipeError where it does not
        fit.

        classes: dataclasses from outside vidembed that it may be made of.
        """
        evaluator = former_evaluator(data)
        fields = modernised(data) | ({} if evaluator is None else {"evaluator": evaluator})
        return from_json(Recipe, fields, classes=classes)
