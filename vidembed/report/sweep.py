"""A sweep in the report: its points beside the paper's numbers, their differences, its plot."""

from collections.abc import Mapping
from typing import Any

from vidembed.report import charts, wording
from vidembed.report.wording import is_number


def section(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """What sweep.html shows, of the JSON that `gather` writes: charts, rows, differences."""
    scored = any(point.get("scores") for point in sweep["points"].values())
    dotted = [_dots(sweep, direction) for direction in sweep["columns"]] if scored else []
    return {
        "claim": sweep["claim"],
        "paper": has_paper(sweep),
        "oracles": wording.oracles(sweep["columns"]),
        "among_new": "eval_to_eval" in sweep["columns"],
        "columns": [f"{direction}/{metric}" for direction, metric in columns(sweep)],
        "rows": [_row(sweep, name, point) for name, point in named(sweep).items()],
        "differences": [
            _row(sweep, f"{one['one']} − {one['other']}", one) for one in compared(sweep)
        ],
        "charts": plots(sweep) or dotted,
        "missing": sweep.get("missing") or [],
    }


def columns(sweep: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The columns of scores: direction and metric."""
    return [(direction, metric) for direction, some in sweep["columns"].items() for metric in some]


def named(sweep: Mapping[str, Any], direction: str = "") -> dict[str, Any]:
    """The points, then the controls, by the names that tables (of a direction) show."""
    controls = sweep.get("controls") or {}
    return sweep["points"] | {wording.system(name, direction): controls[name] for name in controls}


def compared(sweep: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All that is compared: points, then what there is where ids are permuted."""
    return [*sweep["comparisons"], *sweep["permuted"]]


def cells(sweep: Mapping[str, Any], one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of a point, a control or a comparison one entry for each column: its `interval` {value, low,
    high}, empty where there is none yet; the `paper`'s number or None; of a comparison, `each`
    seed's difference."""
    scores, paper = one.get("scores") or one.get("differences") or {}, one.get("paper_percent")
    return [
        {
            "interval": scores.get(direction, {}).get(metric) or {},
            "paper": (paper or {}).get(direction, {}).get(metric),
            "each": one["per_seed"][direction][metric] if "per_seed" in one else [],
        }
        for direction, metric in columns(sweep)
    ]


def has_paper(sweep: Mapping[str, Any]) -> bool:
    """Whether the paper's own numbers stand beside any of ours."""
    beside = [*sweep["points"].values(), *sweep["comparisons"]]
    return any(one.get("paper_percent") for one in beside)


def plots(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A chart (`title`, `svg`) of NDCG a direction, where the sweep is of one number."""
    made = []
    for direction, (main, *_) in sweep["columns"].items():
        at = [
            (point["at"], point["scores"][direction][main])
            for point in sweep["points"].values()
            if is_number(point.get("at")) and direction in (point.get("scores") or {})
        ]
        if not at:
            continue
        at.sort(key=lambda one: one[0])
        line = charts.line([place for place, _ in at], [score for _, score in at])
        title = _title(sweep, direction)
        svg = charts.lines(title, [line], below=sweep["axis_name"], doubling=True)
        made.append({"title": title, "svg": svg, "direction": direction})
    return made


def _row(sweep: Mapping[str, Any], name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "asks": one.get("asks"),
        "parameters": one.get("parameters"),
        "seconds": one.get("train_seconds"),
        "seeds": ", ".join(map(str, one["seeds"])),
        "cells": cells(sweep, one),
    }


def _dots(sweep: Mapping[str, Any], direction: str) -> dict[str, Any]:
    main = sweep["columns"][direction][0]
    dots = []
    for name, point in named(sweep, direction).items():
        score = point["scores"][direction][main] if point.get("scores") else {}
        dots += charts.dot(name, score, 0 if name in sweep["points"] else None)
    title = _title(sweep, direction)
    return {"title": title, "svg": charts.dots(title, dots)}


def _title(sweep: Mapping[str, Any], direction: str) -> str:
    main = wording.metric(sweep["columns"][direction][0])
    return f"{main} with its 95 % interval, {wording.direction(direction)}"
