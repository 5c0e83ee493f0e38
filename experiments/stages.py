"""Stages of a longer job: each is timed, and recognised when it is already done."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vidembed.progress import Progress
from vidembed.workdir import Workdir


class Stages:
    """Runs stages in a work directory and remembers those that are done, with their seconds.

    A stage is done when its stamp, stages/{name}.json, bears the same key (what the stage was made
    from: options and fingerprints) and its outputs are still there.
    """

    def __init__(self, workdir: Workdir, progress: Progress) -> None:
        self.workdir, self.progress = workdir, progress
        self.seconds: dict[str, float] = {}

    def run(
        self,
        name: str,
        key: dict[str, Any],
        work: Callable[[], Any],
        *,
        outputs: Sequence[Path] = (),
    ) -> Any:
        """What `work()` returned (JSON values), now or when the stage was done before."""
        stamp = self.workdir.path / "stages" / f"{name.replace('/', '-')}.json"
        known = self.workdir.read_json(stamp)
        if known is not None and known["key"] == key and all(path.exists() for path in outputs):
            self.seconds[name] = known["seconds"]
            self.progress.say(f"{name}: done before ({known['seconds']:.1f} s)")
            return known["result"]
        stamp.unlink(missing_ok=True)
        began = time.monotonic()
        with self.progress.stage(name):
            result = work()
        self.seconds[name] = time.monotonic() - began
        record = {"key": key, "seconds": self.seconds[name], "result": result}
        self.workdir.write_json(stamp, record)
        return result
