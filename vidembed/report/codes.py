"""Retrieval quality by size of coded vectors, as charts and table rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidembed.report import charts, wording

METRIC = "ndcg@10"


def section(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The page's section: one chart per direction, and one row per code, largest first.

    rows: one per code and width: `width`, `code`, `kind`, `bytes`, and by direction and metric
    {value, low, high}: `scores`, and `own`, the ratio to float32 of the same width.
    """
    directions = list(rows[0]["scores"])
    titles = {d: f"{wording.metric(METRIC)}, {wording.direction(d)}" for d in directions}
    return {
        "charts": [{"title": titles[d], "svg": plot(rows, d)} for d in directions],
        "columns": [title for d in directions for title in (titles[d], "of float32, %")],
        "rows": [
            {
                "name": f"{row['width']} × {row['code']}",
                "bytes": row["bytes"],
                "cells": [cell for d in directions for cell in _cells(row, d)],
            }
            for row in sorted(rows, key=lambda row: (-row["width"], -row["bytes"]))
        ],
    }


def plot(rows: Sequence[Mapping[str, Any]], direction: str) -> str:
    """NDCG over bytes as SVG: one line per kind of code, with the best width at each size.

    rows: with `kind`, `bytes` and `scores` by direction and metric.
    """
    kinds = dict[str, dict[int, Mapping[str, float]]]()
    for row in rows:
        score, best = row["scores"][direction][METRIC], kinds.setdefault(row["kind"], {})
        if row["bytes"] not in best or score["value"] > best[row["bytes"]]["value"]:
            best[row["bytes"]] = score
    lines = [
        charts.Line(
            x=charts.floats(sorted(best)),
            y=charts.floats(best[size]["value"] for size in sorted(best)),
            series=series,
            name=kind,
        )
        for series, (kind, best) in enumerate(kinds.items())
    ]
    title = f"{wording.metric(METRIC)} by bytes, {wording.direction(direction)}"
    return charts.lines(title, lines, below="bytes of a vector", doubling=True)


def _cells(row: Mapping[str, Any], direction: str) -> list[dict[str, Any]]:
    score, ratio = row["scores"][direction][METRIC], row["own"][direction][METRIC]
    percent = {end: f"{100 * ratio[end]:.1f}" for end in charts.ENDS}
    return [{end: wording.score(score[end]) for end in charts.ENDS}, percent]
