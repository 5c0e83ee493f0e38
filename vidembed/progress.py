"""Progress on the terminal: stages of work, the training line, remarks."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import rich.console
import rich.progress


class Stage:
    """A stage of work; `update` reports its progress."""

    def __init__(self, progress: "Progress", name: str, total: int | None, unit: str):
        self.name, self.total, self.unit = name, total, unit
        self.done = 0
        self._progress = progress
        self._start = time.monotonic()
        self._shown = self._start
        self._bar = progress._open_bar(name, total)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def update(
        self, done: int, total: int | None = None, *, note: str = "", show: bool = False
    ) -> None:
        """Report that `done` units of `total` are finished.

        note: further text to show. show: write the plain line even if one was written just now.
        """
        self.done = done
        self.total = self.total if total is None else total
        now = time.monotonic()
        live = self._progress._live
        if self._bar is not None and live is not None:
            live.update(self._bar, completed=done, total=self.total, note=note)
        elif show or now - self._shown >= self._progress.line_seconds:
            self._shown = now
            self._progress.say(f"{self.name}: {self._count()}, {note or f'{self.seconds:.0f} s'}")

    def _count(self) -> str:
        count = f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,}"
        return f"{count} {self.unit}".strip()


class Progress:
    """Writes to the terminal: progress bars on a tty, else plain lines at a bounded rate.

    quiet: print nothing (hosts other than the first).
    line_seconds: minimum time between two plain lines of one stage.
    heartbeat_seconds: if nothing was printed for this long while a stage is open, print that it is
        still running; checked at every half of it.
    """

    def __init__(
        self,
        *,
        console: rich.console.Console | None = None,
        quiet: bool = False,
        line_seconds: float = 10.0,
        heartbeat_seconds: float = 20.0,
    ):
        self.console = console or rich.console.Console(quiet=quiet)
        self.line_seconds = line_seconds
        self.heartbeat_seconds = heartbeat_seconds
        self._live: rich.progress.Progress | None = None
        self._stages: list[Stage] = []
        self._said = time.monotonic()

    def say(self, message: str) -> None:
        """Print a remark, above any bar."""
        self._said = time.monotonic()
        # No emoji: rich would turn part of `visual:v:8` into a hand.
        self.console.print(message, markup=False, highlight=False, soft_wrap=True, emoji=False)

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        """Print the start, progress and duration of a stage of work.

        total: the number of `unit`s, if known. Stages may be nested.
        """
        stage = Stage(self, name, total, unit)
        if stage._bar is None:
            self.say(f"{name} ...")
        try:
            with self._watched(stage):
                yield stage
        except BaseException:
            self._close_bar(stage._bar)
            self.say(f"{name}: stopped after {stage.seconds:.1f} s")
            raise
        self._close_bar(stage._bar)
        count = f"{stage._count()}, " if stage.done else ""
        self.say(f"{name}: {count}{stage.seconds:.1f} s")

    @contextlib.contextmanager
    def _watched(self, stage: Stage) -> Iterator[None]:
        """Report a stage during which nothing is printed for a while. Bars show the time."""
        with contextlib.ExitStack() as watching:
            if not self._stages and not self.console.quiet and stage._bar is None:
                watching.enter_context(heartbeat(self._beat, self.heartbeat_seconds / 2))
            self._stages.append(stage)
            try:
                yield
            finally:
                self._stages.remove(stage)

    def _beat(self) -> None:
        for stage in self._stages[-1:]:
            if time.monotonic() - self._said >= self.heartbeat_seconds:
                count = f"{stage._count()}, " if stage.done or stage.total else ""
                self.say(f"{stage.name}: {count}{stage.seconds:.0f} s so far")

    def _open_bar(self, name: str, total: int | None) -> rich.progress.TaskID | None:
        if not self.console.is_terminal or self.console.quiet:
            return None
        if self._live is None:
            self._live = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}", markup=False),
                rich.progress.BarColumn(bar_width=24),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TextColumn("{task.fields[note]}", markup=False),
                console=self.console,
                transient=True,
                refresh_per_second=4,
            )
            self._live.start()
        return self._live.add_task(name, total=total, note="")

    def _close_bar(self, bar: rich.progress.TaskID | None) -> None:
        if bar is None or self._live is None:
            return
        self._live.remove_task(bar)
        if not self._live.tasks:
            self._live.stop()
            self._live = None


@contextlib.contextmanager
def heartbeat(beat: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `beat` every `seconds` from a separate thread until the block ends."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            # A single failure, from a full disk or from an object-storage client with its own
            # exceptions, must not end the heartbeat.
            with contextlib.suppress(Exception):
                beat()

    thread = threading.Thread(target=run, daemon=True, name="vidembed heartbeat")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def ends_in(seconds: float) -> str:
    """The remaining time and the time of day at its end, such as "0:03:20 (14:05)"."""
    left = timedelta(seconds=round(seconds))
    return f"{left} ({datetime.now() + left:%H:%M})"


def as_bytes(count: float) -> str:
    """A number of bytes for people."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} bytes"
