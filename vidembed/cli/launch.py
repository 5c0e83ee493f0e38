"""The verbs of a recipe: train, evaluate, report, show. For exit codes see `command_line`."""

import dataclasses
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jax
import tyro

from vidembed import PATH
from vidembed.cli import command_line
from vidembed.cli.command_line import guarded
from vidembed.cli.offered import Offered
from vidembed.cli.run_report import journal_warnings, other_evaluators, report_run
from vidembed.cli.scoreboard import Scoreboard
from vidembed.cli.show import show
from vidembed.distributed.agree import agree
from vidembed.distributed.join import Cluster
from vidembed.distributed.mesh import MeshShape
from vidembed.distributed.stopping import EXIT_STOPPED, StopFlag
from vidembed.engine.evaluate import Evaluation, recipe_of, values_of
from vidembed.engine.imagined import Imagined
from vidembed.engine.recipe import Recipe
from vidembed.engine.train import train
from vidembed.engine.typed_json import fields_with, without
from vidembed.progress import Progress
from vidembed.recipes import PAPERS
from vidembed.records.label_names import read_vocabulary
from vidembed.workdir.layout import Workdir
from vidembed.workdir.versions import versions

RecipeOptions = Annotated[Recipe, tyro.conf.arg(name="")]
ImaginedOptions = Annotated[Imagined, tyro.conf.arg(name="")]
ClusterOptions = Annotated[Cluster, tyro.conf.arg(name="")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfRun:
    """What verbs of a work directory have in common."""

    workdir: str
    """Folder of the run, local or gs://."""
    baselines: bool = True
    """Show raw features, popularity and chance beside the run's scores; measured where that was not
    done yet. Raw features take four times the memory of the whole table as float32, once."""
    recipe: RecipeOptions = Recipe()

    def evaluation(self, progress: Progress) -> Evaluation:
        """The evaluation of the run; raises where there is no run."""
        workdir = Workdir(self.workdir)
        recipe_of(workdir)
        with progress.stage("reading the data"):
            return Evaluation(self.recipe, workdir, progress=progress)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OnHosts(_OfRun):
    """What verbs have in common that several hosts run together."""

    cluster: ClusterOptions = Cluster()

    def join(self, **options: Any) -> Progress:
        """Waits for the other hosts; refuses those with other options, libraries or code.

        Paths may differ. So may uncommitted changes: what they change is not known, the commit is.
        """
        self.cluster.connect()
        said = without(self.recipe.to_json(), fields_with(self.recipe, PATH))
        own = ("python", "platform", "tree")
        made_by = {name: version for name, version in versions().items() if name not in own}
        options |= {"workdir": self.workdir, "baselines": self.baselines}
        agree(options | {"recipe": said, "versions": made_by})
        return Progress(quiet=jax.process_index() > 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(_OnHosts):
    """Train, or go on training: from the newest checkpoint of the work directory."""

    steal: bool = False
    """Take the work directory over from a run that still holds it."""

    def run(self) -> int:
        """Trains; 0 when all steps are done, 143 when asked to stop."""
        progress = self.join()
        workdir, recipe = Workdir(self.workdir), self.recipe
        with StopFlag() as stop, workdir.lease(steal=self.steal) as lease:
            if lease.notice:
                progress.say(lease.notice)
            with progress.stage("reading the data"), stop.raising():
                corpus = recipe.corpus.open()
            scoreboard = None

            def evaluate(step: int) -> dict[str, float]:
                nonlocal scoreboard
                scoreboard = scoreboard or Scoreboard(
                    Evaluation(recipe, workdir, corpus=corpus, progress=progress),
                    baselines=self.baselines,
                )
                # The checkpoint is saved: what is broken off is measured when the run goes on.
                with stop.raising():
                    result = scoreboard.evaluation.measure(step)
                    scoreboard.show(result)
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
class Evaluate(_OnHosts):
    """Measure checkpoints of a work directory, as they come or afterwards.

    The options of the recipe are those of the run. What may be given otherwise is the evaluator
    (its results are kept beside those of others), where the data are, and the mesh.
    """

    step: str = "latest"
    """latest, best, or a number."""
    follow: bool = False
    """Measure every checkpoint as it appears, until the run is done."""

    def run(self) -> int:
        """Measures; 0 when all that was asked for is measured."""
        progress = self.join(step=self.step, follow=self.follow)
        with StopFlag() as stop, stop.raising():
            evaluation = self.evaluation(progress)
            scoreboard = Scoreboard(evaluation, baselines=self.baselines)
            damaged = []
            if self.follow:
                damaged = evaluation.follow(scoreboard.show, stop)
            else:
                scoreboard.show(evaluation.measure(evaluation.step_named(self.step)))
            for warning in journal_warnings(evaluation):
                progress.say(f"WARNING: {warning}")
        return int(bool(damaged))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(_OfRun):
    """Write WORKDIR/report.html: curves, scores, data, and what the embedding finds."""

    vocabulary: str | None = None
    """A CSV file with Index and Name (YouTube-8M's vocabulary.csv), to name the labels."""

    def run(self) -> int:
        """Writes the report and says where it is."""
        progress = Progress()
        names = read_vocabulary(self.vocabulary) if self.vocabulary else {}
        evaluation = self.evaluation(progress)
        progress.say(f"wrote {report_run(evaluation, names, baselines=self.baselines)}")
        for line in other_evaluators(evaluation):
            progress.say(line)
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show:
    """Show the resolved recipe, and what a step costs by the compiler's word; nothing is run."""

    workdir: str | None = None
    """Begin with the recipe of this run."""
    compile: tuple[str, ...] = ()
    """TPU slices to compile for, such as v5e:8x8; no TPU is needed. None: the devices here. Stands
    behind the parts that are exchanged (task.miner:hardest)."""
    imagined: ImaginedOptions = Imagined()
    recipe: RecipeOptions = Recipe()

    def run(self) -> int:
        """Prints to the terminal."""
        if self.workdir:
            recipe_of(Workdir(self.workdir))
        show(self.recipe, self.compile, self.imagined)
        return 0


VERBS: Mapping[str, Any] = {"train": Train, "evaluate": Evaluate, "report": Report, "show": Show}


def main(recipe: Recipe | None = None, arguments: Sequence[str] | None = None, *, name: str) -> int:
    """`python -m experiments.NAME [SYSTEM] VERB ...`; an exit code.

    With this recipe, or else with one of `vidembed.recipes.NAME`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    prog = f"python -m experiments.{name}"
    if recipe is None:
        recipe, given, prog = _chosen(name, given, prog)
    words = {word: command_line.summary(verb) for word, verb in VERBS.items()}
    verb, rest = command_line.choose(words, given, prog=prog)
    return _run(verb, name, recipe, rest, prog=f"{prog} {verb}")


def of_paper(verb: str, arguments: Sequence[str], *, prog: str) -> int:
    """`vidembed VERB PAPER [SYSTEM] ...`; an exit code."""
    paper, given = command_line.choose(PAPERS, arguments, prog=prog, kind="recipe")
    recipe, given, prog = _chosen(paper, given, f"{prog} {paper}")
    return _run(verb, paper, recipe, given, prog=prog)


def _chosen(paper: str, arguments: list[str], prog: str) -> tuple[Recipe, list[str], str]:
    """The paper's recipe, if it has several the one that the first argument names; what follows."""
    module = importlib.import_module(f"vidembed.recipes.{paper}")
    recipes: Mapping[str, Recipe] = module.RECIPES
    if len(recipes) == 1:
        return next(iter(recipes.values())), arguments, prog
    word, rest = command_line.choose(
        module.ABOUT, arguments, prog=prog, kind="system", about=module.__doc__ or ""
    )
    return recipes[word], rest, f"{prog} {word}"


def _run(verb: str, paper: str, recipe: Recipe, arguments: Sequence[str], *, prog: str) -> int:
    def run() -> int:
        missing = {} if verb == "show" else {"workdir": tyro.MISSING}
        own = _recipe_of_run(verb, arguments) or recipe
        command = VERBS[verb](recipe=own, **missing)
        choices = importlib.import_module(f"vidembed.recipes.{paper}").OFFERED
        offered = Offered(choices, command)
        chosen = command_line.parse_one(offered.shadow(command), arguments, prog=prog)
        code: int = offered.plain(chosen).run()
        return code

    return guarded(run)


def _recipe_of_run(verb: str, arguments: Sequence[str]) -> Recipe | None:
    """The recipe of the run that is named: what the options are by default, but for `train`.

    A run is measured on all devices here: an evaluation has another machine than the training.
    """
    workdir = command_line.option_of(arguments, "--workdir")
    if verb == "train" or not workdir or Workdir(workdir).read_recipe() is None:
        return None
    recipe = recipe_of(Workdir(workdir))
    return recipe if verb == "show" else dataclasses.replace(recipe, mesh=MeshShape())
