"""The evaluation job: measure checkpoints of a work directory, during training or afterwards.

It shares only the work directory with the trainer, so it may run on another machine, on another
mesh, later, or more than once. Measured checkpoints are skipped, so it may be killed and restarted.
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
        """corpus: the recipe's, opened. classes: as in `Recipe.from_json`, besides the recipe's
        own. Raises if the recipe or the data are not those of the run."""
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
                f"the videos, edges, labels or split have changed since {workdir} was trained "
                f"(digest {rows} then, {self.corpus.rows} now). It can still embed and search, but "
                "not be evaluated on them: name the earlier data with --corpus.table and "
                "--corpus.edges or --corpus.labels, or train a new run with --init-from"
            )
        if "spec" in stored:
            known = {*classes, *classes_of(recipe)}
            self._spec = from_json(Any, stored["spec"], "spec", classes=known)
        else:  # a run from before sizes were stored: derive them from its data
            self._spec = open_feeds(recipe, self.corpus)[0].spec
        agree({"sizes (of the feed, such as classes of --corpus.hierarchy)": to_json(self._spec)})
        self.checkpoints = Checkpoints(workdir.checkpoints, read_only=True)
        self.each = tuple(Measured(self, evaluator) for evaluator in evaluation.evaluators)
        self.selecting = self.each[evaluation.select]
        self._model: Model | None = None
        self.computed: Callable[[Measured, dict[str, Any]], None] = lambda measured, result: None
        """Called with each result before it is written, so that a full disk does not lose it."""

    def parameters(self) -> int:
        """The number of learnt parameters."""
        shape = state_shape(self.recipe, self._spec, self.mesh)
        return sum(leaf.size for leaf in shape["parameters"].values())

    def model(self, step: int) -> Model:
        """The task's outputs at a checkpoint; the next call replaces its arrays."""
        self._model = self._model or Model(
            self.recipe, self._spec, self.mesh, stored=self.workdir.read_recipe()
        )
        return self._model.restore(self.checkpoints, step)

    def measure(self, step: int) -> list[dict[str, Any]]:
        """Measures a checkpoint with each evaluator and stores the results; existing results are
        read."""
        model: Model | None = None
        # Another evaluation job may be writing: all hosts use what the first host read.
        results = []
        for measured in self.each:
            result = record_of_first_host(measured.measurements.read(step))
            if result is None:
                measured.evaluator.check(self.corpus)
                with self.progress.stage(f"evaluating step {step}"):
                    model = model or self.model(step)
                    result = measured.measure(model)
            elif measured is self.selecting:
                measured.pin(step, result)
            results.append(result)
        return results

    def last_step(self) -> int:
        """The run's last step; it may be extended during an evaluation."""
        stored = self.workdir.read_recipe()
        return int(stored["recipe"]["steps"]) if stored else self.recipe.steps

    def steps(self) -> list[int]:
        """The steps of the existing checkpoints, the same on all hosts."""
        return self.checkpoints.steps()

    def described(self) -> dict[str, Any]:
        """The recipe with the run's last step."""
        return self.recipe.to_json() | {"steps": self.last_step()}

    def step_named(self, name: str) -> int:
        """The step that "latest", "best" (by this evaluation) or a number names."""
        if name != "best" or not self.checkpoints.steps():
            return step_named(self.workdir, self.checkpoints, name)
        if (best := self.selecting.best()) is None:
            raise CheckpointError(
                f"{self.workdir}: this evaluator has measured nothing yet, so no step is best"
            )
        return best

    def follow(
        self,
        report: Callable[[list[dict[str, Any]]], None],
        stop: StopFlag | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> list[int]:
        """Measures each checkpoint as it becomes durable, until the run is done or stopped.

        Returns the damaged steps, which could not be measured. Raises TrainerGoneError if the run
        is not done and no training was active for `patience_seconds`; CheckpointError if it is done
        and has no checkpoint.
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

        for measured in self.each:
            measured.evaluator.check(self.corpus)
        with ExitStack() as attached:
            for measured in self.each:
                attached.enter_context(measured.measurements.attach_follower())
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
            raise TrainerGoneError(watch.gone or f"no training is active in {self.workdir}")
        if not seen and not stop.asked:
            raise CheckpointError(f"{self.workdir.checkpoints} holds no checkpoint: train first")
        return damaged
