"""The command line of an experiment: `python -m experiments.NAME {train,evaluate,report,show} ...`.

Exit codes: 0 done; 1 refused or failed, with one message; 2 a mistake in the command line;
143 asked to stop (SIGTERM, Ctrl-C), and saved what there was: the same command goes on from there.
"""

import dataclasses
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import tyro

from vidembed import command_line
from vidembed.checkpoint import CheckpointError
from vidembed.cluster import Cluster
from vidembed.evaluate import Evaluation, recipe_of, values_of
from vidembed.field_roles import differing_on_hosts, without
from vidembed.hosts import agree, is_first_host, lost_host
from vidembed.imagined import Imagined
from vidembed.lease import LeaseHeldError, LeaseLostError
from vidembed.mesh import MeshShape
from vidembed.progress import Progress
from vidembed.recipe import Recipe
from vidembed.records.vocabulary import read_vocabulary
from vidembed.run_report import journal_warnings, other_evaluators, report_run
from vidembed.scoreboard import Scoreboard
from vidembed.show import show
from vidembed.stopping import EXIT_STOPPED, StopFlag, StoppedError
from vidembed.train import NonFiniteLoss, train
from vidembed.versions import versions
from vidembed.workdir import Workdir

FAULTS = (
    ValueError,
    OSError,
    # What gs:// and s3:// need is an extra, and may be missing.
    ImportError,
    CheckpointError,
    LeaseHeldError,
    LeaseLostError,
    NonFiniteLoss,
)
"""What a user can mend: shown as one message. Anything else is a bug, and keeps its traceback."""

RecipeOptions = Annotated[Recipe, tyro.conf.arg(name="")]
ImaginedOptions = Annotated[Imagined, tyro.conf.arg(name="")]
ClusterOptions = Annotated[Cluster, tyro.conf.arg(name="")]
EXIT_INTERRUPTED = 130
LAST_WORDS_SECONDS = 2.0
"""The first process carries what binds the others: at a fault it lets them speak before it ends."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train, or go on training: from the newest checkpoint of the work directory."""

    workdir: str
    """Folder of the run, local or gs://."""
    steal: bool = False
    """Take the work directory over from a run that still holds it."""
    baselines: bool = True
    """Show raw features, popularity and chance beside the scores that are measured here. Raw
    features take four times the memory of the whole table as float32, once."""
    cluster: ClusterOptions = Cluster()
    recipe: RecipeOptions = Recipe()

    def run(self) -> int:
        """Trains; 0 when all steps are done, 143 when asked to stop."""
        self.cluster.connect()
        workdir, recipe = Workdir(self.workdir), self.recipe
        _agree(self.workdir, recipe, baselines=self.baselines)
        progress = Progress(quiet=jax.process_index() > 0)
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
class Evaluate:
    """Measure checkpoints of a work directory, as they come or afterwards.

    The options of the recipe are those of the run. What may be given otherwise is the evaluator
    (its results are kept beside those of others), where the data are, and the mesh.
    """

    workdir: str
    """Folder of the run, local or gs://."""
    step: str = "latest"
    """latest, best, or a number."""
    follow: bool = False
    """Measure every checkpoint as it appears, until the run is done."""
    baselines: bool = True
    """Also measure raw features, popularity and chance, once, and show them beside the run. Raw
    features take four times the memory of the whole table as float32."""
    cluster: ClusterOptions = Cluster()
    recipe: RecipeOptions = Recipe()

    def run(self) -> int:
        """Measures; 0 when all that was asked for is measured."""
        self.cluster.connect()
        _agree(
            self.workdir,
            self.recipe,
            step=self.step,
            follow=self.follow,
            baselines=self.baselines,
        )
        progress = Progress(quiet=jax.process_index() > 0)
        with StopFlag() as stop, stop.raising():
            evaluation = _evaluation(self.workdir, self.recipe, progress)
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
class Report:
    """Write WORKDIR/report.html: curves, scores, data, and what the embedding finds."""

    workdir: str
    """Folder of the run, local or gs://."""
    vocabulary: str | None = None
    """A CSV file with Index and Name (YouTube-8M's vocabulary.csv), to name the labels."""
    baselines: bool = True
    """Show raw features, popularity and chance beside the run; measured where that was not done."""
    recipe: RecipeOptions = Recipe()

    def run(self) -> int:
        """Writes the report and says where it is."""
        progress = Progress()
        names = read_vocabulary(self.vocabulary) if self.vocabulary else {}
        evaluation = _evaluation(self.workdir, self.recipe, progress)
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


def main(recipe: Recipe, arguments: Sequence[str] | None = None, *, name: str) -> int:
    """Runs the verb that the command line names, with `recipe` as the default; an exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def run() -> int:
        own = _recipe_of_run(given) or recipe
        verbs = {
            "train": Train(workdir=tyro.MISSING, recipe=recipe),
            "evaluate": Evaluate(workdir=tyro.MISSING, recipe=own),
            "report": Report(workdir=tyro.MISSING, recipe=own),
            "show": Show(recipe=own),
        }
        chosen = command_line.parse(verbs, given, prog=f"python -m experiments.{name}")
        code: int = chosen.run()
        return code

    return guarded(run)


def guarded(run: Callable[[], int]) -> int:
    """What `run()` returns, or 1 after showing a fault that the user can mend as one message.

    VIDEMBED_TRACEBACK=1 shows where it came from. With several hosts a fault ends this process at
    once: the others wait in a collective, and learn of it when this one falls silent.
    """
    try:
        return run()
    except StoppedError as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr, flush=True)
        return EXIT_STOPPED
    except KeyboardInterrupt:
        if not jax.distributed.is_initialized():
            raise
        # The second Ctrl-C. Python's own end would wait for the other hosts.
        print("interrupted", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(EXIT_INTERRUPTED)
    except Exception as error:
        lost, several = lost_host(error), jax.process_count() > 1
        known = lost is not None or isinstance(error, FAULTS)
        if not known and not several:
            raise
        if not known or os.environ.get("VIDEMBED_TRACEBACK"):
            traceback.print_exc()
        if known:
            words = f"LostHostError: {lost}" if lost else f"{type(error).__name__}: {error}"
            if isinstance(error, ImportError):
                words += "; what gs:// and s3:// need is an extra: pip install -e '.[gcs]' or [s3]"
            print(words, file=sys.stderr, flush=True)
        if several:
            sys.stdout.flush()
            time.sleep(LAST_WORDS_SECONDS if is_first_host() else 0)
            os._exit(1)
        return 1


def _agree(workdir: str, recipe: Recipe, **options: Any) -> None:
    """Refuses hosts that were started with other options, libraries or code than the rest.

    Paths may differ. So may uncommitted changes: what they change is not known, the commit is.
    """
    said = without(recipe.to_json(), differing_on_hosts(recipe))
    own = ("python", "platform", "tree")
    made_by = {name: version for name, version in versions().items() if name not in own}
    agree({"workdir": workdir, **options, "recipe": said, "versions": made_by})


def _recipe_of_run(arguments: Sequence[str]) -> Recipe | None:
    """The recipe of the run that is named: what the options are by default, but for `train`.

    A run is measured on all devices here: an evaluation has another machine than the training.
    """
    verb, workdir = arguments[:1], command_line.option_of(arguments, "--workdir")
    if verb not in (["evaluate"], ["report"], ["show"]) or not workdir:
        return None
    if Workdir(workdir).read_recipe() is None:
        return None
    recipe = recipe_of(Workdir(workdir))
    return recipe if verb == ["show"] else dataclasses.replace(recipe, mesh=MeshShape())


def _evaluation(path: str, recipe: Recipe, progress: Progress) -> Evaluation:
    """The evaluation of a run by `recipe`; raises where there is no run."""
    workdir = Workdir(path)
    recipe_of(workdir)
    with progress.stage("reading the data"):
        return Evaluation(recipe, workdir, progress=progress)
