"""A sweep in the report: its points beside the paper's numbers, their differences, its plot."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from vidembed.report import charts, wording
from vidembed.report.wording import is_number

MAIN = "ndcg@10"
METRICS = (MAIN, "map")
ENDS = ("value", "low", "high")


def section(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """What sweep.html shows, of the JSON that `gather` writes: charts, rows, differences."""
    directions = list(
        dict.fromkeys(d for point in sweep["points"].values() for d in point.get("scores") or ())
    )
    cells = [(direction, metric) for direction in directions for metric in METRICS]
    rows = [_row(name, point, cells) for name, point in sweep["points"].items()]
    controls = sweep.get("controls") or {}
    rows += [_row(wording.system(name), point, cells) for name, point in controls.items()]
    compared = [*sweep["comparisons"], *sweep["permuted"]]
    return {
        "claim": sweep["claim"],
        "columns": [f"{direction}/{metric}" for direction, metric in cells],
        "rows": rows,
        "differences": [_difference(one, cells) for one in compared],
        "charts": plots(sweep) or [_dots(sweep, direction) for direction in directions],
        "missing": sweep.get("missing") or [],
    }


def plots(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A chart (`title`, `svg`) of NDCG@10 a direction, where the sweep is of one number."""
    found: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
    for point in sweep["points"].values():
        for direction, scores in (point.get("scores") or {}).items():
            if is_number(point.get("at")):
                found.setdefault(direction, []).append((point["at"], scores[MAIN]))
    made = []
    for direction, at in found.items():
        at.sort(key=lambda one: one[0])
        ends = {end: np.array([score[end] for _, score in at]) for end in ENDS}
        x = np.array([place for place, _ in at], np.float64)
        line = charts.Line(x=x, y=ends["value"], low=ends["low"], high=ends["high"])
        title = f"NDCG@10 with its 95 % interval, {wording.direction(direction)}"
        svg = Markup(charts.lines(title, [line], below=sweep["axis_name"], doubling=True))
        made.append({"title": title, "svg": svg, "direction": direction})
    return made


def _row(name: str, point: Mapping[str, Any], cells: list[tuple[str, str]]) -> dict[str, Any]:
    scores, paper = point.get("scores") or {}, point.get("paper_percent") or {}
    return {
        "name": name,
        "parameters": point.get("parameters"),
        "seconds": point.get("train_seconds"),
        "seeds": ", ".join(map(str, point["seeds"])),
        "cells": [
            {
                "interval": scores.get(direction, {}).get(metric) or {},
                "paper": paper.get(direction, {}).get(metric),
            }
            for direction, metric in cells
        ],
    }


def _difference(one: Mapping[str, Any], cells: list[tuple[str, str]]) -> dict[str, Any]:
    found, paper = one["differences"], one.get("paper_percent") or {}
    return {
        "name": f"{one['one']} − {one['other']}",
        "asks": one["asks"],
        "seeds": ", ".join(map(str, one["seeds"])),
        "cells": [
            {
                "interval": found.get(direction, {}).get(metric) or {},
                "paper": paper.get(direction, {}).get(metric),
                "each": one["per_seed"][direction][metric],
            }
            for direction, metric in cells
        ],
    }


def _dots(sweep: Mapping[str, Any], direction: str) -> dict[str, Any]:
    controls = sweep.get("controls") or {}
    named: list[tuple[str, Any, int | None]] = [
        (name, point, 0) for name, point in sweep["points"].items()
    ]
    named += [(wording.system(name, direction), point, None) for name, point in controls.items()]
    dots = [
        charts.Dot(name=name, series=series, **point["scores"][direction][MAIN])
        for name, point, series in named
        if point.get("scores")
    ]
    title = f"NDCG@10 with its 95 % interval, {wording.direction(direction)}"
    return {"title": title, "svg": Markup(charts.dots(title, dots))}
