"""The command line of an experiment: `python -m experiments.NAME {train,evaluate,report,show} ...`.

Exit codes: 0 done; 1 refused or failed, with one message; 2 a mistake in the command line;
143 asked to stop (SIGTERM, Ctrl-C) and saved: the same command goes on from there.
"""

import dataclasses
import functools
import operator
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import tyro

from vidembed.checkpoint import CheckpointError
from vidembed.cluster import Cluster
from vidembed.evaluate import Evaluation, recipe_of, values_of
from vidembed.lease import LeaseHeldError, LeaseLostError
from vidembed.progress import Progress
from vidembed.recipe import Recipe
from vidembed.records.vocabulary import read_vocabulary
from vidembed.run_report import report_run
from vidembed.show import show
from vidembed.stopping import EXIT_STOPPED, StopFlag
from vidembed.train import NonFiniteLoss, train
from vidembed.workdir import Workdir

FAULTS = (
    ValueError,
    OSError,
    # What gs:// and s3:// need is an extra, and says so when it is missing.
    ImportError,
    CheckpointError,
    LeaseHeldError,
    LeaseLostError,
    NonFiniteLoss,
)
"""What a user can mend: shown as one message. Anything else is a bug, and keeps its traceback."""

RecipeOptions = Annotated[Recipe, tyro.conf.arg(name="")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train, or go on training: from the newest checkpoint of the work directory."""

    workdir: str
    """Folder of the run, local or gs://."""
    steal: bool = False
    """Take the work directory over from a run that still holds it."""
    cluster: Cluster = Cluster()
    recipe: RecipeOptions = Recipe()

    def run(self) -> int:
        """Trains; 0 when all steps are done, 143 when asked to stop."""
        self.cluster.connect()
        workdir, recipe = Workdir(self.workdir), self.recipe
        progress = Progress(quiet=jax.process_index() > 0)
        with StopFlag() as stop, workdir.lease(steal=self.steal) as lease:
            if lease.notice:
                progress.say(lease.notice)
            corpus = recipe.corpus.open()
            evaluation = None

            def evaluate(step: int) -> dict[str, float]:
                nonlocal evaluation
                evaluation = evaluation or Evaluation(
                    recipe, workdir, corpus=corpus, progress=progress
                )
                result = evaluation.measure(step)
                _print_scores(progress, result)
                return values_of(result)

            last = train(
                recipe,
                workdir,
                lease=lease,
                stop=stop,
                corpus=corpus,
                progress=progress,
                evaluate=evaluate,
            )
        if last < recipe.steps:
            progress.say(f"stopped and saved at step {last}; the same command goes on from there")
            return EXIT_STOPPED
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure checkpoints of a work directory, as they come or afterwards."""

    workdir: str
    """Folder of the run, local or gs://."""
    step: str = "latest"
    """latest, best, or a number."""
    follow: bool = False
    """Measure every checkpoint as it appears, until the run is done."""
    table: str | None = None
    """The run's feature table, where this machine has it at another path."""
    edges: str | None = None
    """The run's edges, where this machine has them at another path."""
    mesh_model: int = 1
    """Devices along the model axis here; all others go to the data axis."""
    cluster: Cluster = Cluster()

    def run(self) -> int:
        """Measures; 0 when all that was asked for is measured."""
        self.cluster.connect()
        progress = Progress(quiet=jax.process_index() > 0)
        evaluation = _evaluation(
            self.workdir, self.table, self.edges, progress, model=self.mesh_model
        )
        if self.follow:
            with StopFlag() as stop:
                damaged = evaluation.follow(lambda result: _print_scores(progress, result), stop)
            return EXIT_STOPPED if stop.asked else int(bool(damaged))
        _print_scores(progress, evaluation.measure(evaluation.step_named(self.step)))
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Write WORKDIR/report.html: curves, scores, data, and what the embedding finds."""

    workdir: str
    """Folder of the run, local or gs://."""
    vocabulary: str | None = None
    """A CSV file with Index and Name (YouTube-8M's vocabulary.csv), to name the labels."""
    table: str | None = None
    """The run's feature table, where this machine has it at another path."""
    edges: str | None = None
    """The run's edges, where this machine has them at another path."""

    def run(self) -> int:
        """Writes the report and says where it is."""
        progress = Progress()
        names = read_vocabulary(self.vocabulary) if self.vocabulary else {}
        evaluation = _evaluation(self.workdir, self.table, self.edges, progress)
        progress.say(f"wrote {report_run(evaluation, names)}")
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show:
    """Show the resolved recipe, its parameters, bytes and arithmetic; computes nothing."""

    workdir: str | None = None
    """Show the recipe of this run instead."""
    recipe: RecipeOptions = Recipe()

    def run(self) -> int:
        """Prints to the terminal."""
        show(recipe_of(Workdir(self.workdir)) if self.workdir else self.recipe)
        return 0


def main(recipe: Recipe, arguments: Sequence[str] | None = None, *, name: str) -> int:
    """Runs the verb that the command line names, with `recipe` as the default; an exit code."""
    verbs = {
        "train": Train(workdir=tyro.MISSING, recipe=recipe),
        "evaluate": Evaluate(workdir=tyro.MISSING),
        "report": Report(workdir=tyro.MISSING),
        "show": Show(recipe=recipe),
    }
    kinds: Any = tuple(
        Annotated[type(verb), tyro.conf.subcommand(name=word, default=verb)]
        for word, verb in verbs.items()
    )
    try:
        chosen: Any = tyro.cli(
            functools.reduce(operator.or_, kinds),
            args=arguments,
            prog=f"python -m experiments.{name}",
            config=(tyro.conf.CascadeSubcommandArgs,),
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return guarded(chosen.run)


def guarded(run: Callable[[], int]) -> int:
    """What `run()` returns, or 1 after showing a fault that the user can mend as one message.

    VIDEMBED_TRACEBACK=1 shows where it came from. With several hosts a fault ends this process at
    once: the others wait in a collective, and learn of it when this one falls silent.
    """
    try:
        return run()
    except FAULTS as error:
        if os.environ.get("VIDEMBED_TRACEBACK"):
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        if jax.process_count() > 1:
            sys.stdout.flush()
            os._exit(1)
        return 1


def _evaluation(
    path: str, table: str | None, edges: str | None, progress: Progress, *, model: int = 1
) -> Evaluation:
    """The evaluation of a run, with its data where this machine has them, on all devices here."""
    workdir = Workdir(path)
    recipe = recipe_of(workdir)
    corpus = dataclasses.replace(
        recipe.corpus, table=table or recipe.corpus.table, edges=edges or recipe.corpus.edges
    )
    mesh = dataclasses.replace(recipe.mesh, data=-1, model=model)
    recipe = dataclasses.replace(recipe, corpus=corpus, mesh=mesh)
    return Evaluation(recipe, workdir, progress=progress)


def _print_scores(progress: Progress, result: dict[str, Any]) -> None:
    told = " (simulated sessions)" if result["simulated_sessions"] else ""
    for name, score in result["scores"].items():
        progress.say(
            f"step {result['step']}  {name:28} {score['value']:.4f} "
            f"[{score['low']:.4f}, {score['high']:.4f}]{told}"
        )
