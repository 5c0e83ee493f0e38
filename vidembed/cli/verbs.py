"""The verbs of a recipe, a command each: train, evaluate, report, show."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import tyro

from vidembed import PATH
from vidembed.cli import first_options
from vidembed.cli.imagined import Imagined
from vidembed.cli.run_report import journal_warnings, other_evaluators, report_run, run_warnings
from vidembed.cli.same_program import same_program
from vidembed.cli.scoreboard import Scoreboard
from vidembed.cli.show import show
from vidembed.distributed.agree import agree
from vidembed.distributed.join import Cluster
from vidembed.distributed.stopped import EXIT_STOPPED
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.evaluation import Evaluation, recipe_of
from vidembed.engine.field_roles import classes_of, fields_with, without
from vidembed.engine.measured import values_of_all
from vidembed.engine.protocols import Evaluator
from vidembed.engine.recipe import Recipe
from vidembed.engine.train import train
from vidembed.engine.typed_json import to_json
from vidembed.engine.watching import PATIENCE_SECONDS
from vidembed.progress import Progress
from vidembed.records.label_names import read_label_kinds
from vidembed.records.titles import read_titles
from vidembed.report.captions import Captions
from vidembed.workdir.layout import Workdir
from vidembed.workdir.versions import versions

RecipeOptions = Annotated[Recipe, tyro.conf.arg(name="")]
ImaginedOptions = Annotated[Imagined, tyro.conf.arg(name="")]
ClusterOptions = Annotated[Cluster, tyro.conf.arg(name="")]
Preset = Literal["laptop"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfRun:
    """What verbs of a work directory have in common."""

    workdir: str
    """Folder of the run, local or gs://."""
    baselines: bool = True
    """Show raw features, the closed form, popularity and chance beside the run's scores; measured
    where that was not done yet. Raw features take four times the memory of the whole table as
    float32, once."""
    recipe: RecipeOptions
    evaluator: Evaluator
    others: tyro.conf.Suppress[tuple[Evaluator, ...]] = ()
    """What they are measured by besides."""

    @property
    def evaluation(self) -> Evaluation:
        """All that they are measured by."""
        return Evaluation(evaluators=(self.evaluator, *self.others))

    def job(self, progress: Progress) -> EvaluationJob:
        """The evaluation of the run; raises where there is no run."""
        workdir = Workdir(self.workdir)
        recipe_of(workdir, classes_of(self.recipe))
        with progress.stage("reading the data"):
            return EvaluationJob(self.recipe, self.evaluation, workdir, progress=progress)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OnHosts(_OfRun):
    """What verbs have in common that several hosts run together."""

    cluster: ClusterOptions = Cluster()

    def join(self, **options: Any) -> Progress:
        """Waits for the other hosts; refuses those with other options, libraries or code.

        Paths may differ. So may uncommitted changes: what they change is not known, the commit is.
        """
        self.cluster.connect()
        asked = {"recipe": self.recipe, "evaluation": self.evaluation}
        said = {n: without(to_json(part), fields_with(part, PATH)) for n, part in asked.items()}
        own = ("python", "platform", "tree")
        made_by = {name: version for name, version in versions().items() if name not in own}
        options |= {"workdir": self.workdir, "baselines": self.baselines}
        agree(options | said | {"versions": made_by})
        return Progress(quiet=jax.process_index() > 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(_OnHosts):
    """Train, or go on training: from the newest checkpoint of the work directory."""

    FIRST: ClassVar = first_options.TRAIN

    preset: Preset | None = None
    """Sizes for a laptop without a GPU instead of the paper's. Options that are given win."""
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
                    EvaluationJob(
                        recipe, self.evaluation, workdir, corpus=corpus, progress=progress
                    ),
                    baselines=self.baselines,
                )
                # The checkpoint is saved: what is broken off is measured when the run goes on.
                with stop.raising():
                    results = scoreboard.job.measure(step)
                    scoreboard.show(results)
                return values_of_all(results)

            last = train(
                recipe,
                workdir,
                lease=lease,
                stop=stop,
                corpus=corpus,
                progress=progress,
                evaluation=self.evaluation,
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

    FIRST: ClassVar = first_options.EVALUATE

    step: str = "latest"
    """latest, best, or a number."""
    follow: bool = False
    """Measure every checkpoint as it appears, until the run is done. It may be started before the
    training, and waits for it."""
    patience_seconds: float = PATIENCE_SECONDS
    """With --follow: end with 1 when nobody has trained here for so long and the run is not done.
    Raise it where a training that was preempted comes back late."""

    def run(self) -> int:
        """Measures; 0 when all that was asked for is measured."""
        progress = self.join(step=self.step, follow=self.follow)
        with StopFlag() as stop, stop.raising():
            job = self.job(progress)
            scoreboard = Scoreboard(job, baselines=self.baselines)
            damaged = []
            if self.follow:
                patience = self.patience_seconds
                damaged = job.follow(scoreboard.show, stop, patience_seconds=patience)
            else:
                scoreboard.show(job.measure(job.step_named(self.step)))
            for warning in journal_warnings(job):
                progress.say(f"WARNING: {warning}")
        return int(bool(damaged))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(_OfRun):
    """Write WORKDIR/report.html: curves, scores, data, and what the embedding finds."""

    FIRST: ClassVar = first_options.REPORT

    vocabulary: str | None = None
    """A CSV file with Index and Name (YouTube-8M's vocabulary.csv), to name the labels; its
    Vertical1 makes slices of verticals."""
    titles: str | None = None
    """Titles of the videos: `id, title`, Parquet or CSV."""
    url_template: str = ""
    """Link each video to its page: 'https://example.com/watch?v={id}'."""
    thumbnail_template: str = ""
    """Show a picture of each video: 'https://example.com/{id}.jpg'. The browser that opens the
    report loads them; nothing is fetched before."""

    def run(self) -> int:
        """Writes the report and says where it is."""
        progress = Progress()
        captions = Captions(
            titles=read_titles(self.titles) if self.titles else {},
            link=self.url_template,
            picture=self.thumbnail_template,
        )
        names = read_label_kinds(self.vocabulary) if self.vocabulary else {}
        job = self.job(progress)
        command = "" if job.selecting.best() is not None else same_program("evaluate", self.workdir)
        place = report_run(
            job,
            names,
            baselines=self.baselines,
            captions=captions,
            evaluate_command=command,
            warnings=run_warnings(job),
        )
        progress.say(f"wrote {place}")
        if command:
            progress.say(f"no evaluation yet, so there are no scores in it: run {command}")
        for line in other_evaluators(job):
            progress.say(line)
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show:
    """Show the resolved recipe, and what a step costs by the compiler's word; nothing is run."""

    FIRST: ClassVar = first_options.SHOW

    workdir: str | None = None
    """Begin with the recipe of this run."""
    preset: Preset | None = None
    """Sizes for a laptop without a GPU instead of the paper's. Options that are given win."""
    compile: tuple[str, ...] = ()
    """TPU slices to compile for, such as v5e:8x8; no TPU is needed. None: the devices here. Stands
    behind the parts that are exchanged (task.miner:hardest)."""
    imagined: ImaginedOptions = Imagined()
    recipe: RecipeOptions

    def run(self) -> int:
        """Prints to the terminal."""
        if self.workdir:
            recipe_of(Workdir(self.workdir), classes_of(self.recipe))
        show(self.recipe, self.compile, self.imagined)
        return 0


VERBS: Mapping[str, Any] = {"train": Train, "evaluate": Evaluate, "report": Report, "show": Show}
