"""The report of what a work directory holds: its journal, its evaluations, its last embedding."""

import json
from collections.abc import Mapping
from typing import Any

from vidembed.evaluate import Evaluation
from vidembed.report.gallery import gallery
from vidembed.report.page import write_report
from vidembed.workdir import Workdir


def journal_of(workdir: Workdir) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; none before the run wrote any. A torn last line is left out."""
    if not workdir.metrics_file.exists():
        return []
    lines = workdir.metrics_file.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def evaluations_of(workdir: Workdir) -> list[dict[str, Any]]:
    """What was measured of the run's checkpoints, by step."""
    steps = sorted(workdir.measured_steps())
    return [workdir.read_json(workdir.evaluation_file(step)) for step in steps]


def report_run(evaluation: Evaluation, label_names: Mapping[int, str]) -> str:
    """Writes WORKDIR/report.html for one run, at its latest checkpoint; returns the path."""
    workdir, corpus = evaluation.workdir, evaluation.corpus
    embeddings = evaluation.embed(evaluation.restore(evaluation.step_named("latest")))
    write_report(
        workdir.report_file,
        title=f"vidembed: {workdir.path.name}",
        summary=None,
        journals={workdir.path.name: journal_of(workdir)},
        evaluations={workdir.path.name: evaluations_of(workdir)},
        corpora={workdir.path.name: corpus.report()},
        gallery=gallery(embeddings, corpus, label_names),
        recipe=evaluation.recipe.to_json(),
    )
    return str(workdir.report_file)
