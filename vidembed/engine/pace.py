"""Measure the speed of training: passes over the data, examples per second, waiting, traces."""

import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from etils import epath

from vidembed.engine.recipe import Recipe
from vidembed.progress import as_bytes, ends_in

WARM_UP_STEPS = 10
"""Steps before a trace begins."""
TIMED_STEPS, TIMED_SECONDS = 3, 2.0
"""Least steps and seconds behind the estimate, after the first step, which includes compilation."""
SHORT_SECONDS = 10.0
"""No estimate if the remaining time is shorter; one step suffices if a step takes this long."""


class Pace:
    """Counts the steps of a run as passes over its data and, after `start`, collects rates and
    events between two lines of the journal. Steps after the last line of a stopped run are not
    counted."""

    def __init__(self, recipe: Recipe, feeds: Sequence[Any]) -> None:
        """feeds: opened feeds, one per phase of the recipe."""
        self._recipe, self._phases = recipe, recipe.resolved_phases
        self._passes = [feed.one_pass for feed in feeds]
        self._first: tuple[float, int] | None = None
        self._estimated = False

    def describe(self) -> tuple[str, ...]:
        """Sentences like "200 steps of 512 triplets are 1.7 passes over 60,000 train relations"."""
        total, lines = self._recipe.steps, []
        every = sum(phase.steps for phase in self._phases)
        for number, (phase, (size, drawn_from)) in enumerate(zip(self._phases, self._passes)):
            steps = total * phase.steps // every
            passes = self._passes_of(number, steps)
            text = f"{passes:.1f}" if passes < 100 else f"{passes:,.0f}"
            lines.append(
                f"{steps:,} steps of {phase.feed.examples:,} {phase.feed.unit} are {text} passes "
                f"over {size:,} {drawn_from}"
            )
        return tuple(lines)

    def start(self, events: Iterable[str] = ()) -> None:
        """Starts counting. events: names of events of a step, such as a batch that needed its large
        form; every line has a count of each."""
        self._events = Counter(dict.fromkeys(events, 0))
        self._begin, self._waited, self._examples = time.monotonic(), 0.0, 0

    def took(self, seconds: float, events: Iterable[str] = ()) -> None:
        """Records the seconds waited for a batch, and its events."""
        self._waited += seconds
        self._events.update(events)

    def did(self, step: int) -> None:
        """Records that `step` updates are done, one more than before."""
        self._examples += self._phases[self._recipe.position(step - 1).phase].feed.examples

    def estimate(self, step: int) -> str:
        """Once, after a few steps: the time of the remaining steps, and the memory used; else "".

        Evaluations and checkpoints are not included. step: finished updates.
        """
        now = time.monotonic()
        began, first = self._first = self._first or (now, step)
        elapsed, steps = now - began, step - first
        enough = TIMED_STEPS if elapsed < SHORT_SECONDS else 1
        if self._estimated or steps < enough or elapsed < TIMED_SECONDS:
            return ""
        self._estimated, left = True, self._recipe.steps - step
        seconds = left * elapsed / steps
        if seconds < SHORT_SECONDS:
            return ""
        return (
            f"{left:,} more steps of {elapsed / steps:.2g} s take about {ends_in(seconds)}"
            f", without evaluations; memory so far: {_memory()}"
        )

    def read(self, step: int) -> dict[str, float]:
        """{unit}_per_second, waiting_share (0 to 1), the count of each event since the last read,
        and the passes of the phase of the last of `step` updates; then resets the counts."""
        seconds = max(time.monotonic() - self._begin, 1e-9)
        phase, done, _ = self._recipe.position(step - 1)
        rates: dict[str, float] = {
            f"{self._phases[phase].feed.unit}_per_second": self._examples / seconds,
            "waiting_share": min(self._waited / seconds, 1.0),
            **self._events,
            "passes": self._passes_of(phase, done + 1),
        }
        if self._recipe.phases:
            rates["phase"] = phase
        self.start(self._events)
        return rates

    def _passes_of(self, phase: int, steps: int) -> float:
        return steps * self._phases[phase].feed.examples / max(self._passes[phase][0], 1)


def _memory() -> str:
    """Peak memory of the process and of a device so far; CPU devices do not report theirs."""
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    used = jax.local_devices()[0].memory_stats() or {}
    text = f"{as_bytes(host)} of this host"
    if peak := used.get("peak_bytes_in_use"):
        limit = used.get("bytes_limit")
        text += f", {as_bytes(peak)} of each device"
        text += f" (of {as_bytes(limit)})" if limit else ""
    return text


class Profile:
    """Traces `steps` steps into `folder`, after WARM_UP_STEPS; 0 traces nothing."""

    def __init__(self, folder: epath.PathLike, *, steps: int) -> None:
        self._folder, self._steps = epath.Path(folder), steps
        self._seen = 0

    def before_step(self) -> None:
        """Starts or ends the trace when due."""
        if self._steps and self._seen == WARM_UP_STEPS:
            jax.profiler.start_trace(str(self._folder))
        if self._steps and self._seen == WARM_UP_STEPS + self._steps:
            jax.profiler.stop_trace()
        self._seen += 1

    def close(self) -> None:
        """Ends a trace that is still open; prints its path, or why there is none."""
        if self._steps and self._seen <= WARM_UP_STEPS:
            print(f"no trace: it starts after {WARM_UP_STEPS} steps, this run had {self._seen}")
        elif self._steps:
            print(f"trace of {self._steps} steps in {self._folder}")
        if self._steps and WARM_UP_STEPS < self._seen <= WARM_UP_STEPS + self._steps:
            jax.profiler.stop_trace()
