"""`vidembed evaluate|report|show composite`: evaluate, report or show a composite."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro

from vidembed import PATH, files
from vidembed.cli import command_line, names
from vidembed.cli.guard import guarded
from vidembed.cli.offered import Offered
from vidembed.cli.report_options import ReportOptions
from vidembed.cli.run_report import other_evaluators, report_run
from vidembed.cli.scoreboard import Scoreboard, score_lines
from vidembed.corpora.watched import CorpusPaths
from vidembed.deploy.composite import ABOUT
from vidembed.deploy.composite_job import STEP, CompositeJob, check_composite, trained_part
from vidembed.engine.evaluation import Evaluation, evaluation_of, recipe_of
from vidembed.engine.field_roles import located
from vidembed.engine.protocols import CorpusOptions, Evaluator
from vidembed.progress import Progress
from vidembed.recipes import cdml, linear
from vidembed.workdir.layout import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfComposite:
    """Options that the verbs share."""

    workdir: Annotated[str, PATH]
    """Folder of the composite, made by `compose`."""
    baselines: bool = True
    """Show raw features, the closed form, popularity and chance beside the composite's scores."""
    corpus: CorpusOptions
    evaluator: Evaluator
    others: tyro.conf.Suppress[tuple[Evaluator, ...]] = ()
    """Further evaluators."""

    def job(self, progress: Progress) -> CompositeJob:
        """The evaluation; raises if there is no composite."""
        evaluation = Evaluation(evaluators=(self.evaluator, *self.others))
        with progress.stage("reading the data"):
            return CompositeJob(self.workdir, evaluation, self.corpus, progress=progress)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateComposite(_OfComposite):
    """Measure a composite on the test videos of its runs' corpus.

    By default it uses the evaluator of its first work directory. Results go to
    WORKDIR/evaluation, as for a run, under step 0.
    """

    def run(self) -> int:
        """Measures and prints the scores."""
        job = self.job(Progress())
        Scoreboard(job, baselines=self.baselines).show(job.measure(STEP))
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportComposite(_OfComposite, ReportOptions):
    """Write WORKDIR/report.html of a composite: scores, data, and examples of related videos."""

    def run(self) -> int:
        """Measures what is not yet measured, writes the report and prints its path."""
        progress = Progress()
        captions, label_kinds = self.captions(), self.label_kinds()
        job = self.job(progress)
        job.measure(STEP)
        place = report_run(job, label_kinds, baselines=self.baselines, captions=captions)
        progress.say(f"wrote {place}")
        for line in other_evaluators(job):
            progress.say(line)
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowComposite:
    """Show the runs of a composite and its scores."""

    workdir: str
    """Folder of the composite."""

    def run(self) -> int:
        """Prints to the terminal."""
        check_composite(self.workdir)
        workdir, progress = Workdir(self.workdir), Progress()
        about = files.read_json(workdir.path / ABOUT)
        progress.say(json.dumps(about, indent=1))
        for measurements in workdir.all_measurements():
            result = measurements.read(STEP)
            if result is not None and result["spaces"].get("video") == about["space"]:
                for line in score_lines(result):
                    progress.say(line)
        return 0


VERBS: Mapping[str, Any] = {"evaluate": EvaluateComposite, "report": ReportComposite}


def main(verb: str, arguments: Sequence[str], *, prog: str) -> int:
    """`vidembed VERB composite ...`; returns an exit code."""
    if verb == "show":
        return command_line.start(ShowComposite, arguments, prog=prog)
    shadows: list[Any] = []

    def run() -> int:
        place = command_line.option_of(arguments, "--workdir")
        defaults = VERBS[verb](workdir=tyro.MISSING, **_known(place))
        offered = Offered(cdml.OFFERED, defaults)
        shadows.append(offered.shadow(defaults))
        chosen = command_line.parse_one(shadows[0], arguments, prog=prog)
        code: int = located(offered.plain(chosen)).run()
        return code

    def as_typed(message: str) -> str:
        return names.with_options(shadows[0], message) if shadows else message

    return guarded(run, stops=not command_line.asks_help(arguments), as_typed=as_typed)


def _known(place: str | None) -> dict[str, Any]:
    """Corpus and evaluators of the first run that has them, else those of the closed form."""
    corpus: CorpusOptions = CorpusPaths()
    evaluation = linear.EVALUATION
    if place:
        check_composite(place)
        if (trained := trained_part(place)) is not None:
            corpus = recipe_of(trained).corpus
            evaluation = evaluation_of(trained) or evaluation
    first, *others = evaluation.in_order
    return {"corpus": corpus, "evaluator": first, "others": tuple(others)}
