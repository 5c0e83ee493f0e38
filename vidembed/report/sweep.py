"""A sweep in the report: its points beside the paper's numbers, their differences, its plot."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from vidembed.report import charts, wording
from vidembed.report.wording import is_number

ENDS = ("value", "low", "high")


def section(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """What sweep.html shows, of the JSON that `gather` writes: charts, rows, differences."""
    where = cells(sweep)
    rows = [_row(name, point, where) for name, point in sweep["points"].items()]
    controls = sweep.get("controls") or {}
    rows += [_row(wording.system(name), point, where) for name, point in controls.items()]
    compared = [*sweep["comparisons"], *sweep["permuted"]]
    scored = any(point.get("scores") for point in sweep["points"].values())
    dotted = [_dots(sweep, direction) for direction in sweep["columns"]] if scored else []
    return {
        "claim": sweep["claim"],
        "paper": has_paper(sweep),
        "oracles": wording.oracles(sweep["columns"]),
        "among_new": "eval_to_eval" in sweep["columns"],
        "columns": [f"{direction}/{metric}" for direction, metric in where],
        "rows": rows,
        "differences": [_difference(one, where) for one in compared],
        "charts": plots(sweep) or dotted,
        "missing": sweep.get("missing") or [],
    }


def cells(sweep: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The columns of scores: direction and metric."""
    return [(direction, metric) for direction, some in sweep["columns"].items() for metric in some]


def has_paper(sweep: Mapping[str, Any]) -> bool:
    """Whether the paper's own numbers stand beside any of ours."""
    beside = [*sweep["points"].values(), *sweep["comparisons"]]
    return any(one.get("paper_percent") for one in beside)


def plots(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A chart (`title`, `svg`) of NDCG a direction, where the sweep is of one number."""
    found: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
    for point in sweep["points"].values():
        for direction, scores in (point.get("scores") or {}).items():
            if is_number(point.get("at")):
                main = sweep["columns"][direction][0]
                found.setdefault(direction, []).append((point["at"], scores[main]))
    made = []
    for direction, at in found.items():
        at.sort(key=lambda one: one[0])
        ends = {end: np.array([score[end] for _, score in at]) for end in ENDS}
        x = np.array([place for place, _ in at], np.float64)
        line = charts.Line(x=x, y=ends["value"], low=ends["low"], high=ends["high"])
        title = _title(sweep, direction)
        svg = Markup(charts.lines(title, [line], below=sweep["axis_name"], doubling=True))
        made.append({"title": title, "svg": svg, "direction": direction})
    return made


def _row(name: str, point: Mapping[str, Any], where: list[tuple[str, str]]) -> dict[str, Any]:
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
            for direction, metric in where
        ],
    }


def _difference(one: Mapping[str, Any], where: list[tuple[str, str]]) -> dict[str, Any]:
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
            for direction, metric in where
        ],
    }


def _dots(sweep: Mapping[str, Any], direction: str) -> dict[str, Any]:
    controls, main = sweep.get("controls") or {}, sweep["columns"][direction][0]
    named: list[tuple[str, Any, int | None]] = [
        (name, point, 0) for name, point in sweep["points"].items()
    ]
    named += [(wording.system(name, direction), point, None) for name, point in controls.items()]
    dots = [
        charts.Dot(name=name, series=series, **point["scores"][direction][main])
        for name, point, series in named
        if point.get("scores")
    ]
    title = _title(sweep, direction)
    return {"title": title, "svg": Markup(charts.dots(title, dots))}


def _title(sweep: Mapping[str, Any], direction: str) -> str:
    main = wording.metric(sweep["columns"][direction][0])
    return f"{main} with its 95 % interval, {wording.direction(direction)}"
