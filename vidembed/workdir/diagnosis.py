"""Warnings that a task derives from a run's journal, each shown once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

MOST_LINES = 400
"""When a run has more lines, every second one is dropped."""


class HopelessError(RuntimeError):
    """A running training was stopped, because its task warns that going on has no use."""


class Diagnose(Protocol):
    """A task's `diagnose`."""

    def __call__(
        self, lines: Sequence[Mapping[str, Any]], *, finished: bool
    ) -> Mapping[str, str]: ...


class Diagnosis:
    """Reads the lines of a run and shows the task's warnings."""

    def __init__(
        self,
        diagnose: Diagnose,
        say: Callable[[str], None],
        *,
        steps: int,
        stop_at: Mapping[str, str] | None = None,
    ) -> None:
        """stop_at: names of warnings that stop a running training → how to go on regardless."""
        self._diagnose, self._say, self._steps = diagnose, say, steps
        self._stop_at = stop_at or {}
        self._lines: list[Mapping[str, Any]] = []
        self._said: set[str] = set()
        self.trained = False
        """Whether some line has a training signal, or does not record whether it has."""

    def read(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Read earlier lines, without showing warnings."""
        for line in lines:
            if line.get("kind", "train") == "train":
                self._lines.append(line)
                self.trained = self.trained or line.get("trained", 1.0) != 0
                if len(self._lines) > MOST_LINES:
                    self._lines = self._lines[::2]

    def see(self, line: Mapping[str, Any]) -> None:
        """Read a new line, and show new warnings. Raises HopelessError for one of `stop_at`, unless
        the line is that of the last step."""
        self.read([line])
        for name, message in self.warnings().items():
            if name in self._stop_at and line["step"] < self._steps:
                raise HopelessError(
                    f"{message}. The run is stopped at step {line['step']:,}, and its checkpoints "
                    f"are kept: begin again in another --workdir, or {self._stop_at[name]}"
                )
            if name not in self._said:
                self._said.add(name)
                self._say(f"WARNING: {message}")

    def warnings(self) -> Mapping[str, str]:
        """All warnings about the lines so far, by name."""
        finished = bool(self._lines) and self._lines[-1]["step"] >= self._steps
        return self._diagnose(self._lines, finished=finished)
