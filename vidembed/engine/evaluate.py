"""The evaluation job: measures checkpoints of a work directory, beside the trainer or after it.

It shares nothing with the trainer but the work directory: it may run on another machine, on
another mesh, later, or more than once. What is measured is skipped, so that it may be killed and
started again.
"""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

import jax

from vidembed.distributed import mesh as meshes
from vidembed.distributed.agree import agree, of_first_host, record_of_first_host
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.claim import refuse_another
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.field_roles import classes_of
from vidembed.engine.measured import Measured
from vidembed.engine.model import Model, step_named
from vidembed.engine.phases import open_feeds
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import state_shape
from vidembed.engine.typed_json import from_json, to_json
from vidembed.engine.watching import PATIENCE_SECONDS, POLL_SECONDS, TrainerGoneError, Watch
from vidembed.progress import Progress
from vidembed.workdir.checkpoints.store import (
    CheckpointError,
    Checkpoints,
    DigestError,
    VanishedError,
)
from vidembed.workdir.layout import Workdir


class EvaluationJob:
    """Measures checkpoints of a run: restore, embed, score, write, pin the best."""

    def __init__(
        self,
        recipe: Recipe,
        evaluation: Evaluation,
        workdir: Workdir,
        *,
        corpus: Any = None,
        mesh: jax.sharding.Mesh | None = None,
        progress: Progress | None = None,
        classes: Collection[type] = (),
    ) -> None:
        """corpus: the recipe's, opened. classes: as in `Recipe.from_json`, beside those that the
        recipe is made of. Raises where recipe or data are not those of the run."""
        self.recipe, self.evaluation, self.workdir = recipe, evaluation, workdir
        refuse_another(workdir, recipe)
        self.progress = progress or Progress(quiet=jax.process_index() > 0)
        self.mesh = mesh or meshes.make_mesh(recipe.mesh)
        self.corpus = corpus or recipe.corpus.open()
        agree({"videos, relations and split": self.corpus.rows})
        stored = workdir.read_recipe() or {}
        rows = stored.get("fingerprints", {}).get("corpus", self.corpus.rows)
        if rows != self.corpus.rows:
            raise ValueError(
                f"{workdir} was trained on data {rows}, those of {recipe.corpus} are "
                f"{self.corpus.rows}: name the data of the run, by --corpus.table and "
                "--corpus.edges. (Versions that took the degree cap before the split had other "
                "train relations: measure their runs with the same version)"
            )
        if "spec" in stored:
            known = {*classes, *classes_of(recipe)}
            self._spec = from_json(Any, stored["spec"], "spec", classes=known)
        else:  # a run of before sizes were stored: they follow from its data
            self._spec = open_feeds(recipe, self.corpus)[0].spec
        agree({"sizes (of the feed, such as classes of --corpus.hierarchy)": to_json(self._spec)})
        self.checkpoints = Checkpoints(workdir.checkpoints, read_only=True)
        self.each = tuple(Measured(self, evaluator) for evaluator in evaluation.evaluators)
        self.selecting = self.each[evaluation.select]
        self._model: Model | None = None
        self.computed: Callable[[Measured, dict[str, Any]], None] = lambda measured, result: None
        """Is given each result before it is written, so that a full disk takes none away."""

    def parameters(self) -> int:
        """How many numbers are learnt."""
        shape = state_shape(self.recipe, self._spec, self.mesh)
        return sum(leaf.size for leaf in shape["parameters"].values())

    def model(self, step: int) -> Model:
        """The task's outputs at a checkpoint; its arrays give way to those of the next."""
        self._model = self._model or Model(
            self.recipe, self._spec, self.mesh, stored=self.workdir.read_recipe()
        )
        return self._model.restore(self.checkpoints, step)

    def measure(self, step: int) -> list[dict[str, Any]]:
        """Measures a checkpoint by each evaluator, and stores the results; what was done before is
        not redone."""
        model: Model | None = None
        # Another evaluation job may be writing: all hosts go by what the first one read.
        results = []
        for one in self.each:
            result = record_of_first_host(one.measurements.read(step))
            if result is None:
                one.evaluator.check(self.corpus)
                with self.progress.stage(f"evaluating step {step}"):
                    model = model or self.model(step)
                    result = one.measure(model)
            elif one is self.selecting:
                one.pin(step, result)
            results.append(result)
        return results

    def last_step(self) -> int:
        """Where the run ends; it may be extended while it is measured."""
        stored = self.workdir.read_recipe()
        return int(stored["recipe"]["steps"]) if stored else self.recipe.steps

    def steps(self) -> list[int]:
        """The checkpoints that are there, the same on all hosts."""
        return self.checkpoints.steps()

    def described(self) -> dict[str, Any]:
        """The recipe, with the step where the run ends."""
        return self.recipe.to_json() | {"steps": self.last_step()}

    def step_named(self, name: str) -> int:
        """The step that "latest", "best" (by this evaluation) or a number names."""
        if name != "best" or not self.checkpoints.steps():
            return step_named(self.workdir, self.checkpoints, name)
        if (best := self.selecting.best()) is None:
            raise CheckpointError(
                f"{self.workdir}: this evaluator has measured nothing yet, so none is best"
            )
        return best

    def follow(
        self,
        report: Callable[[list[dict[str, Any]]], None],
        stop: StopFlag | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> list[int]:
        """Measures each checkpoint as it becomes durable, until the run is done or a stop asked.

        Returns the steps that were damaged and could not be measured. TrainerGoneError where the
        run is not done and nobody has trained it for `patience_seconds`; CheckpointError if it is
        done and there was no checkpoint at all.
        """
        stop, damaged, seen = stop or StopFlag(), list[int](), set[int]()
        waits, say = False, self.progress.say
        watch = Watch(self.workdir, say, patience_seconds=patience_seconds)

        def wait(seconds: float) -> None:
            nonlocal waits
            if not waits:
                waits = True
                say(f"waiting for checkpoints of {self.workdir}, until it is DONE")
            stop.sleep(seconds)

        def ended() -> bool:
            return stop.reached() or watch.is_over()

        for one in self.each:
            one.evaluator.check(self.corpus)
        with ExitStack() as attached:
            for one in self.each:
                attached.enter_context(one.measurements.attach_follower())
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
        if of_first_host([int(bool(watch.gone))])[0] and not stop.asked:
            raise TrainerGoneError(watch.gone or f"nobody trains in {self.workdir} any more")
        if not seen and not stop.asked:
            raise CheckpointError(f"{self.workdir.checkpoints} holds no checkpoint: train first")
        return damaged
