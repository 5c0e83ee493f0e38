"""Build a run's report from its work directory: journal, evaluations, best embedding."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vidembed.cli.run_sections import sections
from vidembed.cli.scoreboard import below_raw
from vidembed.cli.text_section import NO_TEXTS, Texts
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.measured import Job
from vidembed.engine.old_recipes import former_evaluator
from vidembed.engine.protocols import Evaluator
from vidembed.engine.typed_json import to_json, with_defaults
from vidembed.report.captions import Captions
from vidembed.report.page import NO_CAPTIONS, write_report
from vidembed.workdir.diagnosis import Diagnosis
from vidembed.workdir.layout import Workdir


def journal_of(workdir: Workdir) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; [] if the run has none yet. A torn last line is left out.

    Raises ValueError for any other line that is not a valid record.
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
                "resume the training, which removes it"
            ) from error
        records.append(record)
    return records


def evaluations_of(workdir: Workdir, evaluator: Evaluator) -> list[dict[str, Any]]:
    """An evaluator's results for the run's checkpoints, by step."""
    measurements = workdir.measurements(evaluator.identity())
    results = [measurements.read(step) for step in sorted(measurements.steps())]
    return [result for result in results if result is not None]


def other_evaluators(job: Job) -> list[str]:
    """One line per other evaluator that measured this run: its steps, and how it differs."""
    lines, evaluator = [], job.selecting.evaluator
    for measurements in job.workdir.all_measurements():
        steps = sorted(measurements.steps())
        result = measurements.read(steps[-1]) if steps else None
        if result is None or measurements.folder == job.selecting.measurements.folder:
            continue
        theirs = result.get("evaluator") or former_evaluator(result["recipe"])
        # Fields that an older record lacks had their defaults.
        theirs, ours = with_defaults(theirs or {}, evaluator), to_json(evaluator)
        different = [f"{name} {value}" for name, value in theirs.items() if ours.get(name) != value]
        lines.append(
            f"not in the report: {len(steps)} steps measured by another evaluator "
            f"({', '.join(different)}), in {measurements.folder}"
        )
    return lines


def journal_warnings(job: EvaluationJob) -> list[str]:
    """Warnings that the run's task finds in its journal."""
    diagnosis = Diagnosis(job.recipe.task.diagnose, job.progress.say, steps=job.last_step())
    diagnosis.read(journal_of(job.workdir))
    return list(diagnosis.warnings().values())


def beside_baselines(
    result: Mapping[str, Any], baselines: Mapping[str, Any]
) -> dict[str, dict[str, dict[str, Any]]]:
    """direction → system → metric → {value, low, high}, for the run and its baselines."""
    systems = {"trained": result["scores"], **baselines["systems"]}
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for system, scores in systems.items():
        for name, interval in scores.items():
            direction, _, metric = name.rpartition("/")
            table.setdefault(direction, {}).setdefault(system, {})[metric] = interval
    return table


def run_warnings(job: EvaluationJob) -> list[str]:
    """Warnings about a run, from its journal or because it has none."""
    warnings = journal_warnings(job)
    if job.step_named("latest") and not journal_of(job.workdir):
        warnings.append(
            f"{job.workdir.metrics_file} has no training metrics: it is empty, missing or damaged"
        )
    return warnings


def data_notes(corpus: Any) -> list[str]:
    """Notes on missing modalities and unused edges, and from reading split and labels."""
    table, edges, notes = corpus.table, getattr(corpus, "edges_report", {}), []
    for modality in table.features:
        if missing := int((~table.has(modality)).sum()):
            share = f"{missing:,} of {len(table):,} videos ({missing / len(table):.1%})"
            notes.append(f"{share} have no {modality}.")
    if unknown := edges.get("unknown_edges"):
        notes.append(
            f"{unknown:,} of {edges['rows']:,} edges were dropped: they name "
            f"{edges['unknown_ids']:,} videos that are not in the table, such as "
            f"{', '.join(edges['unknown'])}."
        )
    if loops := edges.get("loops"):
        notes.append(f"{loops:,} edges were dropped: they link a video to itself.")
    if merged := edges.get("merged"):
        notes.append(f"{merged:,} edges are duplicates; their weights were summed.")
    reading = (getattr(corpus, name, ()) for name in ("split_notes", "reading_notes"))
    return [*notes, *edges.get("notes", ()), *(note for part in reading for note in part)]


def report_run(
    job: Job,
    label_kinds: Mapping[str, Mapping[int, str]],
    *,
    baselines: bool = True,
    captions: Captions = NO_CAPTIONS,
    texts: Texts = NO_TEXTS,
    evaluate_command: str = "",
    warnings: Sequence[str] = (),
) -> str:
    """Writes WORKDIR/report.html for one run, at its best checkpoint; returns the path.

    label_kinds: as returned by `read_label_kinds`. The scores are those of the evaluator that
    selects the best checkpoint; other evaluators are listed. With `baselines`, the baselines stand
    beside the scores of that step. A run without evaluation is shown at its latest checkpoint, with
    `evaluate_command`, which evaluates it. texts: sentences whose best videos are shown, for a run
    on captions; raises ValueError for any other run. warnings: problems, shown at the top.
    """
    workdir, corpus, selecting = job.workdir, job.corpus, job.selecting
    measured = evaluations_of(workdir, selecting.evaluator)
    step = job.step_named("best" if measured else "latest")
    of_outputs = sections(
        job.model(step), corpus, selecting, label_kinds, texts=texts, measured=bool(measured)
    )
    related, note, warnings = None, "", list(warnings)
    if baselines and measured:
        best = next(result for result in measured if result["step"] == step)
        record = selecting.baselines()
        related = beside_baselines(best, record)
        note = f"Trained: step {step:,}, {_standing(step, measured)}."
        # A finished run has no steps left, whichever step is best.
        below = below_raw(best, record, last=step if workdir.done() else job.last_step())
        warnings += [below.removeprefix("WARNING: ")] if below else []
    write_report(
        workdir.report_file,
        title=f"vidembed: {workdir.path.name}",
        summary=None,
        journals={workdir.path.name: journal_of(workdir)},
        evaluations={workdir.path.name: measured},
        corpora={workdir.path.name: corpus.report()},
        recipe=job.described(),
        related_videos=related,
        related_note=note,
        warnings=warnings,
        remarks=other_evaluators(job),
        step=step,
        evaluate_command="" if measured else evaluate_command,
        captions=captions,
        notes=data_notes(corpus),
        **of_outputs,
    )
    return str(workdir.report_file)


def _standing(step: int, measured: Sequence[Mapping[str, Any]]) -> str:
    """The rank of a checkpoint among those that were measured."""
    last = measured[-1]["step"]
    if len(measured) == 1:
        return "the only measured checkpoint"
    if step == last:
        return f"the last and best of {len(measured)} measured checkpoints"
    return f"the best of {len(measured)} measured checkpoints; the last is step {last:,}"
