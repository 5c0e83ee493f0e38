"""What a sweep has to do: a folder for each point and seed, and for the controls of a seed.

W/recipe.json                 the base recipe: one work directory, one size
W/table, W/seedS/             the videos; each seed's sessions and graph
W/seedS/POINT/                a run as any other, and beside it
    per_query.parquet, result.json   its scores query by query; what made it
    attempts.json                    each attempt: seconds, how it ended, why it failed
W/seedS/controls/             raw features, an untrained network, popularity, chance
W/seedS-permuted/             the reference, some points and the controls with ids exchanged
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.sweep import Sweep
from vidembed.recipe import Recipe
from vidembed.workdir import Workdir

CONTROLS = "controls"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One folder to fill: a point with a seed, or the controls of a seed."""

    name: str
    recipe: Recipe
    seed: int
    permuted: bool = False

    @property
    def world(self) -> str:
        """The folder of its sessions."""
        return f"seed{self.seed}" + ("-permuted" if self.permuted else "")

    def __str__(self) -> str:
        return f"{self.world}/{self.name}"


def jobs(sweep: Sweep, base: Recipe, seeds: Sequence[int]) -> list[Job]:
    """Points and controls of every seed, in an order that all shards agree on."""
    points = sweep.points(base)
    found = []
    for seed in seeds:
        found += [Job(name=name, recipe=recipe, seed=seed) for name, recipe in points.items()]
        exchanged = {sweep.reference: base} | {name: points[name] for name in sweep.permuted}
        for name, recipe in exchanged.items():
            found.append(Job(name=name, recipe=recipe, seed=seed, permuted=True))
        for permuted in (False, True):
            found.append(Job(name=CONTROLS, recipe=base, seed=seed, permuted=permuted))
    return found


def share(found: Sequence[Job], number: int, of: int) -> list[Job]:
    """Part `number` (from 1) of `of`: every of-th job."""
    return list(found[number - 1 :: of])


def result_file(workdir: Workdir) -> Path:
    """What made the scores of a job."""
    return Path(workdir.path) / "result.json"


def per_query_file(workdir: Workdir) -> Path:
    """The scores of a job, query by query."""
    return Path(workdir.path) / "per_query.parquet"


def is_done(workdir: Workdir) -> bool:
    """Whether a job's scores are there, and what made them."""
    return result_file(workdir).exists() and per_query_file(workdir).exists()


def attempts_file(workdir: Workdir) -> Path:
    """The attempts at a job."""
    return Path(workdir.path) / "attempts.json"
