"""Write the report of one or several runs: a single, self-contained HTML file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from etils import epath

from vidembed import files
from vidembed.report import charts, codes, meanings, results, runs, wording
from vidembed.report import sweep as sweeps
from vidembed.report.captions import Captions

FILTERS = (
    "score", "signed", "number", "breaks", "metric", "direction", "asked", "measured", "is_part",
)  # fmt: skip
"""The functions of `wording` that the templates use."""
CLASSES = "classes"
"""What the videos of a list of clips have."""
NO_CAPTIONS = Captions()
"""Videos are shown by their ids."""


def write_report(
    path: epath.PathLike,
    *,
    title: str,
    summary: Mapping[str, Any] | None,
    journals: Mapping[str, Sequence[Mapping[str, Any]]],
    evaluations: Mapping[str, Sequence[Mapping[str, Any]]],
    corpora: Mapping[str, Mapping[str, Any]],
    gallery: Sequence[Mapping[str, Any]],
    recipe: Mapping[str, Any] | None,
    clusters: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Any] | None = None,
    coded: Sequence[Mapping[str, Any]] = (),
    related_videos: Mapping[str, Any] | None = None,
    related_note: str = "",
    slices: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    text_queries: Mapping[str, Any] | None = None,
    clips: Sequence[Mapping[str, Any]] = (),
    warnings: Sequence[str] = (),
    remarks: Sequence[str] = (),
    step: int | None = None,
    evaluate_command: str = "",
    captions: Captions = NO_CAPTIONS,
    embedding_map: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write report.html: results, neighbours, map, clusters, checkpoints, curves, data, recipe.

    summary      several systems, as in the quickstart's summary.json; None for a single run
    journals     run → lines of its metrics.jsonl
    evaluations  run → its evaluation files: `step`, `scores` {metric: {value, low, high}}, and
                 `selection`, whose `name` is the score that compares checkpoints
    corpora      name → `Corpus.report()`
    gallery      from `vidembed.report.gallery.gallery`
    recipe       `Recipe.to_json()`
    clusters     from `vidembed.report.clusters.clusters`, for the first of the corpora
    sweep        the result of a sweep's `gather`
    coded        scores of coded vectors, for `vidembed.report.codes.section`
    related_videos   for a single run: direction → system → metric → {value, low, high}, as in a
                     summary; a direction may be a part of the videos, for predicted labels;
                     related_note names the checkpoint of the trained system
    slices       direction → kind → name → `evaluators.slices.Slice`, of the same checkpoint
    labels       for predicted labels, each may be absent: `calibration` from
                 `vidembed.report.reliability`, `classes` from `frequent_classes`, `examples` from
                 `label_examples`
    text_queries for a search by words: `queries`, from `vidembed.report.text_queries`, and
                 `searched`, the number of videos
    clips        for a run on clips: from `vidembed.report.clip_gallery.clip_gallery`
    warnings     problems of the run, in words, shown at the top
    remarks      notes on the measured checkpoints, such as those not shown
    step         for a single run: the checkpoint whose scores are at the top; None: the last one
    evaluate_command   for a run without evaluations: the command that measures it
    captions     titles, links and pictures of videos
    embedding_map   from `vidembed.report.embedding_map.embedding_map`
    notes        notes on the data, such as videos that lack a modality

    Sections without content are omitted. If any part has `simulated_sessions`, or a corpus
    `simulated_videos`, the page says so at the top and at each table and chart. The page loads
    nothing from the network except the pictures of `captions`, and equal arguments give equal
    bytes. The file is replaced atomically.
    """
    summary = summary or {}
    parts = [
        summary,
        clusters or {},
        *corpora.values(),
        *(result for results_of_run in evaluations.values() for result in results_of_run),
    ]
    panels = results.panels(summary.get("related_videos") or related_videos or {})
    part_panels = [panel for panel in panels if wording.is_part(panel["direction"])]
    text_panels = part_panels if any(wording.is_text(p["direction"]) for p in part_panels) else []
    of = _of(corpora)
    page = _environment().get_template("report.html")
    text = page.render(
        title=title,
        simulated=_simulated(parts),
        seeds=summary.get("seeds"),
        headlines=results.headlines(summary)
        or results.run_headlines(evaluations, related_videos or {}, step),
        warnings=warnings,
        evaluate_command=evaluate_command,
        captions=captions,
        embedding_map=embedding_map,
        notes=notes,
        panels=[panel for panel in panels if panel not in part_panels],
        part_panels=[] if text_panels or of == CLASSES else part_panels,
        clip_panels=part_panels if of == CLASSES else [],
        text_panels=text_panels,
        meanings=meanings.of_panels(part_panels[:1]),
        text_meanings=meanings.of_panels(text_panels),
        labels=labels or {},
        text_queries=text_queries,
        clips=clips,
        related_note=related_note,
        slices=slices,
        audio=summary.get("audio_contribution") or {},
        control=results.control(
            summary.get("permuted_control") or {}, summary.get("permuted_difference") or []
        ),
        sweep=sweeps.section(sweep) if sweep else None,
        codes=codes.section(coded) if coded else None,
        curves=runs.training_curves(journals),
        curves_legend=runs.legend([name for name, lines in journals.items() if lines]),
        last=runs.last_measures(journals),
        checkpoints=runs.checkpoint_charts(evaluations),
        checkpoints_legend=runs.legend(
            [name for name, measured in evaluations.items() if measured]
        ),
        checkpoint_tables=runs.checkpoint_tables(evaluations),
        chosen=runs.chosen_by(evaluations),
        remarks=remarks,
        corpora=list(corpora),
        counts=counts(corpora),
        degrees=degrees(corpora),
        of=of,
        stages=_stages(summary.get("seconds") or {}),
        gallery=gallery,
        clusters=clusters,
        details={
            "Versions": summary.get("versions"),
            "Recipe": recipe,
            "Summary, as in summary.json": summary,
            "Sweep": sweep,
        },
    )
    # Character references keep the page correct in any assumed encoding.
    files.write_text(path, text.encode("ascii", "xmlcharrefreplace").decode())


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(wording, name) for name in FILTERS}
    environment.filters["json_text"] = lambda value: json.dumps(value, indent=2, default=str)
    return environment


def counts(corpora: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Table rows (`name`, text `cells`), one column per corpus: of videos, then of relations."""
    flat = [
        {
            key: value
            for part in (report, report.get("relations") or {})
            for key, value in part.items()
            if not isinstance(value, Mapping)
        }
        for report in corpora.values()
    ]
    keys = dict.fromkeys(key for report in flat for key in report)
    return [wording.row(key, [report.get(key) for report in flat]) for key in keys]


def degrees(corpora: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One chart (`title`, `svg`) per corpus: videos by their number of relations."""
    drawn = []
    for name, report in corpora.items():
        if histogram := (report.get("relations") or {}).get("degree_histogram"):
            title = f"Videos by their number of relations, {name}"
            svg = charts.bars(title, histogram, below="related videos")
            drawn.append({"title": title, "svg": svg})
    return drawn


def _simulated(parts: Sequence[Mapping[str, Any]]) -> str:
    """What is simulated: videos, sessions, or nothing."""
    if any(part.get("simulated_videos") for part in parts):
        return "videos"
    return "sessions" if any(part.get("simulated_sessions") for part in parts) else ""


def _of(corpora: Mapping[str, Mapping[str, Any]]) -> str:
    """What the videos have: classes and sources, labels, captions or relations."""
    known = {"sources": CLASSES, "classes": "labels", "captions": "captions"}
    found = [word for key, word in known.items() if any(key in each for each in corpora.values())]
    return found[0] if found else "relations"


def _stages(seconds: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Table rows of the stages: `name`, `seconds` as text, `percent` of the longest."""
    known = {stage: value for stage, value in seconds.items() if wording.is_number(value)}
    longest = max(known.values(), default=0) or 1
    return [
        {"name": stage, "seconds": f"{value:.1f}", "percent": f"{100 * value / longest:.1f}"}
        for stage, value in known.items()
    ]
