"""The report of a run or of several: one HTML file that needs nothing beside it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from etils import epath

from vidembed import files
from vidembed.report import charts, codes, results, runs, wording
from vidembed.report import sweep as sweeps
from vidembed.report.captions import Captions

FILTERS = ("score", "signed", "number", "breaks", "metric", "direction", "asked", "measured")
"""The functions of `wording` that the templates use."""
NO_CAPTIONS = Captions()
"""Videos go by their ids."""


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
    warnings: Sequence[str] = (),
    remarks: Sequence[str] = (),
    step: int | None = None,
    evaluate_command: str = "",
    captions: Captions = NO_CAPTIONS,
    embedding_map: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write report.html: results, neighbours, map, clusters, curves, checkpoints, data, recipe.

    summary      of several systems, as the quickstart's summary.json; None for a single run
    journals     run → lines of its metrics.jsonl
    evaluations  run → its evaluation files: `step`, `scores` {metric: {value, low, high}}, and
                 `selection`, by whose `name` checkpoints are compared
    corpora      name → `Corpus.report()`
    gallery      as `vidembed.report.gallery.gallery` makes it
    recipe       `Recipe.to_json()`
    clusters     as `vidembed.report.clusters.clusters` makes it, of the first of corpora
    sweep        what `gather` of a sweep found
    coded        what coded vectors score, as `vidembed.report.codes.section` takes it
    related_videos   of a single run: direction → system → metric → {value, low, high}, as in a
                     summary; related_note says which checkpoint is the one that is trained
    slices       direction → kind → name → `evaluators.slices.Slice`, of the same checkpoint
    warnings     what is wrong with the run, in words, to stand on top
    remarks      what to know of the measured checkpoints, such as what is not shown
    step         of a single run: the checkpoint whose scores stand on top; None: the last measured
    evaluate_command   of a run that nothing has measured yet: what measures it
    captions     titles, links and pictures of videos
    embedding_map   as `vidembed.report.embedding_map.embedding_map` makes it
    notes        what to know of the data, such as videos that lack a modality

    What is empty or missing leaves out its section. Where any of them says `simulated_sessions`,
    the page says so on top and at each table and chart. The page asks nothing of any network, but
    for the pictures that `captions` names, and the same arguments give the same bytes. The file is
    replaced whole.
    """
    summary = summary or {}
    said = [
        summary,
        clusters or {},
        *corpora.values(),
        *(one for found in evaluations.values() for one in found),
    ]
    page = _environment().get_template("report.html")
    text = page.render(
        title=title,
        simulated=any(part.get("simulated_sessions") for part in said),
        seeds=summary.get("seeds"),
        headlines=results.headlines(summary)
        or results.run_headlines(evaluations, related_videos or {}, step),
        warnings=warnings,
        evaluate_command=evaluate_command,
        captions=captions,
        embedding_map=embedding_map,
        notes=notes,
        panels=results.panels(summary.get("related_videos") or related_videos or {}),
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
        checkpoints_legend=runs.legend([name for name, found in evaluations.items() if found]),
        checkpoint_tables=runs.checkpoint_tables(evaluations),
        chosen=runs.chosen_by(evaluations),
        remarks=remarks,
        corpora=list(corpora),
        counts=counts(corpora),
        degrees=degrees(corpora),
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
    # Character references keep the page right whatever encoding a machine or server takes it for.
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
    """Rows of a table (`name`, text `cells`), a column a corpus: of videos, then of relations."""
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
    """A chart (`title`, `svg`) of how many relations the videos of each corpus have."""
    found = []
    for name, report in corpora.items():
        if histogram := (report.get("relations") or {}).get("degree_histogram"):
            title = f"Videos by their number of relations, {name}"
            svg = charts.bars(title, histogram, below="related videos")
            found.append({"title": title, "svg": svg})
    return found


def _stages(seconds: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of stages: `name`, `seconds` as text, `percent` of the longest."""
    known = {stage: value for stage, value in seconds.items() if wording.is_number(value)}
    longest = max(known.values(), default=0) or 1
    return [
        {"name": stage, "seconds": f"{value:.1f}", "percent": f"{100 * value / longest:.1f}"}
        for stage, value in known.items()
    ]
