"""Curves and tables of training runs: their journals, and their measured checkpoints."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from vidembed.report import charts, wording
from vidembed.report.wording import ABSENT, is_number

Journals = Mapping[str, Sequence[Mapping[str, Any]]]

CURVES: Mapping[str, tuple[str, bool]] = {
    "loss": ("Loss", False),
    "mined": ("Share of triplets whose negative was mined", True),
    "fallen_back": ("Share that fell back on the sampled negative", True),
    "active": ("Share of triplets with a loss above zero", True),
    "sampled_survive": ("Share of sampled negatives that stayed", True),
    "survive_at/0": ("Share of negatives drawn at sibling level 0 that stayed", True),
    "survive_at/1": ("Share of negatives drawn at sibling level 1 that stayed", True),
    "survive_at/2": ("Share of negatives drawn at sibling level 2 that stayed", True),
    "accuracy": ("Share of videos whose own class scored highest", True),
    "spread": ("Spread of the embeddings (0: all are one point)", False),
    "gradient_norm": ("Norm of the gradient", False),
    "waiting_share": ("Share of time spent waiting for data", True),
    "triplets_per_second": ("Triplets per second", False),
    "videos_per_second": ("Videos per second", False),
}
"""What is drawn over the step: measure → its title, whether it lies between 0 and 1."""
DISTANCES = ("positive_distance", "negative_distance")
LAST = (
    "passes",
    "loss",
    "mined",
    "fallen_back",
    "active",
    "sampled_survive",
    *DISTANCES,
    "spread",
    "trained",
    "gradient_norm",
    "learning_rate",
)
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
    for measure, (title, share) in CURVES.items():
        curves = _curves(lines, measure)
        if curves:
            found.append({"title": title, "svg": Markup(charts.lines(title, curves, share=share))})
        if measure == "sampled_survive":
            title = "Squared distance to the positive (solid) and the negative (dashed)"
            curves = [
                curve
                for name, dashed in zip(DISTANCES, (False, True))
                for curve in _curves(lines, name, dashed=dashed)
            ]
            if curves:
                found.append({"title": title, "svg": Markup(charts.lines(title, curves))})
    return found


def last_measures(journals: Journals) -> dict[str, Any]:
    """A table with a column a run (`runs`) and `rows` (`name`, text `cells`) of measures.

    Values of the last line; but the speed and the waiting are medians over the lines after the
    first, which carries the compilation, and the batches that needed the large capacity are those
    of all lines.
    """
    lines = {name: found for name, found in _train_lines(journals).items() if found}
    last = [found[-1] for found in lines.values()]
    rows = [_row(measure, [line.get(measure) for line in last]) for measure in ("step", *LAST)]
    for measure in ("triplets_per_second", "videos_per_second", "waiting_share"):
        steady = [_values(found[1:] or found, measure) for found in lines.values()]
        rows.append(_row(measure, [float(np.median(v)) if v else None for v in steady]))
    large = [_values(found, "large_forbidden") for found in lines.values()]
    rows.append(_row("large_forbidden", [sum(v) if v else None for v in large]))
    return {"runs": list(lines), "rows": [row for row in rows if set(row["cells"]) != {ABSENT}]}


def _row(name: str, values: Sequence[Any]) -> dict[str, Any]:
    return {"name": wording.words(name), "cells": [wording.number(value) for value in values]}


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
            "svg": Markup((_over_steps if several else _over_runs)(evaluations, metric, colours)),
        }
        for metric in metrics
    ]


def checkpoint_tables(evaluations: Journals) -> list[dict[str, Any]]:
    """One a run: `name`, `metrics`, and `rows` of step and intervals, in the order of the steps."""
    tables = []
    for name, found in evaluations.items():
        metrics = list(dict.fromkeys(metric for one in found for metric in one["scores"]))
        rows = [
            {"step": one["step"], "cells": [one["scores"].get(metric) or {} for metric in metrics]}
            for one in _by_step(found)
        ]
        if rows:
            tables.append({"name": name, "metrics": metrics, "rows": rows})
    return tables


def _train_lines(journals: Journals) -> dict[str, list[Mapping[str, Any]]]:
    return {
        name: [line for line in found if line.get("kind", "train") == "train" and "step" in line]
        for name, found in journals.items()
    }


def _curves(
    lines: Mapping[str, Sequence[Mapping[str, Any]]], measure: str, *, dashed: bool = False
) -> list[charts.Line]:
    colours = families(list(lines))
    return [
        charts.Line(
            x=np.array([line["step"] for line in found if measure in line], np.float64),
            y=_floats(line[measure] for line in found if measure in line),
            series=colours[name],
            dashed=dashed,
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
            curves.append(
                charts.Line(
                    x=np.array([one["step"] for one in having], np.float64),
                    y=_floats(score.get("value") for score in scores),
                    low=_floats(score.get("low") for score in scores),
                    high=_floats(score.get("high") for score in scores),
                    series=colours[name],
                )
            )
    return charts.lines(wording.measured(metric), curves)


def _over_runs(evaluations: Journals, metric: str, colours: Mapping[str, int]) -> str:
    rows = []
    for name, found in evaluations.items():
        score = found[0]["scores"].get(metric) if found else None
        if score and all(is_number(score.get(end)) for end in ("value", "low", "high")):
            ends = {end: score[end] for end in ("value", "low", "high")}
            rows.append(charts.Dot(name=name, series=colours[name], **ends))
    return charts.dots(wording.measured(metric), rows)


def _by_step(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(found, key=lambda one: one["step"])


def _values(lines: Sequence[Mapping[str, Any]], measure: str) -> list[float]:
    return [line[measure] for line in lines if is_number(line.get(measure))]


def _floats(values: Any) -> np.ndarray:
    return np.array([value if is_number(value) else np.nan for value in values], np.float64)
