"""The journal of a run: metrics.jsonl, TensorBoard events, the progress line on the terminal."""

import contextlib
import json
import math
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from vidembed import files
from vidembed.distributed.agree import is_first_host
from vidembed.progress import Progress, Stage, ends_in
from vidembed.records.framing import frame
from vidembed.workdir.diagnosis import Diagnose, Diagnosis
from vidembed.workdir.layout import Workdir

_UPLOAD_SECONDS = 30.0
"""Time between flushes of TensorBoard's events, and between uploads to remote storage."""


class Journal:
    """Records the progress of a training run, on the first host only.

    with Journal(workdir, total_steps, resumed_from=k) as journal: lines after step k, left by a
    killed run, are cut, so that no step appears twice; TensorBoard discards them too.

    metrics.jsonl holds one JSON object per line: kind ("train", "evaluation" ...), step, time
    (seconds since 1970) and the measures; NaN and infinities as null. A local file is flushed
    after each line. Remote storage cannot append: there the files are written whole, at most every
    30 seconds and at the end. A failed write, for example on a full disk, raises OSError with the
    file's name, but never hides another exception that ended the block. Warnings from `diagnose`, a
    task's, are shown once, or raise HopelessError if they are among `stop_at`; see `Diagnosis`.
    show_loss: whether the terminal shows the loss; the file always has it.
    """

    def __init__(
        self,
        workdir: Workdir,
        total_steps: int,
        *,
        resumed_from: int = 0,
        progress: Progress | None = None,
        diagnose: Diagnose = lambda lines, *, finished: {},
        show_loss: bool = True,
        stop_at: Mapping[str, str] | None = None,
    ):
        self.workdir = workdir
        self.total_steps = total_steps
        self._first_host = is_first_host()
        self.progress = progress or Progress(quiet=not self._first_host)
        self._resumed_from, self._show_loss = resumed_from, show_loss
        self._diagnosis = Diagnosis(diagnose, self.progress.say, steps=total_steps, stop_at=stop_at)
        self._logged: set[tuple[str, int]] = set()
        self._stack = contextlib.ExitStack()
        self._training: Stage | None = None
        self._begin: tuple[float, int] | None = None

    def __enter__(self) -> "Journal":
        if not self._first_host:
            return self
        self._remote = files.is_remote(self.workdir.path)
        lines = self._kept_lines()
        with self._writing(), contextlib.ExitStack() as opened:
            if self._remote:
                self._folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            else:
                self._folder = Path(self.workdir.path)
            files.write_text(self._folder / "metrics.jsonl", "".join(lines))
            self._file = opened.enter_context(
                open(self._folder / "metrics.jsonl", "a", encoding="utf-8")
            )
            purge_step = self._resumed_from + 1 if self._resumed_from else 0
            events = Events(self._folder / "events", purge_step=purge_step)
            self._events = opened.enter_context(contextlib.closing(events))
            self._stack = opened.pop_all()
        self._flushed = time.monotonic()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if not self._first_host:
            return
        # The caller must see the exception that ended the block.
        hidden = contextlib.suppress(OSError) if kind else contextlib.nullcontext()
        with hidden, self._writing(), self._stack:
            self._flush(force=True)

    def log(self, step: int, measures: Mapping[str, Any], *, kind: str = "train") -> None:
        """Write the measures (scalars, on host or device) after `step` updates.

        kind "train" also updates the line on the terminal, which shows "loss", the first measure
        that ends in "_per_second" and "waiting_share" if the measures include them. A step already
        in the file is not written again: exact resuming would write the same values.
        """
        if not self._first_host or (kind, step) in self._logged:
            return
        self._logged.add((kind, step))
        values = {name: _plain(value) for name, value in jax.device_get(dict(measures)).items()}
        line = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        with self._writing():
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._events.add(f"{kind}/{name}", value, step)
            self._flush()
        if kind == "train":
            self._show(step, values)
            self._diagnosis.see(line)

    def trained(self) -> bool:
        """Whether some line, from this start or earlier, has a training signal."""
        return self._diagnosis.trained

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Show the progress of the training loop inside this block."""
        with self.progress.stage("training", self.total_steps, "steps") as stage:
            stage.done = self._resumed_from
            self._training = stage
            try:
                yield
            finally:
                self._training = None

    def reached(self, step: int) -> None:
        """Set the current step, whether or not it is logged."""
        if self._training is not None:
            self._training.done = step

    def _show(self, step: int, values: dict[str, Any]) -> None:
        if self._training is None:
            return
        now = time.monotonic()
        first = self._begin is None
        # The first logged step includes compilation; the pace is that of the steps after it.
        begin, first_step = self._begin = self._begin or (now, step)
        parts = []
        if self._show_loss and isinstance(values.get("loss"), float):
            parts.append(f"loss {values['loss']:.4f}")
        for name, value in values.items():
            if name.endswith("_per_second"):
                parts.append(f"{value:,.0f} {name.removesuffix('_per_second')}/s")
                break
        if "waiting_share" in values:
            parts.append(f"waiting for data {values['waiting_share']:.0%}")
        if step > first_step:
            pace = (now - begin) / (step - first_step)
            parts.append(ends_in(pace * (self.total_steps - step)))
        last = step >= self.total_steps
        self._training.update(step, note=", ".join(parts), show=first or last)

    def _kept_lines(self) -> list[str]:
        """The lines up to the step resumed from, without lines truncated by a kill."""
        try:
            text = self.workdir.metrics_file.read_text()
        except FileNotFoundError:
            return []
        lines = []
        for line in text.splitlines():
            try:
                record = json.loads(line)
                step, kind = record["step"], record["kind"]
            except (ValueError, KeyError, TypeError):
                continue
            if 0 < self._resumed_from >= step:
                lines.append(line + "\n")
                self._diagnosis.read([record])
                self._logged.add((kind, step))
        return lines

    def _flush(self, *, force: bool = False) -> None:
        """Make the written data visible to readers, at bounded intervals."""
        if not force and time.monotonic() - self._flushed <= _UPLOAD_SECONDS:
            return
        self._flushed = time.monotonic()
        self._events.flush()
        if not self._remote:
            return
        for file in [self._folder / "metrics.jsonl", *(self._folder / "events").iterdir()]:
            name = file.relative_to(self._folder)
            files.write_bytes(self.workdir.path / name, file.read_bytes())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Add the file and a remedy to the system's errors, such as a full disk."""
        try:
            yield
        except OSError as error:
            place = error.filename or self.workdir.metrics_file
            why = os.strerror(error.errno) if error.errno else str(error)
            remedy = "free some space" if files.is_full(error) else "correct that"
            why += f": the journal cannot be written; {remedy} and start again, which resumes from "
            why += "the newest checkpoint"
            raise OSError(error.errno or 0, why, str(place)) from error


def _plain(value: Any) -> Any:
    """Convert a number for JSON (None for NaN and infinities); return other values unchanged."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.item() if value.size == 1 else value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Events:
    """Writes one new file of TensorBoard scalars in a local folder, in the calling thread.

    TensorBoard ignores events from `purge_step` on in older files. A failed write raises OSError,
    at the latest in `flush`. (tensorboardX's own writer uses a thread, which ends silently if it
    cannot write, for example on a full disk; its queue then fills, and the run hangs.)
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._file = (folder / f"{name}.{uuid.uuid4().hex[:8]}").open("wb")
        self._write(file_version="brain.Event:2")
        self._write(purge_step, session_log=SessionLog(status=SessionLog.START))

    def add(self, name: str, value: float, step: int) -> None:
        """Add the value of a scalar after `step` updates."""
        self._write(step, summary=scalar(name, value))

    def flush(self) -> None:
        """Make added events visible to readers."""
        self._file.flush()

    def close(self) -> None:
        """Write the remaining events and close the file, even if the write fails."""
        self._file.close()

    def _write(self, step: int = 0, **fields: object) -> None:
        event = Event(wall_time=time.time(), step=step, **fields)
        self._file.write(frame(event.SerializeToString()))
