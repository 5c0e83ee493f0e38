"""A run on disk: what lies where, whose it is, and what it was started with."""

import contextlib
import json
import time
from collections.abc import Collection, Iterator
from typing import Any

from etils import epath

from vidembed import storage
from vidembed.hosts import is_first_host, together
from vidembed.lease import Heartbeat, Lease, LeaseHeldError, this_process

# An evaluation job that is silent for so long is gone, and the trainer waits for it no more.
FOLLOWER_STALE_SECONDS = 900.0
_FOLLOWER_BEAT_SECONDS = 20.0


class RecipeChangedError(ValueError):
    """A run is to be resumed with another model, other data or another seed."""


class Workdir:
    """The folder of one run, local or remote (gs://); jobs meet only here.

    recipe.json       what the run was started with, and what was changed since
    metrics.jsonl     one line a logged step; events/ the same for TensorBoard
    checkpoints/      one folder a step
    evaluation/       {step}.json a measured checkpoint, best.json the pinned ones,
                      follower.json while an evaluation job is attached
    lease.json        the process that trains here, while it does
    DONE              the last step, once its checkpoint is durable
    report.html, report files of later jobs
    """

    def __init__(self, path: epath.PathLike):
        self.path = epath.Path(path)
        self.recipe_file = self.path / "recipe.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.events = self.path / "events"
        self.checkpoints = self.path / "checkpoints"
        self.evaluation = self.path / "evaluation"
        self.lease_file = self.path / "lease.json"
        self.done_file = self.path / "DONE"
        self.report_file = self.path / "report.html"
        self._best_file = self.evaluation / "best.json"
        self._follower_file = self.evaluation / "follower.json"

    def __str__(self) -> str:
        return str(self.path)

    def create(self) -> None:
        """Makes the folders, where they are missing."""
        for folder in (self.path, self.checkpoints, self.evaluation):
            folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def lease(self, *, steal: bool = False) -> Iterator[Lease]:
        """Holds the work directory for this run; see `Lease`. The first host holds it for all.

        Raises LeaseHeldError, on every host, when another run has it.
        """
        lease = Lease(self.lease_file)
        with contextlib.ExitStack() as stack:

            def enter() -> None:
                if is_first_host():
                    self.create()
                    stack.enter_context(lease.held(steal=steal))

            together(enter, LeaseHeldError)
            yield lease

    def claim_recipe(
        self,
        recipe: dict[str, Any],
        fingerprints: dict[str, str],
        *,
        tunable: Collection[str] = (),
    ) -> list[str]:
        """Stores what a run is started with, or compares it with what is stored.

        recipe: the recipe's JSON form. fingerprints: a name and a digest for each input, such as
        table, graph. tunable: dotted paths (or beginnings of them) of the fields that may change.
        Returns a line for each tunable field that changed, "steps: 100 -> 200"; they are recorded
        in recipe.json. Raises RecipeChangedError, listing every other difference.
        """
        # As JSON gives it back: tuples are lists, keys are text.
        recipe = json.loads(json.dumps(recipe))
        stored = self.read_json(self.recipe_file)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        if stored is None:
            if is_first_host():
                new = {"started": now, "recipe": recipe, "fingerprints": fingerprints}
                self.write_json(self.recipe_file, {**new, "history": []})
            return []
        changes = _differences(stored["recipe"], recipe)
        frozen = [path for path in changes if not _under(path, tunable)]
        data = _differences(stored["fingerprints"], fingerprints)
        if frozen or data:
            lines = [f"{path}: {changes[path]}" for path in frozen]
            lines += [f"data, {name}: {change}" for name, change in data.items()]
            raise RecipeChangedError(
                f"{self.path} was started with another recipe (stored -> wanted):\n  "
                + "\n  ".join(lines)
                + "\nA run resumes only with the model, data and seed that it was started with. "
                "Use these again, or start a new run in another --workdir."
            )
        lines = [f"{path}: {change}" for path, change in changes.items()]
        if lines and is_first_host():
            history = [*stored["history"], {"time": now, "changes": lines}]
            self.write_json(self.recipe_file, {**stored, "recipe": recipe, "history": history})
        return lines

    def read_recipe(self) -> dict[str, Any] | None:
        """recipe.json ("recipe", "fingerprints", "history"), or None before the run started."""
        return self.read_json(self.recipe_file)

    def mark_done(self, step: int) -> None:
        """Tells the other jobs that `step` is durable and is the last."""
        self.write_json(self.done_file, {"step": step})

    def clear_done(self) -> None:
        """Training goes on (more steps than before)."""
        self.done_file.unlink(missing_ok=True)

    def done(self) -> int | None:
        """The last step of a finished run, or None while it goes on."""
        record = self.read_json(self.done_file)
        return None if record is None else record["step"]

    def evaluation_file(self, step: int) -> epath.Path:
        """Where the measures of a checkpoint are."""
        return self.evaluation / f"{step}.json"

    def measured_steps(self) -> set[int]:
        """The checkpoints that an evaluation job has measured."""
        if not self.evaluation.exists():
            return set()
        names = (path.name.removesuffix(".json") for path in self.evaluation.iterdir())
        return {int(name) for name in names if name.isdecimal()}

    def pin(self, step: int, metric: str, value: float) -> None:
        """Names the best checkpoint by a metric; the trainer never deletes it while it is."""
        best = self.best() | {metric: {"step": step, "value": value}}
        self.write_json(self._best_file, best)

    def best(self) -> dict[str, dict[str, Any]]:
        """Metric -> {"step", "value"} of the checkpoint that is best by it."""
        return self.read_json(self._best_file) or {}

    def pinned(self) -> set[int]:
        """The steps that are best by some metric."""
        return {record["step"] for record in self.best().values()}

    @contextlib.contextmanager
    def attach_follower(self) -> Iterator[None]:
        """While inside, the trainer deletes no checkpoint that is not measured yet."""
        if not is_first_host():
            yield
            return
        me = this_process()

        def beat() -> None:
            self.write_json(self._follower_file, {**me, "beat": time.time()})

        beat()
        try:
            with Heartbeat(beat, _FOLLOWER_BEAT_SECONDS):
                yield
        finally:
            # A second job may have attached itself meanwhile.
            if (self.read_json(self._follower_file) or me).items() >= me.items():
                self._follower_file.unlink(missing_ok=True)

    def awaited_measurements(self) -> set[int] | None:
        """The measured steps while an evaluation job is attached (for `prune`), else None.

        A job that was killed counts as attached until it has been silent for
        FOLLOWER_STALE_SECONDS, so that it may be started again.
        """
        follower = self.read_json(self._follower_file)
        if follower is None or time.time() - follower["beat"] > FOLLOWER_STALE_SECONDS:
            return None
        return self.measured_steps()

    def write_json(self, path: epath.PathLike, value: Any) -> None:
        """Writes a file that readers see whole or not at all; NaN is refused, as JSON does."""
        storage.write_json(path, value)

    def read_json(self, path: epath.PathLike) -> Any:
        """What `write_json` wrote, or None if there is no such file."""
        return storage.read_json(path)


def _differences(stored: Any, wanted: Any, path: str = "") -> dict[str, str]:
    """Dotted path -> "stored -> wanted" wherever two JSON values differ."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        found: dict[str, str] = {}
        for key in [*stored, *(key for key in wanted if key not in stored)]:
            below = f"{path}.{key}" if path else key
            found |= _differences(stored.get(key, _ABSENT), wanted.get(key, _ABSENT), below)
        return found
    if isinstance(stored, list) and isinstance(wanted, list) and len(stored) == len(wanted):
        found = {}
        for index, (old, new) in enumerate(zip(stored, wanted, strict=True)):
            found |= _differences(old, new, f"{path}.{index}" if path else str(index))
        return found
    if stored == wanted and isinstance(stored, bool) == isinstance(wanted, bool):
        return {}
    return {path: f"{_shown(stored)} -> {_shown(wanted)}"}


_ABSENT = object()


def _shown(value: Any) -> str:
    return "(absent)" if value is _ABSENT else json.dumps(value)


def _under(path: str, prefixes: Collection[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)
