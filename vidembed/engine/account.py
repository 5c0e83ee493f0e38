"""What a training accounts for: steps that learnt nothing, checkpoints deleted unmeasured."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax

from vidembed.distributed.agree import of_first_host
from vidembed.engine.recipe import Recipe
from vidembed.workdir.journal import Journal

SOON_STEPS = 10
"""After so many steps without anything to learn from it is said."""
SHOWN = 5


class NothingTrainedError(RuntimeError):
    """No step had anything to learn from, so that the run is not DONE, however far it went."""


class Trained:
    """Whether any step of a run had something to learn from: its measure `trained`, the share of
    the batch that has a gradient, was above 0, or it has no such measure."""

    def __init__(self, recipe: Recipe, journal: Journal, say: Callable[[str], None]) -> None:
        self._recipe, self._journal, self._say = recipe, journal, say
        self._any, self._empty = False, 0

    def see(self, step: int, measures: Mapping[str, Any]) -> None:
        """One more step, which is done."""
        if self._any:
            return
        self._any = "trained" not in measures or bool(jax.device_get(measures["trained"]) > 0)
        self._empty += not self._any
        if self._empty == SOON_STEPS and not self._journal.trained():
            self._say(f"WARNING: {self._nothing(step)}")

    def refuse_nothing(self, step: int) -> None:
        """Raises NothingTrainedError, on every host, where none of `step` steps had anything."""
        nothing = step > 0 and not self._any and not self._journal.trained()
        if of_first_host([int(nothing)])[0]:
            raise NothingTrainedError(f"{self._nothing(step)}. The run is not DONE")

    def _nothing(self, step: int) -> str:
        line = {"step": step, "trained": 0.0}
        why = self._recipe.task.diagnose([line], finished=True).values()
        return "; ".join([f"no step of {step:,} had anything to learn from", *why])


class Pruned:
    """The checkpoints that were deleted before anything measured them."""

    def __init__(self, keep_last: int) -> None:
        self._keep_last, self._steps = keep_last, list[int]()

    def add(self, stale: Collection[int], measured: Collection[int]) -> str:
        """These are deleted; what to say, at the first that was not measured."""
        lost = [step for step in stale if step not in measured]
        first, self._steps = not self._steps, self._steps + lost
        if not lost or not first:
            return ""
        return (
            f"step {lost[0]} is deleted unmeasured, and so is each that leaves the last "
            f"{self._keep_last} (--checkpoints.keep-last): to have all of them measured start "
            "`evaluate --follow` beside the training, or give --evaluate-every"
        )

    def summary(self) -> str:
        """In the end: what was deleted unmeasured, if more than the first."""
        if len(self._steps) < 2:
            return ""
        shown = ", ".join(map(str, self._steps[:SHOWN]))
        shown += f" ... {self._steps[-1]}" if len(self._steps) > SHOWN else ""
        return f"{len(self._steps)} checkpoints were deleted unmeasured: steps {shown}"
