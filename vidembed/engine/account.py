"""Track steps that learnt nothing and checkpoints that were deleted before an evaluation."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax

from vidembed.distributed.agree import of_first_host
from vidembed.engine.recipe import Recipe
from vidembed.workdir.journal import Journal

SOON_STEPS = 10
"""Warn after this many steps without anything to learn from."""
SHOWN = 5


class NothingTrainedError(RuntimeError):
    """No step had anything to learn from, so the run is not DONE, even after its last step."""


class Trained:
    """Tracks whether any step of a run had something to learn from: its measure `trained`, the
    share of the batch that has a gradient, was above 0, or the task has no such measure."""

    def __init__(self, recipe: Recipe, journal: Journal, say: Callable[[str], None]) -> None:
        self._recipe, self._journal, self._say = recipe, journal, say
        self._any, self._empty = False, 0

    def see(self, step: int, measures: Mapping[str, Any]) -> None:
        """Records the measures of a finished step."""
        if self._any:
            return
        self._any = "trained" not in measures or bool(jax.device_get(measures["trained"]) > 0)
        self._empty += not self._any
        if self._empty == SOON_STEPS and not self._journal.trained():
            self._say(f"WARNING: {self._nothing(step)}")

    def refuse_nothing(self, step: int) -> None:
        """Raises NothingTrainedError, on every host, if no step had anything to learn from."""
        nothing = step > 0 and not self._any and not self._journal.trained()
        if of_first_host([int(nothing)])[0]:
            raise NothingTrainedError(f"{self._nothing(step)}. The run is not DONE")

    def _nothing(self, step: int) -> str:
        line = {"step": step, "trained": 0.0}
        reasons = self._recipe.task.diagnose([line], finished=True).values()
        return "; ".join([f"no step of {step:,} had anything to learn from", *reasons])


class Pruned:
    """Tracks checkpoints that were deleted before they were measured."""

    def __init__(self, keep_last: int) -> None:
        self._keep_last, self._steps = keep_last, list[int]()

    def add(self, stale: Collection[int], measured: Collection[int]) -> str:
        """Records deleted steps; returns a message at the first unmeasured one, else ""."""
        lost = [step for step in stale if step not in measured]
        first, self._steps = not self._steps, self._steps + lost
        if not lost or not first:
            return ""
        return (
            f"step {lost[0]} is deleted unmeasured, like each checkpoint older than the last "
            f"{self._keep_last} (--checkpoints.keep-last): to measure them all, run "
            "`evaluate --follow` beside the training, or give --evaluate-every"
        )

    def summary(self) -> str:
        """The steps deleted unmeasured, for the end of the run; "" if fewer than two."""
        if len(self._steps) < 2:
            return ""
        shown = ", ".join(map(str, self._steps[:SHOWN]))
        shown += f" ... {self._steps[-1]}" if len(self._steps) > SHOWN else ""
        return f"{len(self._steps)} checkpoints were deleted unmeasured: steps {shown}"
