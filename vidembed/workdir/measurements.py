"""The results of one evaluator for a run's checkpoints; jobs read them while others write."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import xxhash
from etils import epath

from vidembed import files
from vidembed.distributed.agree import is_first_host
from vidembed.progress import heartbeat
from vidembed.records.scores_file import PerQuery, Scores, read_scores, write_scores
from vidembed.workdir.lease import this_process

TRAINED = "trained"
"""Name of the system in a checkpoint's results."""
BASELINES = "baselines"
"""Name of the results of baselines, measured once."""

# After this silence an evaluation job is considered gone, and the trainer stops waiting for it.
FOLLOWER_STALE_SECONDS = 900.0
_FOLLOWER_BEAT_SECONDS = 20.0


def evaluator_name(identity: Mapping[str, Any]) -> str:
    """The folder name of an evaluator: its class, and a digest of its `identity`."""
    text = json.dumps(identity, sort_keys=True)
    return f"{identity['class']}-{xxhash.xxh32_hexdigest(text.encode())}"


class Measurements:
    """The folder of one evaluator, WORKDIR/evaluation/EVALUATOR.

    {step}.json         the results of a checkpoint
    {step}.parquet      the same per query; see `scores_file`
    baselines.json,     results without training: raw features, popularity, chance
    baselines.parquet
    best.json           the checkpoint with the highest selection metric of this evaluator
    follower.json       exists while an evaluation job with this evaluator is attached
    """

    def __init__(self, folder: epath.PathLike) -> None:
        self.folder = epath.Path(folder)
        self._best_file = self.folder / "best.json"
        self._follower_file = self.folder / "follower.json"

    def read(self, of: int | str) -> dict[str, Any] | None:
        """The results of a checkpoint or of BASELINES, or None if not measured."""
        needed = ("systems", "fingerprints") if of == BASELINES else ("scores",)
        return files.read_record(self.folder / f"{of}.json", needed, "of an evaluation")

    def read_per_query(self, step: int) -> Mapping[str, PerQuery] | None:
        """Direction → metrics of each query; None for a step not measured, or measured by a version
        without results per query."""
        try:
            return read_scores(self.folder / f"{step}.parquet").get(TRAINED, {})
        except FileNotFoundError:
            return None

    def write(self, of: int | str, record: Mapping[str, Any], per_query: Scores) -> None:
        """Store results; from then on a checkpoint counts as measured.

        Two jobs may write BASELINES at the same time, with the same content.
        """
        write_scores(self.folder / f"{of}.parquet", per_query)
        files.write_json(self.folder / f"{of}.json", record)

    def steps(self) -> set[int]:
        """The measured checkpoints."""
        try:
            names = [path.name.removesuffix(".json") for path in self.folder.iterdir()]
        except FileNotFoundError:
            return set()
        return {int(name) for name in names if name.isdecimal()}

    def pin(self, step: int, metric: str, value: float) -> None:
        """Set the best checkpoint, which the trainer then never deletes."""
        files.write_json(self._best_file, {"step": step, "metric": metric, "value": value})

    def best(self) -> dict[str, Any] | None:
        """{"step", "metric", "value"} of the best checkpoint, or None before any is measured."""
        needed = ("step", "metric", "value")
        return files.read_record(self._best_file, needed, "of an evaluation")

    @contextlib.contextmanager
    def attach_follower(self) -> Iterator[None]:
        """Inside the block, the trainer deletes no checkpoint that is not measured here yet."""
        if not is_first_host():
            yield
            return
        me = this_process()

        def beat() -> None:
            files.write_json(self._follower_file, {**me, "beat": time.time()})

        try:
            beat()
            with heartbeat(beat, _FOLLOWER_BEAT_SECONDS):
                yield
        finally:
            # A second job may have attached meanwhile.
            if (files.read_json(self._follower_file) or me).items() >= me.items():
                self._follower_file.unlink(missing_ok=True)

    def followed(self) -> bool:
        """Whether an evaluation job is attached.

        A killed job counts as attached until it has been silent for FOLLOWER_STALE_SECONDS, which
        leaves time to start it again.
        """
        follower = files.read_record(self._follower_file, ("beat",), "of an evaluation")
        return follower is not None and time.time() - follower["beat"] <= FOLLOWER_STALE_SECONDS
