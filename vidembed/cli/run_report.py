"""The report of what a work directory holds: its journal, its evaluations, its best embedding."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vidembed.cli.scoreboard import below_raw
from vidembed.corpora.watched import Corpus
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.measured import Job
from vidembed.engine.old_recipes import former_evaluator
from vidembed.engine.protocols import Evaluator
from vidembed.engine.typed_json import to_json, with_defaults
from vidembed.report.captions import Captions
from vidembed.report.clusters import clusters
from vidembed.report.embedding_map import embedding_map
from vidembed.report.gallery import gallery
from vidembed.report.page import NO_CAPTIONS, write_report
from vidembed.workdir.diagnosis import Diagnosis
from vidembed.workdir.layout import Workdir


def journal_of(workdir: Workdir) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; none before the run wrote any. A torn last line is left out.

    Raises ValueError for another line that is none of a journal.
    """
    if not workdir.metrics_file.exists():
        return []
    records = []
    for number, line in enumerate(workdir.metrics_file.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            record = json.loads(line)
            record["step"], record["kind"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{workdir.metrics_file}: line {number} is damaged ({line[:40]!r}): remove it, or "
                "go on with the training, which does"
            ) from error
        records.append(record)
    return records


def evaluations_of(workdir: Workdir, evaluator: Evaluator) -> list[dict[str, Any]]:
    """What an evaluator measured of the run's checkpoints, by step."""
    measurements = workdir.measurements(evaluator.identity())
    found = [measurements.read(step) for step in sorted(measurements.steps())]
    return [result for result in found if result is not None]


def other_evaluators(job: Job) -> list[str]:
    """A line for each other evaluator that measured this run: its steps, and how it differs."""
    lines, evaluator = [], job.selecting.evaluator
    for other in job.workdir.all_measurements():
        steps = sorted(other.steps())
        result = other.read(steps[-1]) if steps else None
        if result is None or other.folder == job.selecting.measurements.folder:
            continue
        theirs = result.get("evaluator") or former_evaluator(result["recipe"])
        # What an older record does not name had its default.
        theirs, ours = with_defaults(theirs or {}, evaluator), to_json(evaluator)
        different = [f"{name} {value}" for name, value in theirs.items() if ours.get(name) != value]
        lines.append(
            f"not in the report: {len(steps)} steps measured by another evaluator "
            f"({', '.join(different)}), in {other.folder}"
        )
    return lines


def journal_warnings(job: EvaluationJob) -> list[str]:
    """What the run's task reads out of its journal, in words."""
    diagnosis = Diagnosis(job.recipe.task.diagnose, job.progress.say, steps=job.last_step())
    diagnosis.read(journal_of(job.workdir))
    return list(diagnosis.warnings().values())


def beside_baselines(
    result: Mapping[str, Any], baselines: Mapping[str, Any]
) -> dict[str, dict[str, dict[str, Any]]]:
    """direction → system → metric → {value, low, high}: the run, and what needs no training."""
    systems = {"trained": result["scores"], **baselines["systems"]}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for system, scores in systems.items():
        for name, interval in scores.items():
            direction, _, metric = name.partition("/")
            found.setdefault(direction, {}).setdefault(system, {})[metric] = interval
    return found


def run_warnings(job: EvaluationJob) -> list[str]:
    """What is wrong with a run, in words, from its journal or the lack of one."""
    warnings = journal_warnings(job)
    if job.step_named("latest") and not journal_of(job.workdir):
        warnings.append(
            f"{job.workdir.metrics_file} has no measures of the training: it is empty, lost or "
            "damaged"
        )
    return warnings


def data_notes(corpus: Corpus) -> list[str]:
    """What videos lack and which edges were not used, in words."""
    table, edges, notes = corpus.table, corpus.edges_report, []
    for modality in table.features:
        if lacking := int((~table.has(modality)).sum()):
            share = f"{lacking:,} of {len(table):,} videos ({lacking / len(table):.1%})"
            notes.append(f"{share} have no {modality}.")
    if unknown := edges.get("unknown_edges"):
        notes.append(
            f"{unknown:,} of {edges['rows']:,} edges were dropped: they name "
            f"{edges['unknown_ids']:,} videos that the table lacks, such as "
            f"{', '.join(edges['unknown'])}."
        )
    if loops := edges.get("loops"):
        notes.append(f"{loops:,} edges were dropped: they join a video with itself.")
    if merged := edges.get("merged"):
        notes.append(f"{merged:,} edges repeat another one; their weights were added up.")
    return [*notes, *edges.get("notes", ()), *corpus.split_notes]


def report_run(
    job: Job,
    label_kinds: Mapping[str, Mapping[int, str]],
    *,
    baselines: bool = True,
    captions: Captions = NO_CAPTIONS,
    evaluate_command: str = "",
    warnings: Sequence[str] = (),
) -> str:
    """Writes WORKDIR/report.html for one run, at its best checkpoint; returns the path.

    label_kinds: as returned by `read_label_kinds`. The scores are those of the evaluator that names
    the best checkpoint; other evaluators are listed. With `baselines` they stand beside those of
    that step. A run without evaluation is shown at its latest checkpoint, with `evaluate_command`,
    which evaluates it. warnings: problems of the run, shown at the top.
    """
    workdir, corpus, selecting = job.workdir, job.corpus, job.selecting
    label_names = label_kinds.get("label", {})
    model = job.model(job.step_named("latest"))
    if "video" not in list(model) or not hasattr(corpus, "table"):
        raise ValueError(
            "the report shows videos that are related: it needs an output `video` and a feature "
            f"table, which this run of {', '.join(model) or 'no output'} on "
            f"{type(corpus).__name__} does not have"
        )
    slices = getattr(selecting.evaluator, "slices", None)
    measured = evaluations_of(workdir, selecting.evaluator)
    step = job.step_named("best" if measured else "latest")
    embeddings = job.model(step)["video"](corpus.table)
    related, note, warnings = None, "", list(warnings)
    if baselines and measured:
        best = next(result for result in measured if result["step"] == step)
        record = selecting.baselines()
        related = beside_baselines(best, record)
        note = f"Trained: step {step:,}, {_standing(step, measured)}."
        # Once the run is done, its best step has none left, wherever it is.
        below = below_raw(best, record, last=step if workdir.done() else job.last_step())
        warnings += [below.removeprefix("WARNING: ")] if below else []
    write_report(
        workdir.report_file,
        title=f"vidembed: {workdir.path.name}",
        summary=None,
        journals={workdir.path.name: journal_of(workdir)},
        evaluations={workdir.path.name: measured},
        corpora={workdir.path.name: corpus.report()},
        gallery=gallery(embeddings, corpus, label_names),
        recipe=job.described(),
        clusters=clusters(corpus, label_names),
        related_videos=related,
        related_note=note,
        slices=slices(embeddings, corpus, label_kinds) if slices and measured else {},
        warnings=warnings,
        remarks=other_evaluators(job),
        step=step,
        evaluate_command="" if measured else evaluate_command,
        captions=captions,
        embedding_map=embedding_map(embeddings, corpus, label_names),
        notes=data_notes(corpus),
    )
    return str(workdir.report_file)


def _standing(step: int, measured: Sequence[Mapping[str, Any]]) -> str:
    """How a checkpoint stands among those that were measured."""
    last = measured[-1]["step"]
    if len(measured) == 1:
        return "the only one that is measured"
    if step == last:
        return f"the last and best of {len(measured)} that are measured"
    return f"the best of {len(measured)} that are measured; the last is step {last:,}"
