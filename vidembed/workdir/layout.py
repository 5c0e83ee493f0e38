"""The work directory of a run: its files, its owner, and the recipe it was started with."""

import contextlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from etils import epath

from vidembed import files
from vidembed.distributed.agree import is_first_host, together
from vidembed.workdir.differences import as_typed, differences, is_under
from vidembed.workdir.lease import Lease, LeaseHeldError
from vidembed.workdir.measurements import Measurements, evaluator_name
from vidembed.workdir.versions import versions

Completed = Callable[[dict[str, Any]], dict[str, Any]]


class RecipeChangedError(ValueError):
    """A run was resumed with another model, other data or another seed."""


class Workdir:
    """The folder of one run, local or remote (gs://), through which all its jobs communicate.

    recipe.json       the recipe the run was started with, and later changes
    evaluation.json   the default evaluation of the run
    metrics.jsonl     one line per logged step; events/ the same for TensorBoard
    checkpoints/      one folder per step
    evaluation/       one folder per evaluator: see `Measurements`
    lease.json        the process that trains here, while it runs
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
        """Create missing folders."""
        for folder in (self.path, self.checkpoints, self.evaluation):
            folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def lease(self, *, steal: bool = False, of_run: bool = True) -> Iterator[Lease]:
        """Hold the work directory for this run; see `Lease`. The first host holds it for all.

        of_run: a run starts or resumes here and must not overwrite foreign files; False for a
        folder of several runs.

        Raises LeaseHeldError, on every host, if another run has it.
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
        """The reason why no process holds the lease; "" if a live process trains here."""
        return Lease(self.lease_file).why_not_held()

    def _refuse_foreign(self) -> None:
        """Raise ValueError if a new run would overwrite files that are not of a run."""
        if self.recipe_file.exists():
            return
        ours = (self.metrics_file, self.done_file, self.evaluation_file, self.report_file)
        folders = (path for path in (self.checkpoints, self.events) if path.exists())
        foreign = [path for path in ours if path.exists()]
        foreign += [path for path in folders if any(path.iterdir())]
        if foreign:
            raise ValueError(
                f"{self.path} has no recipe.json, so it is not a run, but it has "
                f"{foreign[0].name}, which a run would overwrite: choose another --workdir, or "
                "remove that first"
            )

    def _remove_unfinished(self) -> None:
        """Remove leftovers of killed runs; only the holder of the lease writes in this folder."""
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
        """Store the recipe of a new run, or compare it with the stored one.

        recipe: the recipe's JSON form. fingerprints: a digest for each input by name, such as
        table, graph. about: further entries to store, also later if an older version did not.
        tunable: dotted paths (or prefixes of them) of fields that may change. completed: converts a
        stored recipe of an older version to this version's form. Returns one line per changed
        tunable field, "steps: 100 -> 200"; changes are recorded in recipe.json, with versions and
        commit. Raises RecipeChangedError, listing every other difference.
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
        """As `claim_recipe`, without writing; without `fingerprints` inputs are not compared.

        Empty if the run has not been started.
        """
        stored = self.read_recipe()
        if stored is None:
            return []
        # Through JSON, which turns tuples into lists and keys into text.
        changes = differences(completed(stored["recipe"]), json.loads(json.dumps(recipe)))
        known = stored["fingerprints"]
        data = differences(known, known if fingerprints is None else fingerprints)
        lines = as_typed({p: changes[p] for p in changes if not is_under(p, tunable)})
        # A changed recipe explains changed batches: report those only if nothing else differs.
        if not lines or any(not name.startswith("feed") for name in data):
            lines += as_typed(data, before="data, ")
            if "feed" in data and "corpus" not in data:
                lines.append(
                    "  (videos, relations and split are the same: other clusters, "
                    "--corpus.hierarchy, or another version of vidembed, which draws batches "
                    "differently)"
                )
        if lines:
            raise RecipeChangedError(
                f"{self.path} was started with another recipe:\n  "
                + "\n  ".join(lines)
                + "\nA run is resumed and evaluated with the recipe and data it was started with. "
                "Give the stored values, or train in another --workdir (add --init-from "
                f"{self.path} to start from this run's parameters)"
            )
        return [f"{path}: {change}" for path, change in changes.items()]

    def read_recipe(self) -> dict[str, Any] | None:
        """recipe.json ("recipe", "fingerprints", "spec", "space", "imported", "versions",
        "history"); None before the start."""
        record = files.read_record(self.recipe_file, ("recipe", "fingerprints"), "of a run")
        parts = ("recipe", "fingerprints", "spec", "space", "imported")
        if record and not all(isinstance(record.get(part, {}), dict) for part in parts):
            raise ValueError(
                f"{self.recipe_file} is damaged: one of {', '.join(parts)} is not an object. "
                "Restore it from a copy, or choose another folder"
            )
        return record

    def mark_done(self, step: int) -> None:
        """Tell the other jobs that `step` is durable and the last one."""
        files.write_json(self.done_file, {"step": step})

    def clear_done(self) -> None:
        """Tell the other jobs that training continues, with more steps than before."""
        self.done_file.unlink(missing_ok=True)

    def done(self) -> int | None:
        """The last step of a finished run, or None while it trains.

        An extended run is not finished: DONE counts only if the stored recipe ends at its step.
        """
        stored = self.read_recipe()
        record = files.read_record(self.done_file, ("step",), "of a run")
        if record is None or stored is None or record["step"] != stored["recipe"]["steps"]:
            return None
        step: int = record["step"]
        return step

    def measurements(self, identity: Mapping[str, Any]) -> Measurements:
        """The measurements of the evaluator with this `identity`."""
        return Measurements(self.evaluation / evaluator_name(identity))

    def all_measurements(self) -> list[Measurements]:
        """The measurements of each evaluator with a folder here."""
        if not self.evaluation.exists():
            return []
        folders = sorted(path for path in self.evaluation.iterdir() if path.is_dir())
        return [Measurements(folder) for folder in folders]

    def pinned(self) -> set[int]:
        """The steps that an evaluator found best."""
        records = (measurements.best() for measurements in self.all_measurements())
        return {best["step"] for best in records if best is not None}

    def measured_steps(self) -> set[int]:
        """The steps that any evaluator measured."""
        return set().union(*(measurements.steps() for measurements in self.all_measurements()))

    def awaited_measurements(self) -> set[int] | None:
        """The steps that all attached evaluation jobs have measured; None if none is attached.

        For `Retention.stale`: other steps must not be deleted yet.
        """
        followed = [m.steps() for m in self.all_measurements() if m.followed()]
        return set.intersection(*followed) if followed else None
