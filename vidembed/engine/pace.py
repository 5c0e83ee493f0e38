"""How fast a training goes: passes over its data, examples a second, waiting, and a trace."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import jax
from etils import epath

from vidembed.corpora.watched import Corpus

WARM_UP_STEPS = 10
"""Before a trace."""


class Pace:
    """Steps of a feed as passes over a corpus; from `start` on also what happens between two lines
    of the journal. What came after the last line of a run that was stopped is not counted."""

    def __init__(self, feed: Any, corpus: Corpus) -> None:
        """feed: the recipe's."""
        self._unit, self._batch = feed.unit, feed.examples
        self._pass, self._drawn_from = feed.one_pass(corpus)

    def describe(self, steps: int) -> str:
        """A sentence: 200 steps of 512 triplets are 1.7 passes over 60,000 train relations."""
        passes = self._passes(steps)
        number = f"{passes:.1f}" if passes < 100 else f"{passes:,.0f}"
        return (
            f"{steps:,} steps of {self._batch:,} {self._unit} are {number} passes over "
            f"{self._pass:,} {self._drawn_from}"
        )

    def start(self, events: Iterable[str] = ()) -> None:
        """Counts from now on. events: names of what may happen to a step, such as a batch that
        needed its large form; each is in every line."""
        self._events = Counter(dict.fromkeys(events, 0))
        self._begin, self._waited, self._steps = time.monotonic(), 0.0, 0

    def took(self, seconds: float, events: Iterable[str] = ()) -> None:
        """So long was waited for a batch, and these events happened to it."""
        self._waited += seconds
        self._events.update(events)

    def did(self) -> None:
        """One more step was done."""
        self._steps += 1

    def read(self, step: int) -> dict[str, float]:
        """{unit}_per_second, waiting_share (0 to 1), the count of each event since the last read,
        and the passes after `step`; starts anew."""
        seconds = max(time.monotonic() - self._begin, 1e-9)
        rates: dict[str, float] = {
            f"{self._unit}_per_second": self._steps * self._batch / seconds,
            "waiting_share": min(self._waited / seconds, 1.0),
            **self._events,
            "passes": self._passes(step),
        }
        self.start(self._events)
        return rates

    def _passes(self, steps: int) -> float:
        return steps * self._batch / max(self._pass, 1)


class Profile:
    """Traces `steps` steps into `folder`, after some to warm up; 0 traces nothing."""

    def __init__(self, folder: epath.PathLike, *, steps: int) -> None:
        self._folder, self._steps = epath.Path(folder), steps
        self._seen = 0

    def before_step(self) -> None:
        """Starts or ends the trace where it is time to."""
        if self._steps and self._seen == WARM_UP_STEPS:
            jax.profiler.start_trace(str(self._folder))
        if self._steps and self._seen == WARM_UP_STEPS + self._steps:
            jax.profiler.stop_trace()
        self._seen += 1

    def close(self) -> None:
        """Ends a trace that is still open; says where it is, or why there is none."""
        if self._steps and self._seen <= WARM_UP_STEPS:
            print(f"no trace: it starts after {WARM_UP_STEPS} steps, {self._seen} were made")
        elif self._steps:
            print(f"trace of {self._steps} steps in {self._folder}")
        if self._steps and WARM_UP_STEPS < self._seen <= WARM_UP_STEPS + self._steps:
            jax.profiler.stop_trace()
