"""What the data of a report is: its videos and the relations between them."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from vidembed.report import charts, wording

Corpora = Mapping[str, Mapping[str, Any]]


def counts(corpora: Corpora) -> list[dict[str, Any]]:
    """Rows of a table (`name`, text `cells`), a column a corpus: of videos, then of relations."""
    flat = {name: _flat(report) for name, report in corpora.items()}
    keys = dict.fromkeys(key for report in flat.values() for key in report)
    return [
        {
            "name": wording.words(key),
            "cells": [wording.number(report.get(key)) for report in flat.values()],
        }
        for key in keys
    ]


def degrees(corpora: Corpora) -> list[dict[str, Any]]:
    """A chart (`title`, `svg`) of how many relations the videos of each corpus have."""
    found = []
    for name, report in corpora.items():
        histogram = (report.get("relations") or {}).get("degree_histogram")
        if histogram:
            title = f"Videos by their number of relations, {name}"
            svg = charts.bars(title, histogram, below="related videos")
            found.append({"title": title, "svg": Markup(svg)})
    return found


def _flat(report: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of one corpus; those of its graph after those of its videos."""
    alone = {key: value for key, value in report.items() if not isinstance(value, Mapping)}
    graph = report.get("relations") or {}
    return alone | {key: value for key, value in graph.items() if not isinstance(value, Mapping)}
