"""What `experiments.movielens` measured, put together over seeds."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from experiments.gathering import over_seeds
from vidembed import files
from vidembed.metrics.intervals import bootstrap, differences
from vidembed.records.scores_file import Scores, read_scores

SHOWN = {
    "t4": ("ndcg@10", "map"),
    "t5": ("ndcg@10", "map"),
    "ml100k": ("ndcg@10", "map"),
    "cold": ("auc", "ndcg@20"),
}
"""Test → the metrics that are shown of it."""
COMPARED = {
    "closed": ("raw", "ridge"),
    "cdml": ("raw", "ridge", "closed"),
    "closed + ridge": ("ridge", "closed"),
    "closed + cdml": ("ridge", "closed", "cdml"),
    "tower": ("raw", "ridge", "closed"),
    "tower + ridge": ("ridge", "tower"),
    "tower + closed": ("closed", "tower"),
    "tower + closed + ridge": ("closed", "closed + ridge"),
}
"""What is made of content → what it is compared with, on the same features."""
SHOWN_OVER_RATINGS = ("closed", "cdml", "closed + cdml")
"""What figure 5 is about."""
RIVALS = ("svd", "svd, training users too")
"""What figure 5 compares with; the paper's SVD knows the N ratings of each tried user alone."""


def gathered(folder: Path, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Test → means over seeds with 95 % intervals by resampling users, and what was said of each;
    ValueError where nothing was measured or seeds were measured otherwise."""
    result: dict[str, Any] = {"tests": {}}
    for test in SHOWN:
        found, about = dict[int, Scores](), dict[str, Any]()
        for stored in sorted((folder / "results").glob(f"{test}-seed*.json")):
            seed = int(stored.stem.partition("seed")[2])
            if not seeds or seed in seeds:
                about[f"{seed}"] = files.read_json(stored)
                found[seed] = read_scores(stored.with_suffix(".parquet"))
        keys = {seed: one["key"] for seed, one in about.items()}
        if len({str(key) for key in keys.values()}) > 1:
            raise ValueError(
                f"{folder}: the seeds {', '.join(keys)} of {test} were measured with different "
                "options or data: run those again with equal ones, or name --seeds"
            )
        if found:
            result["tests"][test] = _one(test, list(found.values())) | {
                "seeds": sorted(found),
                "seconds": [one["seconds"] for one in about.values()],
                "about": {seed: one["about"] for seed, one in about.items()},
                "liked": next(iter(keys.values()))["liked"],
                "recipe": next(iter(keys.values())).get("recipe"),
            }
            first = next(iter(about.values()))
            result |= {"notes": first["notes"], "versions": first["versions"]}
    if not result["tests"]:
        raise ValueError(f"{folder} holds no results: `run` comes first")
    return result


def _one(test: str, seeds: Sequence[Scores]) -> dict[str, Any]:
    """scores: system → setting → metric → {value, low, high}; what is compared beside it."""
    scores = {system: over_seeds(seeds, system, by=bootstrap) for system in seeds[0]}
    if test == "cold":
        both = {"scores": scores, "differences": _compared(seeds, test)}
        return both | {"deviation": _deviation(seeds, SHOWN[test][0])}
    if test != "t5":
        return {"scores": scores, "differences": _compared(seeds, test)}
    leads: dict[str, Any] = {}
    for system in contents_of(scores):
        for rival in RIVALS:
            of = over_seeds(seeds, system, rival, by=differences)
            leads.setdefault(system, {})[rival] = {
                metric: leading([int(n) for n in of], [of[n][metric]["value"] for n in of])
                for metric in SHOWN[test]
            }
    return {"scores": scores, "differences": _compared(seeds, test), "leads": leads}


def _deviation(seeds: Sequence[Scores], metric: str) -> dict[str, float]:
    """System → standard deviation over seeds, which draw the cold movies: an interval by users says
    nothing of other movies. Nothing where there is one seed."""
    if len(seeds) < 2:
        return {}
    each = {name: [of[name]["cold"].values[metric].mean() for of in seeds] for name in seeds[0]}
    return {name: float(np.std(values, ddof=1)) for name, values in each.items()}


def _compared(seeds: Sequence[Scores], test: str) -> dict[str, Any]:
    """`one - other` → setting → metric → interval, paired by user: what learns from content against
    simpler things on the same features; in T4 max against mean, in T5, too, and what figure 5 is
    about against the SVDs."""
    systems, pairs = seeds[0], []
    for kind, others in COMPARED.items():
        for features in (f for name in systems if (f := _features(name, kind))):
            system = f"{kind} {features}"
            pairs += [(system, f"{other} {features}") for other in others]
            if test == "t5" and kind in SHOWN_OVER_RATINGS:
                pairs += [(system, rival) for rival in RIVALS]
                pairs.append((system.replace(", mean", ", max"), system))
    found = {f"{a} - {b}": over_seeds(seeds, a, b, by=differences) for a, b in pairs}
    for system, settings in systems.items() if test == "t4" else ():
        histories = [name.removeprefix("max ") for name in settings if name.startswith("max ")]
        models = [
            {model: {h: of[system][f"{model} {h}"] for h in histories} for model in ("max", "mean")}
            for of in seeds
        ]
        if histories:
            both = over_seeds(models, "max", "mean", by=differences)
            found[f"{system}: max - mean"] = both
    return found


def _features(system: str, kind: str) -> str:
    """The features of a system of this kind, such as `trailers, mean`; "" of others, and where it
    takes the maximum of a history."""
    features = system.removeprefix(f"{kind} ")
    return "" if features in (system, "") or features[0] == "+" or ", max" in features else features


def contents_of(systems: Mapping[str, Any]) -> list[str]:
    """The systems that figure 5 is about, as far as they were measured: on the first set of
    features, by the mean."""
    first = next(features for name in systems if (features := _features(name, "raw")))
    return [name for kind in SHOWN_OVER_RATINGS if (name := f"{kind} {first}") in systems]


def leading(counts: Sequence[float], lead: Sequence[float]) -> list[tuple[float, float]]:
    """From where to where a curve is above another, by its lead at each count, linear in between.

    The first and the last count stand for an end where it leads there.
    """
    ends = [float(counts[0])] if lead[0] > 0 else []
    for (n, one), (next_n, other) in pairwise(zip(counts, lead)):
        if (one > 0) != (other > 0):
            ends.append(float(n + one / (one - other) * (next_n - n)))
    ends += [float(counts[-1])] if lead[-1] > 0 else []
    return list(zip(ends[::2], ends[1::2]))
