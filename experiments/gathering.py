"""What a sweep found so far: means over seeds, paired differences, controls, and what is missing.

Everything comes from the files of the points; nothing is trained or embedded again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper import TABLE_2
from experiments.points import CONTROLS, Point, points_of
from experiments.sweep import Comparison, Sweep
from vidembed.cli.run_report import journal_of
from vidembed.engine.recipe import Recipe
from vidembed.evaluators.queries import Direction
from vidembed.metrics.intervals import bootstrap, differences
from vidembed.records.scores_file import PerQuery, Scores
from vidembed.report import wording
from vidembed.report.headline import shown
from vidembed.workdir.layout import Workdir
from vidembed.workdir.versions import versions

Columns = Mapping[Direction, Sequence[str]]
"""direction → the metrics that are taken of it."""
Worlds = Mapping[int, Scores]
"""Seed → system → what was measured in its world."""
PARTS = ("first third", "second", "last")


def begun(
    sweep: Sweep, folder: Path, seeds: Sequence[int]
) -> tuple[dict[str, Any], Recipe, list[int]]:
    """(recipe.json, the base recipe, seeds) of a sweep's folder, all that are there if none are
    given; raises ValueError where no sweep was begun."""
    stored = Workdir(folder).read_recipe()
    if stored is None:
        raise ValueError(
            f"{folder} holds no sweep: begin with "
            f"`python -m experiments.{sweep.name} run --workdir {folder}`"
        )
    there = (path.name.removeprefix("seed") for path in folder.glob("seed*"))
    known = list(seeds) or sorted(int(name) for name in there if name.isdecimal())
    return stored, Recipe.from_json(stored["recipe"]), known


def gathered(sweep: Sweep, folder: Path, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """All that `gather` shows, as JSON values; raises ValueError where no sweep was begun."""
    stored, base, seeds = begun(sweep, folder, seeds)
    everything = points_of(sweep, base, folder, seeds)
    scores = {point: found for point in everything if (found := point.scores())}
    data, fingerprints = data_of(scores)
    evaluator = sweep.evaluator
    columns = {d: shown(d, evaluator.metrics) for d in evaluator.directions}
    ordinary, permuted = worlds(scores, columns)
    controls = [name for name in CONTROLS if any(name in of for of in ordinary.values())]
    return {
        "sweep": sweep.name,
        "title": sweep.title,
        "claim": sweep.claim,
        "simulated_sessions": any(of["simulated_sessions"] for of in data.values()),
        "seeds": seeds,
        "axis_name": sweep.axis_name,
        "columns": columns,
        "points": {
            name: {
                "recipe": recipe.to_json(),
                "size": f"{recipe.steps:,} × {recipe.feed.examples:,} {recipe.feed.unit}",
                "paper_percent": TABLE_2.get(name),
                **({"at": sweep.axis(recipe)} if sweep.axis else {}),
                **means(ordinary, name),
                **_trainings([p for p in scores if p.name == name and not p.permuted], sweep),
            }
            for name, recipe in sweep.points(base).items()
        },
        "comparisons": [_compared(one, ordinary, columns) for one in sweep.compared(base)],
        "permuted": [
            _compared(one, permuted, columns)
            | {"one": f"permuted, {wording.system(one.one)}", "other": wording.system(one.other)}
            for one in sweep.compared_permuted()
        ],
        "controls": {name: means(ordinary, name) for name in controls},
        "missing": [f"{point}: {point.missing()}" for point in everything if point not in scores],
        "recipe": stored["recipe"],
        "fingerprints": stored["fingerprints"] | fingerprints,
        "data": data,
        "versions": versions(),
    }


def worlds(scores: Mapping[Point, Scores], columns: Columns) -> tuple[Worlds, Worlds]:
    """The scores of points put together by seed: of ordinary worlds, and of permuted ones."""
    found: tuple[dict[int, Any], dict[int, Any]] = {}, {}
    for point, systems in scores.items():
        world = found[point.permuted].setdefault(point.seed, {})
        for system, of in systems.items():
            world[point.named(system)] = {
                d: PerQuery(ids=of[d].ids, values={name: of[d].values[name] for name in metrics})
                for d, metrics in columns.items()
            }
    return found


def over_seeds(
    seeds: Sequence[Scores], *systems: str, by: Callable[..., Mapping[str, Any]]
) -> dict[str, Any]:
    """direction → metric → {value, low, high} over seeds, by `bootstrap` of one system, by
    `differences` or `ratios` of two; ValueError where a seed lacks a system, or both were not asked
    the same queries."""
    for name in systems:
        if lacking := [number for number, seed in enumerate(seeds) if name not in seed]:
            raise ValueError(
                f"{name} is not measured in {len(lacking)} of {len(seeds)} seeds (by place: "
                f"{', '.join(map(str, lacking))}): measure it there, or leave it out everywhere"
            )
    scores = {}
    for direction in seeds[0][systems[0]] if seeds else ():
        first, *others = ([seed[name][direction] for seed in seeds] for name in systems)
        for of in others:
            if not all(np.array_equal(a.ids, b.ids) for a, b in zip(first, of)):
                raise ValueError(
                    f"{', '.join(systems)} were not asked the same queries from {direction}: they "
                    "cannot be compared. Were they measured on different data?"
                )
        values = ([one.values for one in of] for of in (first, *others))
        intervals = by(*values, videos=[one.ids for one in first], seed=0)
        scores[direction] = {metric: interval._asdict() for metric, interval in intervals.items()}
    return scores


def means(worlds: Worlds, system: str) -> dict[str, Any]:
    """`seeds` that have the system, and its mean `scores` over them."""
    having = {seed: scores for seed, scores in worlds.items() if system in scores}
    scores = over_seeds(list(having.values()), system, by=bootstrap)
    return {"seeds": list(having), "scores": scores}


def courses(
    journals: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]
) -> dict[str, list[float]]:
    """Measure → its mean over the logged steps of each third of the run, and over the runs.

    journals: the lines of each run's metrics.jsonl. Lines that do not know a measure (null) count
    for nothing; a measure that a third of a run does not know at all is left out.
    """
    trainings = [[line for line in lines if line["kind"] == "train"] for lines in journals]
    courses = {}
    for name in names:
        # A measure that is not known becomes NaN.
        logged = [np.array([line.get(name) for line in lines], float) for lines in trainings]
        thirds = [part for values in logged for part in np.array_split(values, len(PARTS))]
        known = [part[~np.isnan(part)] for part in thirds]
        if known and all(map(len, known)):
            means = np.reshape([part.mean() for part in known], (-1, len(PARTS)))
            courses[name] = means.mean(axis=0).tolist()
    return courses


def _trainings(runs: Sequence[Point], sweep: Sweep) -> dict[str, Any]:
    """What is said of the trainings of a point; nothing before there is any."""
    if not runs:
        return {}
    spent = sum(one.get("train_seconds", 0.0) for run in runs for one in run.attempts)
    return {
        "parameters": (runs[0].result or {})["parameters"],
        "train_seconds": spent / len(runs),
        "measures": courses([journal_of(run.run) for run in runs], sweep.measures),
    }


def _compared(asked: Comparison, worlds: Worlds, columns: Columns) -> dict[str, Any]:
    """One minus the other, over the seeds that have both, paired by query; and each seed's, for an
    interval over videos knows nothing of how trainings differ."""
    one, other, asks, paper = asked
    both = {seed: scores for seed, scores in worlds.items() if scores.keys() >= {one, other}}

    def each(direction: str, metric: str) -> list[float]:
        sides = ([of[side][direction].values[metric] for of in both.values()] for side in asked[:2])
        return [float((a - b).mean()) for a, b in zip(*sides)]

    return {
        "one": one,
        "other": other,
        "asks": asks,
        "seeds": list(both),
        "differences": over_seeds(list(both.values()), one, other, by=differences),
        "per_seed": {d: {m: each(d, m) for m in metrics} for d, metrics in columns.items()},
        "paper_percent": paper,
    }


def data_of(points: Iterable[Point]) -> tuple[dict[str, Any], dict[str, str]]:
    """World → counts of its data, and their digest; ValueError where its points were made on
    different ones."""
    data, fingerprints = dict[str, Any](), dict[str, str]()
    for point in points:
        data[point.world] = (point.result or {})["data"]
        made_on = (point.run.read_recipe() or {})["fingerprints"]["corpus"]
        if fingerprints.setdefault(point.world, made_on) != made_on:
            raise ValueError(
                f"{point.run} was made on other data than the points beside it: they cannot be "
                "compared. Were folders copied together that were made from different records?"
            )
    return data, fingerprints
