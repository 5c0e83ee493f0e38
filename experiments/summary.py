"""Per-query scores of several seeds become values with intervals, ratios and a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vidembed.metrics.intervals import bootstrap, differences, ratios
from vidembed.report import wording
from vidembed.report.headline import headline
from vidembed.scores_file import Scores


def with_intervals(seeds: Sequence[Scores]) -> dict[str, Any]:
    """direction → system → metric → {value, low, high}: means over seeds, 95 % over videos."""
    summary: dict[str, Any] = {}
    for direction in next(iter(seeds[0].values())):
        runs = [
            {
                (system, metric): values
                for system, found in seed.items()
                for metric, values in found[direction].values.items()
            }
            for seed in seeds
        ]
        _refuse_other_queries(seeds, direction, *seeds[0])
        videos = [next(iter(seed.values()))[direction].ids for seed in seeds]
        for (system, metric), interval in bootstrap(runs, videos=videos, seed=0).items():
            metrics = summary.setdefault(direction, {}).setdefault(system, {})
            metrics[metric] = interval._asdict()
    return summary


def difference(seeds: Sequence[Scores], one: str, other: str) -> dict[str, Any]:
    """direction → metric → {value, low, high} of one minus other, paired by query."""
    found: dict[str, Any] = {}
    for direction in seeds[0][one]:
        _refuse_other_queries(seeds, direction, one, other)
        ones, others = ([s[side][direction].values for s in seeds] for side in (one, other))
        videos = [s[one][direction].ids for s in seeds]
        intervals = differences(ones, others, videos=videos, seed=0)
        found[direction] = {metric: interval._asdict() for metric, interval in intervals.items()}
    return found


def ratio(seeds: Sequence[Scores], one: str, other: str) -> dict[str, Any]:
    """direction → {metric, mean, low, high, per_seed} of the ratio of its mean NDCG."""
    found: dict[str, Any] = {}
    for direction, first in seeds[0][one].items():
        _refuse_other_queries(seeds, direction, one, other)
        main = headline(direction, first.values)
        ones, others = (
            [{main: seed[side][direction].values[main]} for seed in seeds] for side in (one, other)
        )
        videos = [seed[one][direction].ids for seed in seeds]
        interval = ratios(ones, others, videos=videos, seed=0)[main]
        each = [float(a[main].mean() / b[main].mean()) for a, b in zip(ones, others)]
        ends = {"low": interval.low, "high": interval.high}
        found[direction] = {"metric": main, "mean": interval.value, **ends, "per_seed": each}
    return found


def _refuse_other_queries(seeds: Sequence[Scores], direction: str, *systems: str) -> None:
    """Systems are compared query by query: all of a seed must have been asked the same."""
    for seed in seeds:
        first, *others = (seed[system][direction].ids for system in systems)
        if any(not np.array_equal(first, ids) for ids in others):
            raise ValueError(
                f"{', '.join(systems)} were not asked the same queries from {direction}: they "
                "cannot be compared. Were they measured on different data?"
            )


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
