"""Show the calibration of predicted probabilities: a chart, the errors, and the counts per bin."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidembed.metrics.calibration import Reliability
from vidembed.report import charts

TICKS = {place / 5: f"{place / 5:g}" for place in range(6)}
PERFECT = charts.SERIES - 1
"""The grey of the series colours."""


def calibration(curves: Mapping[str, Reliability]) -> dict[str, Any]:
    """The page's section for curves by name, with equal bins.

    `chart` (`title`, `svg`); `curves`: `name`, `predictions` and `error` of each; `rows`: of each
    bin with predictions, its `range` and the `cells` of each curve: `count`, `predicted` (the mean
    probability) and `positive` (the share that is true), the latter None for an empty bin.
    """
    title = "Reliability: how often is a label true that is predicted with p?"
    lines = [
        charts.Line(
            x=curve.curve.predicted,
            y=curve.curve.positive,
            series=series,
            name=name,
            dashed=series > 0,
        )
        for series, (name, curve) in enumerate(curves.items())
    ]
    ends = np.array([0.0, 1.0])
    lines.append(charts.Line(x=ends, y=ends, series=PERFECT, dashed=True, name="calibrated"))
    svg = charts.lines(title, lines, share=True, below="mean predicted probability", ticks=TICKS)
    bins = len(next(iter(curves.values())).count)
    return {
        "chart": {"title": title, "svg": svg},
        "curves": [
            {"name": name, "predictions": int(curve.count.sum()), "error": curve.expected_error}
            for name, curve in curves.items()
        ],
        "rows": [
            {
                "range": f"{place / bins:.2f}–{(place + 1) / bins:.2f}",
                "cells": [_cell(curve, place) for curve in curves.values()],
            }
            for place in range(bins)
            if any(curve.count[place] for curve in curves.values())
        ],
    }


def _cell(curve: Reliability, place: int) -> dict[str, Any]:
    count = int(curve.count[place])
    sums = {"predicted": curve.predicted, "positive": curve.positive}
    means = {name: float(of[place]) / count if count else None for name, of in sums.items()}
    return {"count": count, **means}
