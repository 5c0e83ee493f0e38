"""Curves and tables of training runs, from their journals and evaluations."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vidembed.report import charts, wording
from vidembed.report.wording import ABSENT, is_number

Journals = Mapping[str, Sequence[Mapping[str, Any]]]

DISTANCES = ("positive_distance", "negative_distance")
CURVES: Mapping[str, tuple[Any, ...]] = {
    "Loss": (False, "loss"),
    "Share of triplets whose negative was mined": (True, "mined"),
    "Share of triplets that fell back on the sampled negative": (True, "fallen_back"),
    "Share of triplets with a loss above zero": (True, "active"),
    "Share of sampled negatives chosen by the miner": (True, "sampled_survive"),
    "Squared distance to the positive (solid) and the negative (dashed)": (False, *DISTANCES),
    "Share of negatives from sibling level 0 chosen by the miner": (True, "survive_at/0"),
    "Share of negatives from sibling level 1 chosen by the miner": (True, "survive_at/1"),
    "Share of negatives from sibling level 2 chosen by the miner": (True, "survive_at/2"),
    "Share of videos whose own class scored highest": (True, "accuracy"),
    "Spread of the embeddings (0: all at one point)": (False, "spread"),
    "Norm of the gradient": (False, "gradient_norm"),
    "Share of time spent waiting for data": (True, "waiting_share"),
    "Triplets per second": (False, "triplets_per_second"),
    "Videos per second": (False, "videos_per_second"),
}
"""Charts over the step: title → whether values lie between 0 and 1, and the measures."""
MATCHES = ("match_loss/positive", "match_loss/negative")
VARIANCES = ("within", "between")
CURVES_OF_CLIPS: Mapping[str, tuple[Any, ...]] = {
    "Loss": (False, "loss"),
    "Loss of positive pairs (solid) and negative pairs (dashed)": (False, *MATCHES),
    "Share of pairs of different videos that are positive": (True, "mined"),
    "Distance below which pairs are positive": (False, "threshold"),
    "Total variance of a clip (solid), and of the means of a video's clips (dashed)": (
        False,
        *VARIANCES,
    ),
    "Share of variances at their lowest value": (True, "at_lowest"),
    "KL divergence from the prior": (False, "kl"),
    **{title: CURVES[title] for title in tuple(CURVES)[-5:] if "Triplets" not in title},
}
"""The same of videos as distributions."""
DASHED = (DISTANCES[1], MATCHES[1], VARIANCES[1])
LAST = (
    "step", "passes", "loss", "mined", "fallen_back", "active", "sampled_survive", *DISTANCES,
    "spread", "within", "between", "trained", "gradient_norm", "learning_rate",
)  # fmt: skip
"""Measures of the last line that the table of runs shows."""


def families(names: Sequence[str]) -> dict[str, int]:
    """Colour number of each run: runs that differ only in the seed share one."""
    kinds = list(dict.fromkeys(family(name) for name in names))
    return {name: kinds.index(family(name)) for name in names}


def family(name: str) -> str:
    """A run's name without its seed: `seed0-permuted/trained` → `permuted, trained`."""
    rest = re.sub(r"seed[-_ ]?\d+", "", name)
    return ", ".join(part for part in re.split(r"[/\s-]+", rest) if part) or name


def legend(names: Sequence[str]) -> list[dict[str, Any]]:
    """One entry per colour: `series`, `name`, number of `runs`."""
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
    """One chart (`title`, `svg`) per measure in the journals."""
    lines = _train_lines(journals)
    drawn = []
    of_clips = any("within" in line for run in lines.values() for line in run)
    for title, (share, *measures) in (CURVES_OF_CLIPS if of_clips else CURVES).items():
        curves = [curve for measure in measures for curve in _curves(lines, measure)]
        if curves:
            drawn.append({"title": title, "svg": charts.lines(title, curves, share=share)})
    return drawn


def last_measures(journals: Journals) -> dict[str, Any]:
    """A table with one column per run (`runs`) and `rows` (`name`, text `cells`) of measures.

    Values are from the last line, except that speed and waiting are medians over all lines but the
    first, which includes compilation, and batches with the large capacity are summed over all
    lines.
    """
    lines = {name: run for name, run in _train_lines(journals).items() if run}
    last = [run[-1] for run in lines.values()]
    rows = [wording.row(measure, [line.get(measure) for line in last]) for measure in LAST]
    for measure in ("triplets_per_second", "videos_per_second", "waiting_share"):
        steady = [_values(run[1:] or run, measure) for run in lines.values()]
        rows.append(wording.row(measure, [float(np.median(v)) if v else None for v in steady]))
    large = [_values(run, "large_forbidden") for run in lines.values()]
    rows.append(wording.row("large_forbidden", [sum(v) if v else None for v in large]))
    return {"runs": list(lines), "rows": [row for row in rows if set(row["cells"]) != {ABSENT}]}


def checkpoint_charts(evaluations: Journals) -> list[dict[str, Any]]:
    """One chart (`title`, `svg`) per metric, over the step, or over runs of one checkpoint each.

    Scores of several parts of the videos share a chart, with one line or row per part.
    """
    charted: dict[str, dict[str, str]] = {}
    for score in dict.fromkeys(
        score for results in evaluations.values() for r in results for score in r["scores"]
    ):
        part, _, metric = score.rpartition("/")
        if wording.is_part(score):
            charted.setdefault(wording.metric(metric), {})[wording.direction(part)] = score
        else:
            charted[wording.measured(score)] = {"": score}
    several = any(len(results) > 1 for results in evaluations.values())
    draw = _over_steps if several else _over_runs
    return [
        {"title": title, "svg": draw(title, evaluations, scores)}
        for title, scores in charted.items()
    ]


def checkpoint_tables(evaluations: Journals) -> list[dict[str, Any]]:
    """One table per run: `name`, `metrics`, and `rows` of step and intervals, by step.

    A run with validation videos has two: of test scores and of validation scores. Scores of
    predicted labels have one per part of the videos.
    """
    tables = []
    for name, results in evaluations.items():
        measured = dict.fromkeys(metric for result in results for metric in result["scores"])
        for part, metrics in wording.by_table(measured).items() if results else ():
            rows = [
                {"step": r["step"], "cells": [r["scores"].get(m) or {} for m in metrics]}
                for r in _by_step(results)
            ]
            title = f"{name}, {part}" if part else name
            tables.append({"name": title, "metrics": metrics, "rows": rows})
    return tables


def chosen_by(evaluations: Journals) -> list[str]:
    """Names of the scores that compare checkpoints, if these are on validation videos."""
    part = "validation/"
    names = (r.get("selection", {}).get("name", "") for e in evaluations.values() for r in e)
    return list(
        dict.fromkeys(
            f"{wording.metric(name.removeprefix(part))} on validation"
            if name.startswith(part)
            else name
            for name in names
            if name.endswith(" on validation") or name.startswith(part)
        )
    )


def _train_lines(journals: Journals) -> dict[str, list[Mapping[str, Any]]]:
    return {
        name: [line for line in run if line.get("kind", "train") == "train" and "step" in line]
        for name, run in journals.items()
    }


def _curves(lines: Journals, measure: str) -> list[charts.Line]:
    colours = families(list(lines))
    return [
        charts.Line(
            x=charts.floats(line["step"] for line in run if measure in line),
            y=charts.floats(line[measure] for line in run if measure in line),
            series=colours[name],
            dashed=measure in DASHED,
        )
        for name, run in lines.items()
        if _values(run, measure)
    ]


def _over_steps(title: str, evaluations: Journals, scores: Mapping[str, str]) -> str:
    """scores: the name of each line → its score; with several, every run has a line for each."""
    colours, curves = families(list(evaluations)), []
    for name, results in evaluations.items():
        for number, (label, metric) in enumerate(scores.items()):
            measured = [result for result in _by_step(results) if result["scores"].get(metric)]
            if values := [result["scores"][metric] for result in measured]:
                steps = (result["step"] for result in measured)
                curve = charts.line(steps, values, colours[name] * len(scores) + number)
                curves.append(replace(curve, name=label))
    return charts.lines(title, curves)


def _over_runs(title: str, evaluations: Journals, scores: Mapping[str, str]) -> str:
    colours, rows = families(list(evaluations)), []
    for name, results in evaluations.items():
        for number, (label, metric) in enumerate(scores.items()):
            score = results[0]["scores"].get(metric) if results else None
            colour = colours[name] * len(scores) + number
            named = label if label and len(evaluations) == 1 else f"{name} {label}".rstrip()
            rows += charts.dot(named, score or {}, colour)
    return charts.dots(title, rows)


def _by_step(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(results, key=lambda result: result["step"])


def _values(lines: Sequence[Mapping[str, Any]], measure: str) -> list[float]:
    return [line[measure] for line in lines if is_number(line.get(measure))]
