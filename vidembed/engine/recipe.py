"""A recipe: everything that determines what a run computes, as one frozen tree of parts."""

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, NamedTuple

from vidembed import TUNABLE
from vidembed.distributed.mesh import MeshShape
from vidembed.engine.old_recipes import modernised
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.protocols import CorpusOptions, FeedOptions, Task
from vidembed.engine.typed_json import from_json, to_json


@dataclass(frozen=True, kw_only=True)
class Retention:
    """When checkpoints are written, and which are kept."""

    every_steps: int = 1000
    """Steps between checkpoints; the last step is saved, too."""
    keep_last: int = 3
    """Number of newest checkpoints to keep."""
    keep_every: int = 0
    """Also keep checkpoints whose step is a multiple of this; 0 is none."""

    def __post_init__(self) -> None:
        if self.every_steps < 1 or self.keep_last < 1 or self.keep_every < 0:
            raise ValueError(
                f"every_steps {self.every_steps} and keep_last {self.keep_last} must be 1 or more, "
                f"keep_every {self.keep_every} 0 or more"
            )

    def stale(
        self, steps: Collection[int], *, pinned: Collection[int], measured: Collection[int] | None
    ) -> list[int]:
        """The steps that may be deleted, ascending.

        pinned: steps that an evaluation selected as best; these stay.
        measured: steps that the attached evaluation jobs have measured; others stay until they are
        measured. None if no job is attached.
        """
        return [
            step
            for step in sorted(steps)[: -self.keep_last]
            if step not in pinned
            and not (self.keep_every and step % self.keep_every == 0)
            and (measured is None or step in measured)
        ]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A number of steps with the same feed, optimiser and trained parameters."""

    steps: int
    """Steps until the next phase; after the last phase, the first begins again."""
    feed: FeedOptions | None = None
    """Source of batches; None is the recipe's."""
    optimiser: Optimiser | None = None
    """How parameters are updated; None is the recipe's. Its state and its learning rate count only
    the steps of this phase."""
    learns: tuple[str, ...] = ()
    """Names or path prefixes of the parameters to train; by default the recipe's."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a phase must have 1 step or more, found {self.steps}")


class ResolvedPhase(NamedTuple):
    """A phase with the recipe's defaults filled in."""

    steps: int
    feed: FeedOptions
    optimiser: Optimiser
    learns: tuple[str, ...]


class Position(NamedTuple):
    """The position of a step in a run."""

    phase: int
    done: int
    """Earlier steps of this phase."""
    left: int
    """Steps until another phase begins."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The data, task, optimiser, length and devices of a run."""

    corpus: CorpusOptions
    task: Task
    feed: FeedOptions
    optimiser: Optimiser = Optimiser()
    learns: tuple[str, ...] = ()
    """Names or path prefixes (towers/0) of the parameters to train; all by default."""
    phases: tuple[Phase, ...] = ()
    """Phases that alternate, over and over; by default every step uses the fields above."""
    init_from: str = ""
    """Start from the parameters of another run, RUN or RUN@STEP. STEP is a number, latest (the
    default) or best; parameters are matched by name and shape."""
    init_partial: bool = False
    """With --init-from, allow runs with other parameters: those that do not match are initialised
    randomly."""
    checkpoints: Annotated[Retention, TUNABLE] = Retention()
    mesh: Annotated[MeshShape, TUNABLE] = MeshShape()
    steps: Annotated[int, TUNABLE] = 200_000
    """Total training steps, of one batch each. A step is an update unless several batches are
    accumulated."""
    seed: int = 0
    """Seed of parameters, batches and dropout."""
    log_every: Annotated[int, TUNABLE] = 100
    """Steps between lines of metrics.jsonl."""
    evaluate_every: Annotated[int, TUNABLE] = 0
    """Steps between evaluations during training; 0 leaves them to `evaluate`. The last step is
    evaluated, too."""
    profile_steps: Annotated[int, TUNABLE] = 0
    """Trace this many steps, after ten warm-up steps, into WORKDIR/profile; 0 is none."""

    def __post_init__(self) -> None:
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
        if self.task.fixed_classes and not self.init_from:
            raise ValueError(
                f"the first {self.task.fixed_classes:,} classes are fixed, so they must come from "
                "another run: give --init-from RUN"
            )
        for number, phase in enumerate(self.resolved_phases):
            if self.task.learns_from != phase.feed.unit:
                raise ValueError(
                    f"task {type(self.task).__name__} learns from {self.task.learns_from}, feed "
                    f"{type(phase.feed).__name__} gives {phase.feed.unit}: choose a feed of "
                    f"{self.task.learns_from}, or another task"
                )
            if self.phases and phase.steps % phase.optimiser.accumulate:
                raise ValueError(
                    f"a phase of {phase.steps} steps ends within an update of "
                    f"{phase.optimiser.accumulate} (optimiser.accumulate): choose a multiple"
                )
            if phase.optimiser.schedule == "cosine" and self.steps_of(number):
                phase.optimiser.falling_updates(self.steps_of(number))
            if phase.optimiser.average_decay not in (None, self.optimiser.average_decay):
                raise ValueError(
                    "all phases share one average of the parameters: set average_decay on the "
                    "recipe's optimiser"
                )

    @property
    def resolved_phases(self) -> tuple[ResolvedPhase, ...]:
        """The phases; for a recipe without phases, the recipe itself as the only one."""
        if not self.phases:
            return (ResolvedPhase(self.steps, self.feed, self.optimiser, self.learns),)
        return tuple(
            ResolvedPhase(
                phase.steps,
                phase.feed or self.feed,
                phase.optimiser or self.optimiser,
                phase.learns or self.learns,
            )
            for phase in self.phases
        )

    def position(self, step: int) -> Position:
        """The position of `step`, from 0; a pure function of the step."""
        if not self.phases:
            return Position(phase=0, done=step, left=self.steps - step)
        ends = list(accumulate(phase.steps for phase in self.phases))
        rounds, rest = divmod(step, ends[-1])
        number = bisect_right(ends, rest)
        steps, left = self.phases[number].steps, ends[number] - rest
        return Position(number, done=(rounds + 1) * steps - left, left=left)

    def steps_of(self, phase: int) -> int:
        """The steps of all rounds of a phase in the whole run."""
        if not self.phases:
            return self.steps
        lengths = [each.steps for each in self.phases]
        rounds, rest = divmod(self.steps, sum(lengths))
        last = min(max(rest - sum(lengths[:phase]), 0), lengths[phase])
        return rounds * lengths[phase] + last

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values, class names included."""
        return to_json(self)

    @staticmethod
    def from_json(data: dict[str, Any], classes: Collection[type] = ()) -> "Recipe":
        """The recipe from `to_json` of this or an older version; raises RecipeError if it does not
        fit. Classes outside `vidembed` are allowed only if they are among `classes`."""
        return from_json(Recipe, modernised(data), classes=classes)
