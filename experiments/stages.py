"""Stages of a longer job: each is timed, and recognised when it is already done."""

import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vidembed.progress import Progress, Stage
from vidembed.workdir import Workdir


class Stages:
    """Runs stages in a work directory and remembers those that are done, with what they took.

    A stage is done when its stamp, stages/{name}.json, bears the same key (what the stage was made
    from: options and fingerprints) and its outputs are still there.
    """

    def __init__(self, workdir: Workdir, progress: Progress) -> None:
        self.workdir, self.progress = workdir, progress
        self.seconds: dict[str, float] = {}
        self.peak_memory_bytes = 0

    def run(
        self,
        name: str,
        key: dict[str, Any],
        work: Callable[[Stage], Any],
        *,
        outputs: Sequence[Path] = (),
    ) -> Any:
        """What `work(stage)` returned (JSON values), now or when the stage was done before."""
        stamp = self.workdir.path / "stages" / f"{name.replace('/', '-')}.json"
        known = self.workdir.read_json(stamp)
        if known is None or known["key"] != key or not all(path.exists() for path in outputs):
            stamp.unlink(missing_ok=True)
            began = time.monotonic()
            with self.progress.stage(name) as stage:
                result = work(stage)
            known = {
                "key": key,
                "seconds": time.monotonic() - began,
                # Of the process until now; where stages were run apart, the largest counts.
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "result": result,
            }
            self.workdir.write_json(stamp, known)
        else:
            self.progress.say(f"{name}: done before ({known['seconds']:.1f} s)")
        self.seconds[name] = known["seconds"]
        self.peak_memory_bytes = max(self.peak_memory_bytes, known["peak_memory_bytes"])
        return known["result"]
