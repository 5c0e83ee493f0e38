"""Running a sweep: each point and seed is a training run and its evaluation, in its own folder.

Several processes may work in one work directory, on shards or on everything: a folder is one
process's at a time, and what all need is made by one while the others wait.
"""

import contextlib
import gc
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from experiments.imported import imported
from experiments.stages import Stages
from experiments.sweep_jobs import (
    CONTROLS,
    Job,
    attempts_file,
    is_done,
    per_query_file,
    result_file,
)
from experiments.sweep_scores import controls_of, parameters_of, trained_of
from experiments.world import World
from vidembed.evaluate import Evaluation
from vidembed.field_roles import PATH, fields_with
from vidembed.lease import Lease, LeaseHeldError
from vidembed.recipe import Recipe
from vidembed.records.table import FeatureTable
from vidembed.scores_file import write_scores
from vidembed.stopping import StopFlag, StoppedError
from vidembed.train import train
from vidembed.versions import versions
from vidembed.workdir import Workdir


class Runner:
    """Runs jobs in a work directory that other processes may be working in, too."""

    def __init__(self, stages: Stages, stop: StopFlag, *, base: Recipe, records: str) -> None:
        self.stages, self.stop, self.base, self.records = stages, stop, base, records
        self.folder = Path(stages.workdir.path)
        self.progress = stages.progress
        self._worlds: dict[str, World] = {}

    def run(self, todo: Sequence[Job]) -> list[str]:
        """Does what is not done yet; returns the names of the jobs that failed.

        Raises StoppedError once asked to stop, RecipeChangedError where the work directory was
        begun with another base recipe, and whatever prevents the import.
        """
        with self._alone(), self.stop.raising():
            table = FeatureTable.open(self._table, verify=False)
            mine = {"table": table.fingerprint}
            self.stages.workdir.claim_recipe(self.base.to_json(), mine)
        failed = []
        for number, job in enumerate(todo, 1):
            if self.stop.asked:
                raise StoppedError(f"stopped before {job}")
            self.progress.say(f"[{number} of {len(todo)}] {job}")
            try:
                self._run(job)
            except LeaseHeldError:
                self.progress.say(f"{job}: another process is at it, and is left to it")
            except Exception as error:
                failed.append(str(job))
                self.progress.say(f"{job} FAILED, going on with the others: {_message(error)}")
            # Each point has its own compiled programs, which would pile up.
            jax.clear_caches()
            gc.collect()
        return failed

    def _run(self, job: Job) -> None:
        workdir = Workdir(self.folder / job.world / job.name)
        with contextlib.ExitStack() as held:
            lease = held.enter_context(workdir.lease())
            done = is_done(workdir)
            attempt = {} if done else held.enter_context(_attempt(workdir))
            # Inside, so that what prevents one world fails its own jobs alone.
            world = self._world(job)
            recipe = world.placed(job.recipe)
            self._claim(workdir, recipe, world)
            if done:
                self.progress.say(f"{job}: done before")
                return
            evaluation = Evaluation(recipe, workdir, corpus=world.corpus, progress=self.progress)
            if job.name != CONTROLS:
                with _timed(attempt, "train_seconds"):
                    self._train(evaluation, lease)
            with self.stop.raising():
                if job.name == CONTROLS:
                    scores = controls_of(evaluation)
                else:
                    evaluation.measure(recipe.steps)
                    scores = trained_of(evaluation, permuted=job.permuted)
            write_scores(per_query_file(workdir), scores)
            # Last: where there is a result, there is everything.
            workdir.write_json(result_file(workdir), _result(evaluation))

    def _claim(self, workdir: Workdir, recipe: Recipe, world: World) -> None:
        """Refuses a folder that holds another recipe or other data, and a recipe on other data.

        train() would let a run go on for more steps, or with other measures: a point may not.
        """
        if recipe.corpus != world.placed(self.base).corpus:
            raise ValueError(
                f"{workdir} would be on another corpus than the base recipe ({recipe.corpus}): a "
                "sweep compares query by query, so its points must share the split"
            )
        if recipe.evaluator.identity() != self.base.evaluator.identity():
            raise ValueError(
                f"{workdir} would be measured by another evaluator than the base recipe "
                f"({recipe.evaluator}): give it to the base, so that all points are measured alike"
            )
        known = (workdir.read_recipe() or {}).get("fingerprints", {})
        data = {**known, "corpus": world.corpus.fingerprint}
        if known or workdir.path.name == CONTROLS:
            # A finished work directory may be moved; all else of a point stays as it was.
            workdir.claim_recipe(recipe.to_json(), data, tunable=fields_with(recipe, PATH))

    def _train(self, evaluation: Evaluation, lease: Lease) -> None:
        recipe, workdir = evaluation.recipe, evaluation.workdir
        last = train(
            recipe,
            workdir,
            lease=lease,
            stop=self.stop,
            corpus=evaluation.corpus,
            progress=self.progress,
        )
        if last < recipe.steps:
            raise StoppedError(f"{workdir} stopped at step {last}")

    def _world(self, job: Job) -> World:
        """The videos with the relations of a seed; made by one process while others wait."""
        if job.world not in self._worlds:
            with self._alone(), self.stop.raising():
                world = World(
                    stages=self.stages,
                    stop=self.stop,
                    table_path=self._table,
                    folder=self.folder,
                    recipe=self.base,
                    models={},
                    seed=job.seed,
                    permuted=job.permuted,
                )
                _ = world.corpus
            self._worlds[job.world] = world
        return self._worlds[job.world]

    @cached_property
    def _table(self) -> Path:
        return imported(self.stages, self.records, self.folder / "table")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds what all processes of the work directory share; waits for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(Lease(self.folder / "preparing.json").held())
                    break
                except LeaseHeldError:
                    if self.stop.sleep(0.5):
                        raise StoppedError("stopped while another process prepares") from None
            yield


@contextlib.contextmanager
def _attempt(workdir: Workdir) -> Iterator[dict[str, Any]]:
    """Writes down how long the work inside took and how it ended: killed, until it says otherwise.

    The entry is there from the start, for nothing runs after SIGKILL.
    """
    began = time.monotonic()
    before = workdir.read_json(attempts_file(workdir)) or []
    entry: dict[str, Any] = {"time": time.strftime("%Y-%m-%d %H:%M:%S"), "end": "killed"}
    workdir.write_json(attempts_file(workdir), [*before, entry])
    try:
        yield entry
        entry["end"] = "done"
    except StoppedError:
        entry["end"] = "stopped"
        raise
    except Exception as error:
        entry |= {"end": "failed", "message": _message(error), "traceback": traceback.format_exc()}
        raise
    finally:
        entry["seconds"] = round(time.monotonic() - began, 3)
        workdir.write_json(attempts_file(workdir), [*before, entry])


@contextlib.contextmanager
def _timed(entry: dict[str, Any], name: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        entry[name] = round(time.monotonic() - began, 3)


def _result(evaluation: Evaluation) -> dict[str, Any]:
    corpus = evaluation.corpus
    return {
        "simulated_sessions": corpus.simulated,
        "recipe": evaluation.recipe.to_json(),
        "parameters": parameters_of(evaluation),
        "fingerprints": {"corpus": corpus.fingerprint},
        "data": corpus.report(),
        "versions": versions(),
    }


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
