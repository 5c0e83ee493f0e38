"""Curves and tables of training runs: their journals, and their measured checkpoints."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidembed.report import charts, wording
from vidembed.report.wording import ABSENT, is_number

Journals = Mapping[str, Sequence[Mapping[str, Any]]]

DISTANCES = ("positive_distance", "negative_distance")
CURVES: Mapping[str, tuple[Any, ...]] = {
    "Loss": (False, "loss"),
    "Share of triplets whose negative was mined": (True, "mined"),
    "Share that fell back on the sampled negative": (True, "fallen_back"),
    "Share of triplets with a loss above zero": (True, "active"),
    "Share of sampled negatives that stayed": (True, "sampled_survive"),
    "Squared distance to the positive (solid) and the negative (dashed)": (False, *DISTANCES),
    "Share of negatives drawn at sibling level 0 that stayed": (True, "survive_at/0"),
    "Share of negatives drawn at sibling level 1 that stayed": (True, "survive_at/1"),
    "Share of negatives drawn at sibling level 2 that stayed": (True, "survive_at/2"),
    "Share of videos whose own class scored highest": (True, "accuracy"),
    "Spread of the embeddings (0: all are one point)": (False, "spread"),
    "Norm of the gradient": (False, "gradient_norm"),
    "Share of time spent waiting for data": (True, "waiting_share"),
    "Triplets per second": (False, "triplets_per_second"),
    "Videos per second": (False, "videos_per_second"),
}
"""What is drawn over the step: title → whether it lies between 0 and 1, and its measures."""
LAST = (
    "step", "passes", "loss", "mined", "fallen_back", "active", "sampled_survive", *DISTANCES,
    "spread", "trained", "gradient_norm", "learning_rate",
)  # fmt: skip
"""What the table of runs shows of the last line."""


def families(names: Sequence[str]) -> dict[str, int]:
    """Number of each run's colour: runs that differ in the seed alone share one."""
    kinds = list(dict.fromkeys(family(name) for name in names))
    return {name: kinds.index(family(name)) for name in names}


def family(name: str) -> str:
    """A run's name without its seed: `seed0-permuted/trained` → `permuted, trained`."""
    rest = re.sub(r"seed[-_ ]?\d+", "", name)
    return ", ".join(part for part in re.split(r"[/\s-]+", rest) if part) or name


def legend(names: Sequence[str]) -> list[dict[str, Any]]:
    """One entry for each colour: `series`, `name`, number of `runs`."""
    colours = families(names)
    return [
        {
            "series": colour % charts.SERIES + 1,
            "name": wording.words(family(next(n for n in names if colours[n] == colour))),
            "runs": sum(colours[name] == colour for name in names),
        }
        for colour in sorted(set(colours.values()))
    ]


def training_curves(journals: Journals) -> list[dict[str, Any]]:
    """A chart (`title`, `svg`) of each measure that the journals have."""
    lines = _train_lines(journals)
    found = []
    for title, (share, *measures) in CURVES.items():
        curves = [curve for measure in measures for curve in _curves(lines, measure)]
        if curves:
            found.append({"title": title, "svg": charts.lines(title, curves, share=share)})
    return found


def last_measures(journals: Journals) -> dict[str, Any]:
    """A table with a column a run (`runs`) and `rows` (`name`, text `cells`) of measures.

    Values of the last line; but the speed and the waiting are medians over the lines after the
    first, which carries the compilation, and the batches that needed the large capacity are those
    of all lines.
    """
    lines = {name: found for name, found in _train_lines(journals).items() if found}
    last = [found[-1] for found in lines.values()]
    rows = [wording.row(measure, [line.get(measure) for line in last]) for measure in LAST]
    for measure in ("triplets_per_second", "videos_per_second", "waiting_share"):
        steady = [_values(found[1:] or found, measure) for found in lines.values()]
        rows.append(wording.row(measure, [float(np.median(v)) if v else None for v in steady]))
    large = [_values(found, "large_forbidden") for found in lines.values()]
    rows.append(wording.row("large_forbidden", [sum(v) if v else None for v in large]))
    return {"runs": list(lines), "rows": [row for row in rows if set(row["cells"]) != {ABSENT}]}


def checkpoint_charts(evaluations: Journals) -> list[dict[str, Any]]:
    """A chart (`title`, `svg`) of each metric, over the step, or over the runs if each has one."""
    colours = families(list(evaluations))
    metrics = dict.fromkeys(
        metric for found in evaluations.values() for one in found for metric in one["scores"]
    )
    several = any(len(found) > 1 for found in evaluations.values())
    return [
        {
            "title": wording.measured(metric),
            "svg": (_over_steps if several else _over_runs)(evaluations, metric, colours),
        }
        for metric in metrics
    ]


def checkpoint_tables(evaluations: Journals) -> list[dict[str, Any]]:
    """One a run: `name`, `metrics`, and `rows` of step and intervals, in the order of the steps.

    Of a run with validation videos two, of the test scores and of the others.
    """
    tables = []
    for name, found in evaluations.items():
        measured = dict.fromkeys(metric for one in found for metric in one["scores"])
        for part, metrics in wording.by_part(measured).items() if found else ():
            rows = [
                {"step": one["step"], "cells": [one["scores"].get(m) or {} for m in metrics]}
                for one in _by_step(found)
            ]
            title = f"{name}, {part}" if part else name
            tables.append({"name": title, "metrics": metrics, "rows": rows})
    return tables


def chosen_by(evaluations: Journals) -> list[str]:
    """The numbers that checkpoints are compared by, where these are of validation videos."""
    names = (one.get("selection", {}).get("name", "") for e in evaluations.values() for one in e)
    return list(dict.fromkeys(name for name in names if name.endswith(" on validation")))


def _train_lines(journals: Journals) -> dict[str, list[Mapping[str, Any]]]:
    return {
        name: [line for line in found if line.get("kind", "train") == "train" and "step" in line]
        for name, found in journals.items()
    }


def _curves(lines: Journals, measure: str) -> list[charts.Line]:
    colours = families(list(lines))
    return [
        charts.Line(
            x=charts.floats(line["step"] for line in found if measure in line),
            y=charts.floats(line[measure] for line in found if measure in line),
            series=colours[name],
            dashed=measure == DISTANCES[1],
        )
        for name, found in lines.items()
        if _values(found, measure)
    ]


def _over_steps(evaluations: Journals, metric: str, colours: Mapping[str, int]) -> str:
    curves = []
    for name, found in evaluations.items():
        having = [one for one in _by_step(found) if one["scores"].get(metric)]
        scores = [one["scores"][metric] for one in having]
        if scores:
            curves.append(charts.line((one["step"] for one in having), scores, colours[name]))
    return charts.lines(wording.measured(metric), curves)


def _over_runs(evaluations: Journals, metric: str, colours: Mapping[str, int]) -> str:
    rows = []
    for name, found in evaluations.items():
        score = found[0]["scores"].get(metric) if found else None
        rows += charts.dot(name, score or {}, colours[name])
    return charts.dots(wording.measured(metric), rows)


def _by_step(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(found, key=lambda one: one["step"])


def _values(lines: Sequence[Mapping[str, Any]], measure: str) -> list[float]:
    return [line[measure] for line in lines if is_number(line.get(measure))]
