"""The evaluation job: measures checkpoints of a work directory, beside the trainer or after it.

It shares nothing with the trainer but the work directory: it may run on another machine, on
another mesh, later, or more than once. What is measured is skipped, so that it may be killed and
started again.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from vidembed import MEASURING, PATH
from vidembed.corpora.watched import Corpus
from vidembed.distributed import mesh as meshes
from vidembed.distributed.agree import agree, is_first_host, of_first_host, record_of_first_host
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.embedding import embed_table
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import State, spec_of, state_shape
from vidembed.engine.typed_json import fields_with
from vidembed.metrics.intervals import Result, Selection
from vidembed.progress import Progress
from vidembed.workdir.checkpoints.store import (
    CheckpointError,
    Checkpoints,
    DigestError,
    VanishedError,
)
from vidembed.workdir.layout import Workdir
from vidembed.workdir.measurements import BASELINES, TRAINED
from vidembed.workdir.versions import versions

POLL_SECONDS = 2.0


class Evaluation:
    """Measures checkpoints of a run: restore, embed every video, score, write, pin the best."""

    def __init__(
        self,
        recipe: Recipe,
        workdir: Workdir,
        *,
        corpus: Corpus | None = None,
        mesh: jax.sharding.Mesh | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.recipe, self.workdir = recipe, workdir
        workdir.recipe_changes(recipe.to_json(), tunable=fields_with(recipe, PATH, MEASURING))
        self.measurements = workdir.measurements(recipe.evaluator.identity())
        self.progress = progress or Progress(quiet=jax.process_index() > 0)
        self.mesh = mesh or meshes.make_mesh(recipe.mesh)
        self.corpus = corpus or recipe.corpus.open()
        self.spec = spec_of(recipe, self.corpus)
        agree(
            {
                "videos, relations and split": self.corpus.fingerprint,
                "classes (of --corpus.hierarchy)": self.spec.classes,
            }
        )
        stored = (workdir.read_recipe() or {}).get("fingerprints", {})
        if stored.get("corpus", self.corpus.fingerprint) != self.corpus.fingerprint:
            raise ValueError(
                f"{workdir} was trained on data {stored['corpus']}, {recipe.corpus.table} with "
                f"{recipe.corpus.edges} is {self.corpus.fingerprint}: name the data of the run by "
                "--corpus.table and --corpus.edges. (Versions that took the degree cap before the "
                "split had other train relations: measure their runs with the same version)"
            )
        self.checkpoints = Checkpoints(workdir.checkpoints, read_only=True)
        self._video = recipe.task.outputs["video"]
        self._apply = jax.jit(self._video.apply)

    def restore(self, step: int) -> State:
        """The parameters (their average where one is kept) and state of a checkpoint."""
        shape = state_shape(self.recipe, self.spec, self.mesh)
        parameters = "average" if "average" in shape else "parameters"
        wanted = {name: shape[name] for name in (parameters, "state")}
        state = self.checkpoints.restore(step, wanted, only=tuple(wanted))
        return {"parameters": state[parameters], "state": state["state"]}

    def embed(self, state: State) -> Any:
        """f32[N, D]: every video of the corpus."""
        with jax.set_mesh(self.mesh):
            return embed_table(
                self._apply,
                state["parameters"],
                state["state"],
                self.corpus.table,
                self._video.read,
                mesh=self.mesh,
            )

    def measure(self, step: int) -> dict[str, Any]:
        """Measures a checkpoint and stores the result; what this evaluator did is not redone."""
        # Another evaluation job may be writing: all hosts go by what the first one read.
        known = record_of_first_host(self.measurements.read(step))
        if known is not None:
            self._pin(step, known)
            return known
        self.recipe.evaluator.check(self.corpus)
        began = time.monotonic()
        with self.progress.stage(f"evaluating step {step}"), jax.set_mesh(self.mesh):
            embeddings = self.embed(self.restore(step))
            measured = self.recipe.evaluator.run(embeddings, self.corpus, mesh=self.mesh)
        result = {"step": step, "scores": _scores(measured)}
        result |= {
            "selection": self.selection(result)._asdict(),
            **self._about(began),
            "recipe": self.recipe.to_json() | {"steps": self.last_step()},
        }
        # Pinned before it counts as measured: from then on the trainer may delete it.
        self._pin(step, result)
        if is_first_host():
            self.measurements.write(step, result, {TRAINED: measured.per_query})
        return result

    def last_step(self) -> int:
        """Where the run ends; it may be extended while it is measured."""
        stored = self.workdir.read_recipe()
        return int(stored["recipe"]["steps"]) if stored else self.recipe.steps

    def selection(self, result: Mapping[str, Any]) -> Selection:
        """The number by which a result is compared with those of other checkpoints."""
        return self.recipe.evaluator.selection(values_of(result))

    def baselines(self) -> dict[str, Any]:
        """Scores of what needs no training (`systems`: name → scores), measured once per corpus."""
        known = record_of_first_host(self.measurements.read(BASELINES))
        if known is not None and known["fingerprints"]["corpus"] == self.corpus.fingerprint:
            return known
        began = time.monotonic()
        with self.progress.stage("measuring the baselines"), jax.set_mesh(self.mesh):
            systems = self.recipe.evaluator.baselines(self.corpus, mesh=self.mesh)
        record = {"systems": {name: _scores(found) for name, found in systems.items()}}
        record |= self._about(began)
        if is_first_host():
            per_query = {name: found.per_query for name, found in systems.items()}
            self.measurements.write(BASELINES, record, per_query)
        return record

    def _about(self, began: float) -> dict[str, Any]:
        """What every record says of how it was measured."""
        return {
            "queries": self.recipe.evaluator.counts(self.corpus),
            "simulated_sessions": self.corpus.simulated,
            "seconds": time.monotonic() - began,
            "fingerprints": {"corpus": self.corpus.fingerprint},
            "versions": versions(),
        }

    def step_named(self, name: str) -> int:
        """The step that "latest", "best" or a number names."""
        steps = self.checkpoints.steps()
        if not steps:
            raise CheckpointError(f"{self.workdir.checkpoints} holds no checkpoint: train first")
        if name == "latest":
            return steps[-1]
        if name == "best":
            best = self.measurements.best()
            # Another evaluation job may be writing: the first host's word counts here, too.
            if not (first := of_first_host([] if best is None else [best["step"]])):
                raise CheckpointError(
                    f"{self.workdir}: this evaluator has measured nothing yet, so none is best"
                )
            return first[0]
        if not name.isdecimal() or int(name) not in steps:
            raise CheckpointError(
                f"step {name!r} is not there; choose latest, best or one of {steps}"
            )
        return int(name)

    def follow(
        self, report: Callable[[dict[str, Any]], None], stop: StopFlag | None = None
    ) -> list[int]:
        """Measures each checkpoint as it becomes durable, until the run is done or a stop asked.

        Returns the steps that were damaged and could not be measured; CheckpointError if the run
        is done and there was none at all.
        """
        stop, damaged, seen = stop or StopFlag(), list[int](), set[int]()
        waits = False

        def wait(seconds: float) -> None:
            nonlocal waits
            if not waits:
                waits = True
                self.progress.say(f"waiting for checkpoints of {self.workdir}, until it is DONE")
            stop.sleep(seconds)

        def ended() -> bool:
            # While a trainer holds the work directory it may go on, whatever DONE says.
            return stop.reached() or (
                self.workdir.done() is not None and not self.workdir.is_leased()
            )

        self.recipe.evaluator.check(self.corpus)
        with self.measurements.attach_follower():
            for step in self.checkpoints.follow(ended, poll_seconds=POLL_SECONDS, sleep=wait):
                seen.add(step)
                if stop.reached():
                    break
                try:
                    report(self.measure(step))
                except VanishedError:
                    self.progress.say(f"step {step} was deleted before it could be measured")
                except DigestError as error:
                    if stop.reached():
                        break
                    self.progress.say(f"WARNING: {error}")
                    damaged.append(step)
        if not seen and not stop.asked:
            raise CheckpointError(f"{self.workdir.checkpoints} holds no checkpoint: train first")
        return damaged

    def _pin(self, step: int, result: Mapping[str, Any]) -> None:
        """Pins this checkpoint, if none with a higher selection number is."""
        steps = self.checkpoints.steps()  # which all hosts list together
        if not is_first_host():
            return
        name, value = self.selection(result)
        best = self.measurements.best()
        values = {best["step"]: best["value"]} if best and best["metric"] == name else {}
        if best and not values:
            # Pinned by another metric, of an older version: all that can still be had is compared.
            there = self.measurements.steps() & set(steps)
            known = {other: self.measurements.read(other) for other in sorted(there)}
            values = {other: self.selection(one).value for other, one in known.items() if one}
        values.setdefault(step, value)
        highest = max(values, key=values.__getitem__)
        if not best or (best["step"], best["metric"]) != (highest, name):
            self.measurements.pin(highest, name, values[highest])


def _scores(measured: Result) -> dict[str, dict[str, float]]:
    return {name: interval._asdict() for name, interval in measured.scores.items()}


def values_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The bare values of a result, for the journal."""
    return {name: score["value"] for name, score in result["scores"].items()}


def recipe_of(workdir: Workdir) -> Recipe:
    """The recipe that a work directory was started with."""
    stored = workdir.read_recipe()
    if stored is None:
        raise ValueError(f"{workdir} holds no recipe.json: give the --workdir of a run")
    return Recipe.from_json(stored["recipe"])
