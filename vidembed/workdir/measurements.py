"""What one evaluator measured of a run's checkpoints; jobs read it while others write."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import xxhash
from etils import epath

from vidembed import files
from vidembed.distributed.agree import is_first_host
from vidembed.records.scores_file import PerQuery, Scores, read_scores, write_scores
from vidembed.workdir.lease import heartbeat, this_process

TRAINED = "trained"
"""The system that a checkpoint's results are of."""
BASELINES = "baselines"
"""What is measured beside the checkpoints, once."""

# An evaluation job that is silent for so long is gone, and the trainer waits for it no more.
FOLLOWER_STALE_SECONDS = 900.0
_FOLLOWER_BEAT_SECONDS = 20.0


def evaluator_name(identity: Mapping[str, Any]) -> str:
    """The folder of an evaluator: its class, and a digest of all that its `identity` tells."""
    text = json.dumps(identity, sort_keys=True)
    return f"{identity['class']}-{xxhash.xxh32_hexdigest(text.encode())}"


class Measurements:
    """The folder of one evaluator, WORKDIR/evaluation/EVALUATOR; another one has another folder.

    {step}.json         what was measured of a checkpoint
    {step}.parquet      the same for each query; see `scores_file`
    baselines.json,     what needs no training: raw features, popularity, chance
    baselines.parquet
    best.json           the checkpoint with the highest selection number of this evaluator
    follower.json       while an evaluation job with this evaluator is attached
    """

    def __init__(self, folder: epath.PathLike) -> None:
        self.folder = epath.Path(folder)
        self._best_file = self.folder / "best.json"
        self._follower_file = self.folder / "follower.json"

    def read(self, of: int | str) -> dict[str, Any] | None:
        """What was measured of a checkpoint or of BASELINES, or None if it was not."""
        needed = ("systems", "fingerprints") if of == BASELINES else ("scores",)
        return files.read_record(self.folder / f"{of}.json", needed, "of an evaluation")

    def read_per_query(self, step: int) -> Mapping[str, PerQuery] | None:
        """Direction → metrics of each query; None for a step that was not measured, or was before
        results were kept per query."""
        try:
            return read_scores(self.folder / f"{step}.parquet").get(TRAINED, {})
        except FileNotFoundError:
            return None

    def write(self, of: int | str, record: Mapping[str, Any], per_query: Scores) -> None:
        """Stores what was measured; from then on a checkpoint counts as measured.

        Two jobs may write BASELINES at the same time: they write the same.
        """
        write_scores(self.folder / f"{of}.parquet", per_query)
        files.write_json(self.folder / f"{of}.json", record)

    def steps(self) -> set[int]:
        """The checkpoints that are measured."""
        try:
            names = [path.name.removesuffix(".json") for path in self.folder.iterdir()]
        except FileNotFoundError:
            return set()
        return {int(name) for name in names if name.isdecimal()}

    def pin(self, step: int, metric: str, value: float) -> None:
        """Names the best checkpoint; the trainer never deletes it while it is."""
        files.write_json(self._best_file, {"step": step, "metric": metric, "value": value})

    def best(self) -> dict[str, Any] | None:
        """{"step", "metric", "value"} of the best checkpoint, or None before any is measured."""
        needed = ("step", "metric", "value")
        return files.read_record(self._best_file, needed, "of an evaluation")

    @contextlib.contextmanager
    def attach_follower(self) -> Iterator[None]:
        """While inside, the trainer deletes no checkpoint that is not measured here yet."""
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
            # A second job may have attached itself meanwhile.
            if (files.read_json(self._follower_file) or me).items() >= me.items():
                self._follower_file.unlink(missing_ok=True)

    def followed(self) -> bool:
        """Whether an evaluation job is attached.

        One that was killed counts as attached until it has been silent for
        FOLLOWER_STALE_SECONDS, so that it may be started again.
        """
        follower = files.read_record(self._follower_file, ("beat",), "of an evaluation")
        return follower is not None and time.time() - follower["beat"] <= FOLLOWER_STALE_SECONDS
