"""A sweep in the report: points with the paper's numbers, differences, and plots."""

from collections.abc import Mapping
from typing import Any

from vidembed.report import charts, wording
from vidembed.report.wording import is_number


def section(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of sweep.html, from the JSON that `gather` writes: charts, rows, differences."""
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
            _row(sweep, f"{pair['one']} − {pair['other']}", pair) for pair in compared(sweep)
        ],
        "charts": plots(sweep) or dotted,
        "missing": sweep.get("missing") or [],
    }


def columns(sweep: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The score columns: (direction, metric)."""
    return [
        (direction, metric) for direction, metrics in sweep["columns"].items() for metric in metrics
    ]


def named(sweep: Mapping[str, Any], direction: str = "") -> dict[str, Any]:
    """The points, then the controls, by their names in tables (of a direction)."""
    controls = sweep.get("controls") or {}
    return sweep["points"] | {wording.system(name, direction): controls[name] for name in controls}


def compared(sweep: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All comparisons: of points, then of runs with permuted ids."""
    return [*sweep["comparisons"], *sweep["permuted"]]


def cells(sweep: Mapping[str, Any], entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Cells of a point, a control or a comparison, one per column: `interval` {value, low, high},
    empty if not measured yet; the `paper`'s number or None; for a comparison, the difference of
    `each` seed."""
    scores = entry.get("scores") or entry.get("differences") or {}
    paper = entry.get("paper_percent")
    return [
        {
            "interval": scores.get(direction, {}).get(metric) or {},
            "paper": (paper or {}).get(direction, {}).get(metric),
            "each": entry["per_seed"][direction][metric] if "per_seed" in entry else [],
        }
        for direction, metric in columns(sweep)
    ]


def has_paper(sweep: Mapping[str, Any]) -> bool:
    """Whether the paper reports a number for any point or comparison."""
    entries = [*sweep["points"].values(), *sweep["comparisons"]]
    return any(entry.get("paper_percent") for entry in entries)


def plots(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One chart (`title`, `svg`) of NDCG per direction, if the sweep varies a single number."""
    drawn = []
    for direction, (main, *_) in sweep["columns"].items():
        scored = [
            (point["at"], point["scores"][direction][main])
            for point in sweep["points"].values()
            if is_number(point.get("at")) and direction in (point.get("scores") or {})
        ]
        if not scored:
            continue
        scored.sort(key=lambda pair: pair[0])
        line = charts.line([x for x, _ in scored], [score for _, score in scored])
        title = _title(sweep, direction)
        svg = charts.lines(title, [line], below=sweep["axis_name"], doubling=True)
        drawn.append({"title": title, "svg": svg, "direction": direction})
    return drawn


def _row(sweep: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "asks": entry.get("asks"),
        "parameters": entry.get("parameters"),
        "seconds": entry.get("train_seconds"),
        "seeds": ", ".join(map(str, entry["seeds"])),
        "cells": cells(sweep, entry),
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
