"""Per-query scores of several seeds become values with intervals, ratios and a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.systems import Scores
from vidembed.metrics.intervals import Interval, bootstrap_mean_of, paired
from vidembed.report import wording

MAIN = "ndcg@10"


def with_intervals(seeds: Sequence[Scores]) -> dict[str, Any]:
    """direction → system → metric → {value, low, high}: means over seeds, 95 % over queries."""
    first = seeds[0]
    summary: dict[str, Any] = {}
    for system, directions in first.items():
        for direction, metrics in directions.items():
            summary.setdefault(direction, {})[system] = {
                metric: _entry(
                    bootstrap_mean_of([seed[system][direction][metric] for seed in seeds], seed=0)
                )
                for metric in metrics
            }
    return summary


def difference(seeds: Sequence[Scores], one: str, other: str) -> dict[str, Any]:
    """direction → metric → {value, low, high} of one minus other, paired by query."""
    return {
        direction: {
            metric: _entry(
                paired(
                    [(s[one][direction][metric], s[other][direction][metric]) for s in seeds],
                    seed=0,
                )
            )
            for metric in metrics
        }
        for direction, metrics in seeds[0][one].items()
    }


def ratios(seeds: Sequence[Scores], one: str, other: str) -> dict[str, Any]:
    """direction → {mean, per_seed} of the ratio of mean NDCG@10."""
    found = {}
    for direction in seeds[0][one]:
        each = [
            float(s[one][direction][MAIN].mean() / s[other][direction][MAIN].mean()) for s in seeds
        ]
        found[direction] = {"mean": float(np.mean(each)), "per_seed": each}
    return found


def print_table(
    summary: dict[str, Any], *, simulated: bool, console: Console | None = None
) -> None:
    """The summary on the terminal, 80 columns wide: a row a system, NDCG@10 with its interval."""
    console = console or Console(highlight=False)
    told = ", SIMULATED sessions" if simulated else ""
    for direction, systems in summary.items():
        query, _, candidates = direction.partition("_to_")
        table = Table(
            title=f"{query} queries, {candidates} candidates{told}",
            title_justify="left",
            box=SIMPLE_HEAD,
        )
        table.add_column("system")
        for name in ("NDCG@10", "95 % interval", "MAP", "recall@10"):
            table.add_column(name, justify="right")
        for system in wording.SYSTEMS:
            if system not in systems:
                continue
            label = wording.system(system, direction)
            main, average, recall = (systems[system][m] for m in (MAIN, "map", "recall@10"))
            interval = f"{main['low']:.3f} to {main['high']:.3f}"
            values = (main["value"], average["value"], recall["value"])
            ndcg, *others = (f"{value:.3f}" for value in values)
            table.add_row(label, ndcg, interval, *others)
        console.print(table)


def _entry(interval: Interval) -> dict[str, float]:
    return interval._asdict()
