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
from vidembed.report.headline import headline


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
    """direction → {metric, mean, per_seed} of the ratio of its mean NDCG."""
    found: dict[str, Any] = {}
    for direction, metrics in seeds[0][one].items():
        main = headline(direction, metrics)
        each = [
            float(s[one][direction][main].mean() / s[other][direction][main].mean()) for s in seeds
        ]
        found[direction] = {"metric": main, "mean": float(np.mean(each)), "per_seed": each}
    return found


def print_table(
    summary: dict[str, Any], *, simulated: bool, console: Console | None = None
) -> None:
    """The summary on the terminal, 80 columns wide: a row a system, NDCG with its interval."""
    console = console or Console(highlight=False)
    told = ", SIMULATED sessions" if simulated else ""
    for direction, systems in summary.items():
        query, _, candidates = direction.partition("_to_")
        candidates = f"other {candidates}" if query == candidates else candidates
        main = headline(direction, next(iter(systems.values())))
        chosen = (main, "map", main.replace("ndcg", "recall"))
        table = Table(
            title=f"{query} queries, {candidates} candidates{told}",
            title_justify="left",
            box=SIMPLE_HEAD,
        )
        table.add_column("system")
        ndcg, *others = map(wording.metric, chosen)
        for name in (ndcg, "95 % interval", *others):
            table.add_column(name, justify="right")
        for system in wording.SYSTEMS:
            if system not in systems:
                continue
            label = wording.system(system, direction)
            found = systems[system]
            interval = f"{found[main]['low']:.3f} to {found[main]['high']:.3f}"
            first, *rest = (f"{found[name]['value']:.3f}" for name in chosen)
            table.add_row(label, first, interval, *rest)
        console.print(table)


def _entry(interval: Interval) -> dict[str, float]:
    return interval._asdict()
