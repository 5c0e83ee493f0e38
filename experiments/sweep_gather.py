"""What a sweep found so far: means over seeds, paired differences, controls, and what is missing.

Everything comes from the files of the points; nothing is trained or embedded again.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.comparisons import PERMUTED, Comparison
from experiments.paper import TABLE_2
from experiments.summary import difference, with_intervals
from experiments.sweep import Sweep
from experiments.sweep_jobs import (
    CONTROLS,
    Job,
    attempts_file,
    is_done,
    jobs,
    per_query_file,
    result_file,
)
from experiments.sweep_measures import courses
from vidembed.lease import Lease
from vidembed.metrics.per_query import PerQuery
from vidembed.recipe import Recipe
from vidembed.report import wording
from vidembed.report.headline import shown
from vidembed.run_report import journal_of
from vidembed.scores_file import Scores, read_scores
from vidembed.versions import versions
from vidembed.workdir import Workdir

Columns = Mapping[str, Sequence[str]]
"""direction → the metrics that are shown of it."""
CONTROL_SYSTEMS = (
    "visual",
    "audio",
    "concatenated",
    "concatenated_standardised",
    "untrained",
    "popularity",
    "random",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """One job's folder: its result with the scores, or why there is none."""

    job: Job
    workdir: Workdir
    result: Mapping[str, Any] | None
    scores: Scores
    missing: str
    train_seconds: float

    @property
    def fingerprint(self) -> str | None:
        """Of the data that it was made with."""
        return self.result["fingerprints"]["corpus"] if self.result else None


def gathered(sweep: Sweep, folder: Path, seeds: Sequence[int] | None = None) -> dict[str, Any]:
    """All that `gather` shows, as JSON values; raises ValueError where no sweep was begun."""
    stored = Workdir(folder).read_recipe()
    if stored is None:
        raise ValueError(
            f"{folder} holds no sweep: begin with "
            f"`python -m experiments.{sweep.name} run --workdir {folder}`"
        )
    base = Recipe.from_json(stored["recipe"])
    seeds = tuple(seeds or _seeds_in(folder))
    columns: Columns = {d: shown(d, base.evaluator.metrics) for d in base.evaluator.directions}
    found = [_look(folder, job, columns) for job in jobs(sweep, base, seeds)]
    _refuse_other_data(found)
    points = {
        name: [one for one in found if one.job.name == name and not one.job.permuted]
        for name in sweep.points(base)
    }
    scored = [one for one in found if one.result]
    controls = [one for one in scored if one.job.name == CONTROLS and not one.job.permuted]
    permuted: dict[int, dict[str, Any]] = {}
    for one in scored:
        if one.job.permuted:
            named = one.job.name if one.job.name in sweep.permuted else ""
            scores = {f"{named} {system}".strip(): of for system, of in one.scores.items()}
            permuted.setdefault(one.job.seed, {}).update(scores)
    return {
        "sweep": sweep.name,
        "title": sweep.title,
        "claim": sweep.claim,
        "simulated_sessions": any(one.result["simulated_sessions"] for one in found if one.result),
        "seeds": list(seeds),
        "axis_name": sweep.axis_name,
        "columns": columns,
        "points": {name: _point(sweep, name, runs) for name, runs in points.items() if runs},
        "comparisons": [_comparison(one, points, columns) for one in sweep.compared(base)],
        "permuted": [_permuted(pair, permuted, columns) for pair in _pairs(sweep)],
        "controls": _controls(controls),
        "missing": [f"{one.job}: {one.missing}" for one in found if one.missing],
        "recipe": stored["recipe"],
        "fingerprints": stored["fingerprints"] | {one.job.world: one.fingerprint for one in scored},
        "data": {one.job.world: one.result["data"] for one in found if one.result},
        "versions": versions(),
    }


def journals(sweep: Sweep, folder: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Run → the lines of its journal, for the points that have one."""
    base = Recipe.from_json(result["recipe"])
    runs = [job for job in jobs(sweep, base, result["seeds"]) if job.name != CONTROLS]
    found = {str(job): journal_of(Workdir(folder / str(job))) for job in runs}
    return {name: lines for name, lines in found.items() if lines}


def _seeds_in(folder: Path) -> list[int]:
    names = (path.name.removeprefix("seed") for path in folder.glob("seed*"))
    return sorted(int(name) for name in names if name.isdecimal())


def _look(folder: Path, job: Job, columns: Columns) -> Found:
    workdir = Workdir(folder / str(job))
    result = workdir.read_json(result_file(workdir)) if is_done(workdir) else None
    attempts = workdir.read_json(attempts_file(workdir)) or []
    missing = ""
    if result is None:
        last = attempts[-1] if attempts else {"end": "not run"}
        missing = last["end"] + (f", {last['message']}" if "message" in last else "")
        missing = "under way" if Lease(workdir.lease_file).is_held() else missing
    elif not _same(Recipe.from_json(result["recipe"]), job):
        missing, result = "another recipe of the same name", None
    return Found(
        job=job,
        workdir=workdir,
        result=result,
        scores=_only(read_scores(per_query_file(workdir)), columns) if result else {},
        missing=missing,
        train_seconds=sum(attempt.get("train_seconds", 0.0) for attempt in attempts),
    )


def _same(made: Recipe, job: Job) -> bool:
    """Whether a result is of this job's recipe, wherever the data lay."""
    return made == dataclasses.replace(job.recipe, corpus=made.corpus, seed=job.seed)


def _only(scores: Scores, columns: Columns) -> Scores:
    def chosen(found: PerQuery, metrics: Sequence[str]) -> PerQuery:
        return PerQuery(ids=found.ids, values={name: found.values[name] for name in metrics})

    return {
        system: {d: chosen(directions[d], metrics) for d, metrics in columns.items()}
        for system, directions in scores.items()
    }


def _refuse_other_data(found: Iterable[Found]) -> None:
    """Points are compared query by query: all of a seed must have been asked the same."""
    first: dict[str, Found] = {}
    for one in found:
        if one.result:
            other = first.setdefault(one.job.world, one)
            if other.fingerprint != one.fingerprint:
                raise ValueError(
                    f"{one.workdir} was made on data {one.fingerprint}, {other.workdir} on "
                    f"{other.fingerprint}: they cannot be compared. Were folders copied together "
                    "that were made from different records?"
                )


def _point(sweep: Sweep, name: str, runs: Sequence[Found]) -> dict[str, Any]:
    done = [one for one in runs if one.result]
    recipe = runs[0].job.recipe
    point: dict[str, Any] = {
        "seeds": [one.job.seed for one in done],
        "recipe": recipe.to_json(),
        "size": f"{recipe.steps:,} × {recipe.feed.examples:,} {recipe.feed.unit}",
        "paper_percent": TABLE_2.get(name),
    }
    if sweep.axis:
        point["at"] = sweep.axis(recipe)
    if done:
        summary = with_intervals([one.scores for one in done])
        point |= {
            "parameters": done[0].result["parameters"] if done[0].result else None,
            "train_seconds": sum(one.train_seconds for one in done) / len(done),
            "scores": {d: systems["trained"] for d, systems in summary.items()},
            "measures": courses([journal_of(one.workdir) for one in done], sweep.measures),
        }
    return point


def _controls(found: Sequence[Found]) -> dict[str, Any]:
    if not found:
        return {}
    summary = with_intervals([one.scores for one in found])
    seeds = [one.job.seed for one in found]
    return {
        system: {"seeds": seeds, "scores": {d: known[system] for d, known in summary.items()}}
        for system in CONTROL_SYSTEMS
        if system in found[0].scores
    }


def _comparison(
    asked: Comparison, points: Mapping[str, Sequence[Found]], columns: Columns
) -> dict[str, Any]:
    """One point minus another, over the seeds that have both, paired by query."""
    sides = [{o.job.seed: o.scores for o in points[n] if o.result} for n in asked[:2]]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    both = [
        {asked.one: sides[0][seed]["trained"], asked.other: sides[1][seed]["trained"]}
        for seed in seeds
    ]
    return _difference(asked, seeds, both, columns)


def _pairs(sweep: Sweep) -> list[Comparison]:
    """What is compared where ids are permuted: the reference, then each further point alike."""
    more = []
    for name in sweep.permuted:
        exchanged = f"{name} trained_exchanged"
        more.append(Comparison(f"{name} trained", exchanged, "not above zero"))
        more.append(Comparison(exchanged, "random", "popularity learnt"))
    return [*PERMUTED, *more]


def _permuted(asked: Comparison, found: Mapping[int, Scores], columns: Columns) -> dict[str, Any]:
    """One system minus another where ids are permuted, over the seeds that have both."""
    both = {seed: scores for seed, scores in found.items() if set(asked[:2]) <= scores.keys()}
    one, other = map(wording.system, asked[:2])
    names = {"one": f"permuted, {one}", "other": other}
    return _difference(asked, list(both), list(both.values()), columns) | names


def _difference(
    asked: Comparison, seeds: Sequence[int], scores: Sequence[Scores], columns: Columns
) -> dict[str, Any]:
    """The mean over seeds with its interval, and each seed's: an interval over videos knows
    nothing of how trainings differ."""
    one, other, asks, paper = asked

    def per_seed(one: PerQuery, other: PerQuery, metric: str) -> float:
        return float((one.values[metric] - other.values[metric]).mean())

    return {
        "one": one,
        "other": other,
        "asks": asks,
        "seeds": list(seeds),
        "differences": difference(scores, one, other) if scores else {},
        "per_seed": {
            d: {m: [per_seed(s[one][d], s[other][d], m) for s in scores] for m in metrics}
            for d, metrics in columns.items()
        },
        "paper_percent": paper,
    }
