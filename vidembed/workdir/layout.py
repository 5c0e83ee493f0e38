"""A run on disk: what lies where, whose it is, and what it was started with."""

import contextlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from etils import epath

from vidembed import files
from vidembed.distributed.agree import is_first_host, together
from vidembed.workdir.differences import differences, is_under
from vidembed.workdir.lease import Lease, LeaseHeldError
from vidembed.workdir.measurements import Measurements, evaluator_name
from vidembed.workdir.versions import versions

Completed = Callable[[dict[str, Any]], dict[str, Any]]


class RecipeChangedError(ValueError):
    """A run is to be resumed with another model, other data or another seed."""


class Workdir:
    """The folder of one run, local or remote (gs://); jobs meet only here.

    recipe.json       what the run was started with, and what was changed since
    evaluation.json   what it is measured by, unless told otherwise
    metrics.jsonl     one line a logged step; events/ the same for TensorBoard
    checkpoints/      one folder a step
    evaluation/       one folder an evaluator: see `Measurements`
    lease.json        the process that trains here, while it does
    DONE              the last step, once its checkpoint is durable; see `done`
    report.html, report files of later jobs
    """

    def __init__(self, path: epath.PathLike):
        self.path = epath.Path(path)
        self.recipe_file = self.path / "recipe.json"
        self.evaluation_file = self.path / "evaluation.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.events = self.path / "events"
        self.checkpoints = self.path / "checkpoints"
        self.evaluation = self.path / "evaluation"
        self.lease_file = self.path / "lease.json"
        self.done_file = self.path / "DONE"
        self.report_file = self.path / "report.html"

    def __str__(self) -> str:
        return str(self.path)

    def create(self) -> None:
        """Makes the folders, where they are missing."""
        for folder in (self.path, self.checkpoints, self.evaluation):
            folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def lease(self, *, steal: bool = False, of_run: bool = True) -> Iterator[Lease]:
        """Holds the work directory for this run; see `Lease`. The first host holds it for all.

        of_run: a run is begun or goes on here, which must not write over what is not its own; not
        so for a folder of several runs.

        Raises LeaseHeldError, on every host, when another run has it.
        """
        lease = Lease(self.lease_file)
        with contextlib.ExitStack() as stack:

            def enter() -> None:
                if is_first_host():
                    if of_run:
                        self._refuse_foreign()
                    self.create()
                    stack.enter_context(lease.held(steal=steal))
                    self._remove_unfinished()

            together(enter, LeaseHeldError, ValueError)
            yield lease

    def why_not_leased(self) -> str:
        """The reason in words; "" where a live process trains here."""
        return Lease(self.lease_file).why_not_held()

    def _refuse_foreign(self) -> None:
        """Raises ValueError where a new run would write over what is not of a run."""
        if self.recipe_file.exists():
            return
        ours = (self.metrics_file, self.done_file, self.evaluation_file, self.report_file)
        folders = (path for path in (self.checkpoints, self.events) if path.exists())
        found = [path for path in ours if path.exists()]
        found += [path for path in folders if any(path.iterdir())]
        if found:
            raise ValueError(
                f"{self.path} has no recipe.json, so it is no run, but it has {found[0].name}, "
                "which a run would write over: choose another --workdir, or remove that first"
            )

    def _remove_unfinished(self) -> None:
        """What killed runs left; in this folder only the holder of the lease writes."""
        files.remove_unfinished(self.path)
        for measurements in self.all_measurements():
            files.remove_unfinished(measurements.folder, older_than_seconds=60.0)

    def claim_recipe(
        self,
        recipe: dict[str, Any],
        fingerprints: dict[str, str],
        about: Mapping[str, Any] | None = None,
        *,
        tunable: Collection[str] = (),
        completed: Completed = dict,
    ) -> list[str]:
        """Stores what a run is started with, or compares it with what is stored.

        recipe: the recipe's JSON form. fingerprints: a name and a digest for each input, such as
        table, graph. about: what else is stored, at the start or, where an older version did not,
        later. tunable: dotted paths (or beginnings of them) of the fields that may change.
        completed: a stored recipe of an older version as this version would have stored it.
        Returns a line for each tunable field that changed, "steps: 100 -> 200"; they are recorded
        in recipe.json, with the versions and the commit that made the change. Raises
        RecipeChangedError, listing every other difference.
        """
        stored = self.read_recipe()
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        if stored is None:
            if is_first_host():
                new = {"started": now, "recipe": recipe, "fingerprints": fingerprints}
                new |= {**(about or {}), "versions": versions(), "history": []}
                files.write_json(self.recipe_file, new)
            return []
        lines = self.recipe_changes(recipe, fingerprints, tunable=tunable, completed=completed)
        known = {**(about or {}), **stored}
        if (lines or known.keys() - stored.keys()) and is_first_host():
            change = {"time": now, "changes": lines, "versions": versions()}
            history = [*stored["history"], change]
            files.write_json(self.recipe_file, {**known, "recipe": recipe, "history": history})
        return lines

    def recipe_changes(
        self,
        recipe: dict[str, Any],
        fingerprints: dict[str, str] | None = None,
        *,
        tunable: Collection[str] = (),
        completed: Completed = dict,
    ) -> list[str]:
        """As `claim_recipe`, but nothing is written; without `fingerprints` they are not looked at.

        Before the run was started nothing has changed.
        """
        stored = self.read_recipe()
        if stored is None:
            return []
        # As JSON gives it back: tuples are lists, keys are text.
        changes = differences(completed(stored["recipe"]), json.loads(json.dumps(recipe)))
        known = stored["fingerprints"]
        data = differences(known, known if fingerprints is None else fingerprints)
        lines = [f"{path}: {changes[path]}" for path in changes if not is_under(path, tunable)]
        lines += [f"data, {name}: {change}" for name, change in data.items()]
        if "feed" in data and "corpus" not in data:
            lines.append(
                "  (videos, relations and split are the same: other clusters, --corpus.hierarchy, "
                "or batches that another version of vidembed draws otherwise)"
            )
        if lines:
            raise RecipeChangedError(
                f"{self.path} was started with another recipe (stored -> wanted):\n  "
                + "\n  ".join(lines)
                + "\nA run goes on with the model, data and seed that it was started with, and is "
                "measured as it is. Use what is stored, or start a new run in another --workdir."
            )
        return [f"{path}: {change}" for path, change in changes.items()]

    def read_recipe(self) -> dict[str, Any] | None:
        """recipe.json ("recipe", "fingerprints", "spec", "space", "versions", "history"); None
        before the start."""
        found = files.read_record(self.recipe_file, ("recipe", "fingerprints"), "of a run")
        parts = ("recipe", "fingerprints", "spec", "space")
        if found and not all(isinstance(found.get(part, {}), dict) for part in parts):
            raise ValueError(
                f"{self.recipe_file} is damaged: one of {', '.join(parts)} is no object. Restore "
                "it from a copy, or choose another folder"
            )
        return found

    def mark_done(self, step: int) -> None:
        """Tells the other jobs that `step` is durable and is the last."""
        files.write_json(self.done_file, {"step": step})

    def clear_done(self) -> None:
        """Training goes on (more steps than before)."""
        self.done_file.unlink(missing_ok=True)

    def done(self) -> int | None:
        """The last step of a finished run, or None while it goes on.

        A run that was extended is not finished: DONE counts if the stored recipe ends at its step.
        """
        stored = self.read_recipe()
        record = files.read_record(self.done_file, ("step",), "of a run")
        if record is None or stored is None or record["step"] != stored["recipe"]["steps"]:
            return None
        step: int = record["step"]
        return step

    def measurements(self, identity: Mapping[str, Any]) -> Measurements:
        """What an evaluator of this `identity` measured."""
        return Measurements(self.evaluation / evaluator_name(identity))

    def all_measurements(self) -> list[Measurements]:
        """Those of each evaluator that measured anything here."""
        if not self.evaluation.exists():
            return []
        folders = sorted(path for path in self.evaluation.iterdir() if path.is_dir())
        return [Measurements(folder) for folder in folders]

    def pinned(self) -> set[int]:
        """The steps that an evaluator found best."""
        found = (measurements.best() for measurements in self.all_measurements())
        return {best["step"] for best in found if best is not None}

    def measured_steps(self) -> set[int]:
        """The steps that any evaluator measured."""
        return set().union(*(one.steps() for one in self.all_measurements()))

    def awaited_measurements(self) -> set[int] | None:
        """The steps that all attached evaluation jobs have measured; None when none is attached.

        For `Retention.stale`: what is not among them has to wait.
        """
        followed = [m.steps() for m in self.all_measurements() if m.followed()]
        return set.intersection(*followed) if followed else None
