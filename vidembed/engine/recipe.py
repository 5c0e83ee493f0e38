"""A recipe: everything that decides what a run computes, as one frozen tree of parts."""

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
class Phase:
    """Some steps in which a run draws, learns and updates in one way."""

    steps: int
    """Steps until the next phase; after the last the first comes again."""
    feed: FeedOptions | None = None
    """Where batches come from; None is the recipe's."""
    optimiser: Optimiser | None = None
    """How parameters are updated; None is the recipe's. Its state and its learning rate go by the
    steps of this phase alone."""
    learns: tuple[str, ...] = ()
    """Names of the parameters that learn, or of what they are below; none: as the recipe says."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a phase has 1 step or more, found {self.steps}")


class ResolvedPhase(NamedTuple):
    """A phase with nothing left to the recipe."""

    steps: int
    feed: FeedOptions
    optimiser: Optimiser
    learns: tuple[str, ...]


class Position(NamedTuple):
    """Where a step lies in a run."""

    phase: int
    done: int
    """Steps of this phase before."""
    left: int
    """Steps until another phase begins."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to learn from, what to learn, how, how long and where."""

    corpus: CorpusOptions
    task: Task
    feed: FeedOptions
    optimiser: Optimiser = Optimiser()
    learns: tuple[str, ...] = ()
    """Names of the parameters that learn, or of what they are below (towers/0); none are all."""
    phases: tuple[Phase, ...] = ()
    """What is done in turn, over and over; none: every step as the fields above say."""
    init_from: str = ""
    """Begin with the parameters of another run, RUN or RUN@STEP. STEP is a number, latest (the
    default) or best; the parameters are taken by name and shape."""
    init_partial: bool = False
    """Begin from a run that lacks some of the parameters, which are then drawn anew, or has
    others."""
    checkpoints: Annotated[Retention, TUNABLE] = Retention()
    mesh: Annotated[MeshShape, TUNABLE] = MeshShape()
    steps: Annotated[int, TUNABLE] = 200_000
    """Training steps in all, of one batch each. A step is an update unless several batches are
    accumulated."""
    seed: int = 0
    """Seed of parameters, batches and dropout."""
    log_every: Annotated[int, TUNABLE] = 100
    """Steps between lines of metrics.jsonl."""
    evaluate_every: Annotated[int, TUNABLE] = 0
    """Steps between evaluations by the training itself; 0 leaves them to the evaluation job. The
    last step is evaluated, too."""
    profile_steps: Annotated[int, TUNABLE] = 0
    """Trace this many steps, after ten to warm up, into WORKDIR/profile; 0 is none."""

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
        for phase in self.resolved_phases:
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
            if phase.optimiser.average_decay not in (None, self.optimiser.average_decay):
                raise ValueError(
                    "the average of the parameters is kept over all phases: set average_decay on "
                    "the recipe's optimiser"
                )

    @property
    def resolved_phases(self) -> tuple[ResolvedPhase, ...]:
        """The phases; where the recipe names none, itself as the only one."""
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
        """Where `step`, from 0, lies; it depends on nothing else."""
        if not self.phases:
            return Position(phase=0, done=step, left=self.steps - step)
        ends = list(accumulate(phase.steps for phase in self.phases))
        rounds, rest = divmod(step, ends[-1])
        number = bisect_right(ends, rest)
        steps, left = self.phases[number].steps, ends[number] - rest
        return Position(number, done=(rounds + 1) * steps - left, left=left)

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values, class names included."""
        return to_json(self)

    @staticmethod
    def from_json(data: dict[str, Any], classes: Collection[type] = ()) -> "Recipe":
        """The recipe that `to_json` wrote, today or before; raises RecipeError where it does not
        fit. Classes outside `vidembed` are built if they are among `classes`."""
        return from_json(Recipe, modernised(data), classes=classes)
