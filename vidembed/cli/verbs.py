"""The verbs of a recipe, one command each: train, evaluate, report, show."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import jax
import tyro

from vidembed import PATH
from vidembed.cli import first_options
from vidembed.cli.imagined import Imagined
from vidembed.cli.report_options import ReportOptions
from vidembed.cli.run_report import journal_warnings, other_evaluators, report_run, run_warnings
from vidembed.cli.same_program import same_program
from vidembed.cli.scoreboard import Scoreboard
from vidembed.cli.show import show
from vidembed.cli.text_section import texts_of
from vidembed.distributed.agree import agree
from vidembed.distributed.join import Cluster
from vidembed.distributed.stopped import EXIT_STOPPED
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.evaluation import Evaluation, recipe_of
from vidembed.engine.field_roles import classes_of, fields_with, without
from vidembed.engine.measured import values_of_all
from vidembed.engine.passes import Lengths
from vidembed.engine.protocols import Evaluator
from vidembed.engine.recipe import Recipe
from vidembed.engine.train import train
from vidembed.engine.typed_json import to_json
from vidembed.engine.watching import PATIENCE_SECONDS
from vidembed.progress import Progress
from vidembed.workdir.layout import Workdir
from vidembed.workdir.versions import versions

RecipeOptions = Annotated[Recipe, tyro.conf.arg(name="")]
LengthOptions = Annotated[Lengths, tyro.conf.arg(name="")]
ImaginedOptions = Annotated[Imagined, tyro.conf.arg(name="")]
ClusterOptions = Annotated[Cluster, tyro.conf.arg(name="")]


class Preset(str):
    """The name of a set of options; the command line offers those of the recipe's PRESETS."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfRun:
    """Options of all verbs that need a work directory."""

    workdir: str
    """Folder of the run, local or gs://."""
    baselines: bool = True
    """Show raw features, the closed form, popularity and chance beside the run's scores. They are
    measured once; raw features take four times the memory of the whole table as float32."""
    recipe: RecipeOptions
    evaluator: Evaluator
    others: tyro.conf.Suppress[tuple[Evaluator, ...]] = ()
    """Further evaluators."""

    @property
    def evaluation(self) -> Evaluation:
        """All evaluators."""
        return Evaluation(evaluators=(self.evaluator, *self.others))

    def job(self, progress: Progress) -> EvaluationJob:
        """The evaluation of the run; raises if there is no run."""
        workdir = Workdir(self.workdir)
        recipe_of(workdir, classes_of(self.recipe))
        with progress.stage("reading the data"):
            return EvaluationJob(self.recipe, self.evaluation, workdir, progress=progress)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OnHosts(_OfRun):
    """Options of verbs that several hosts run together."""

    cluster: ClusterOptions = Cluster()

    def join(self, **options: Any) -> Progress:
        """Waits for the other hosts; refuses hosts with other options, libraries or code.

        Paths may differ. Uncommitted changes may differ, too: only the commit is compared.
        """
        self.cluster.connect()
        parts = {"recipe": self.recipe, "evaluation": self.evaluation}
        shared = {n: without(to_json(part), fields_with(part, PATH)) for n, part in parts.items()}
        of_host = ("python", "platform", "tree")
        made_by = {name: version for name, version in versions().items() if name not in of_host}
        options |= {"workdir": self.workdir, "baselines": self.baselines}
        agree(options | shared | {"versions": made_by})
        return Progress(quiet=jax.process_index() > 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(_OnHosts):
    """Train, or resume training from the newest checkpoint in the work directory."""

    FIRST: ClassVar = first_options.TRAIN

    preset: Preset | None = None
    """A set of options, such as sizes for a laptop without a GPU. Explicit options take
    precedence."""
    lengths: LengthOptions = Lengths()
    steal: bool = False
    """Take over the work directory from a run that still holds it."""

    def run(self) -> int:
        """Trains; returns 0 when all steps are done, 143 when stopped by request."""
        progress = self.join(lengths=to_json(self.lengths))
        workdir = Workdir(self.workdir)
        with StopFlag() as stop, workdir.lease(steal=self.steal) as lease:
            if lease.notice:
                progress.say(lease.notice)
            with progress.stage("reading the data"), stop.raising():
                corpus = self.recipe.corpus.open()
                recipe, words = self.lengths.in_steps(self.recipe, corpus)
            if words:
                progress.say(words)
            scoreboard = None

            def evaluate(step: int) -> dict[str, float]:
                nonlocal scoreboard
                scoreboard = scoreboard or Scoreboard(
                    EvaluationJob(
                        recipe, self.evaluation, workdir, corpus=corpus, progress=progress
                    ),
                    baselines=self.baselines,
                )
                # The checkpoint is saved: an interrupted evaluation is repeated on resume.
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
            progress.say(f"stopped and saved at step {last}; the same command continues from there")
            return EXIT_STOPPED
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(_OnHosts):
    """Evaluate checkpoints of a work directory, as they appear or afterwards.

    The recipe is that of the run. You may change the evaluator (its results are kept beside those
    of others), the paths of the data, and the mesh.
    """

    FIRST: ClassVar = first_options.EVALUATE

    step: str = "latest"
    """latest, best, or a number."""
    follow: bool = False
    """Measure every checkpoint as it appears, until the run is done. It may start before the
    training, and waits for it."""
    patience_seconds: float = PATIENCE_SECONDS
    """With --follow: exit with 1 if no training is active for this long and the run is not done.
    Raise it if preempted training may resume late."""

    def run(self) -> int:
        """Measures; returns 0 when every requested checkpoint is measured."""
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
class Report(_OfRun, ReportOptions):
    """Write WORKDIR/report.html: curves, scores, data, and examples."""

    FIRST: ClassVar = first_options.REPORT

    texts: tuple[str, ...] = ()
    """Of a run on captions (jemc): sentences whose best videos are shown, beside those of random
    captions."""

    def run(self) -> int:
        """Writes the report and prints its path."""
        progress = Progress()
        captions, label_kinds = self.captions(), self.label_kinds()
        job = self.job(progress)
        command = "" if job.selecting.best() is not None else same_program("evaluate", self.workdir)
        place = report_run(
            job,
            label_kinds,
            baselines=self.baselines,
            captions=captions,
            texts=texts_of(job, self.texts),
            evaluate_command=command,
            warnings=run_warnings(job),
        )
        progress.say(f"wrote {place}")
        if command:
            progress.say(
                f"the report has no scores, because nothing is evaluated yet: run {command}"
            )
        for line in other_evaluators(job):
            progress.say(line)
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show:
    """Show the resolved recipe and the compiler's estimate of a step's cost; nothing is run."""

    FIRST: ClassVar = first_options.SHOW

    workdir: str | None = None
    """Start from the recipe of this run."""
    preset: Preset | None = None
    """A set of options, such as sizes for a laptop without a GPU. Explicit options take
    precedence."""
    compile: tuple[str, ...] = ()
    """TPU slices to compile for, such as v5e:8x8; no TPU is needed. Default: the local devices."""
    lengths: LengthOptions = Lengths()
    imagined: ImaginedOptions = Imagined()
    recipe: RecipeOptions

    def run(self) -> int:
        """Prints to the terminal."""
        if self.workdir:
            recipe_of(Workdir(self.workdir), classes_of(self.recipe))
        show(self.recipe, self.compile, self.imagined, self.lengths)
        return 0


VERBS: Mapping[str, Any] = {"train": Train, "evaluate": Evaluate, "report": Report, "show": Show}
