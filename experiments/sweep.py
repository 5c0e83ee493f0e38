"""A sweep: variations of one recipe, each an ordinary training run with its evaluation.

    python -m experiments.architectures run --workdir W [--records FOLDER] [--shard 1/4]
    python -m experiments.architectures gather --workdir W

Sweeps that use the same work directory share the table, each seed's sessions and graph, the
controls, and every point of the same name, which is trained once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from experiments import cdml
from experiments.paper import Percent
from vidembed.engine.recipe import Recipe, Retention
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.models.fusion import EarlyFusion, LateFusion, Layers, SingleModality
from vidembed.models.parameters import Network

REFERENCE = "late-4000-256"
"""CDML's choice: the recipe that every other point varies, and the controls are made with."""
NARROW_REFERENCE = "base"
"""The same for sweeps of `narrow_recipe`."""
SIZES = {"reduced": (100, 512), "full": (cdml.recipe.steps, cdml.recipe.feed.examples)}
"""Scale → steps and triplets a batch. The largest network of the tables takes about a minute at
the reduced scale on two cores."""


def varied(
    recipe: Recipe, *, task: Mapping[str, Any] = {}, feed: Mapping[str, Any] = {}, **fields: Any
) -> Recipe:
    """`recipe` with these fields of its task, of its feed and of its own; TypeError for others."""
    old_task: Any = recipe.task
    old_feed: Any = recipe.feed
    return replace(recipe, task=replace(old_task, **task), feed=replace(old_feed, **feed), **fields)


def base_recipe(steps: int = 100, triplets: int = 512, *, hidden: int = 4000) -> Recipe:
    """The recipe that sweeps vary: the paper's network, dropout on the input, float32."""
    return varied(
        cdml.recipe,
        task={"model": network("late", hidden, 256)},
        feed={"batch_triplets": triplets},
        # One checkpoint is kept: a hundred runs, each of up to 160 MB.
        checkpoints=Retention(every_steps=500, keep_last=1),
        steps=steps,
        log_every=10,
    )


def narrow_recipe(steps: int, triplets: int) -> Recipe:
    """The base of sweeps of many points: 1,024 hidden units below the paper's batch, a quarter of
    the time."""
    full = triplets >= cdml.recipe.feed.examples
    return base_recipe(steps, triplets, hidden=4000 if full else 1024)


def network(kind: str, *widths: int) -> Network:
    """`late`, `early` or `visual` (one tower over the visual features), of these widths."""
    kinds = {"late": LateFusion, "early": EarlyFusion, "visual": SingleModality}
    return kinds[kind](layers=Layers(hidden=widths[:-1], size=widths[-1], input_dropout=0.5))


def networks(base: Recipe, *names: str) -> dict[str, Recipe]:
    """Name → `base` with the network that the name spells, such as early-4000-512-256."""
    spelt = {name: name.split("-") for name in names}
    models = {name: network(kind, *map(int, widths)) for name, (kind, *widths) in spelt.items()}
    return {name: varied(base, task={"model": model}) for name, model in models.items()}


class Comparison(NamedTuple):
    """`one` minus `other`: points of a sweep, or systems that are scored alike."""

    one: str
    other: str
    asks: str
    paper: Percent | None = None
    """The difference that the paper itself reports, in percent, where it makes this comparison."""


PERMUTED = (
    Comparison("visual", "random", "not above zero"),
    Comparison("audio", "random", "not above zero"),
    Comparison("concatenated", "random", "not above zero"),
    Comparison("trained", "trained_exchanged", "not above zero"),
    Comparison("trained_exchanged", "random", "popularity learnt"),
)
"""Compared where video ids are permuted, so that content tells nothing of what is watched.

Raw features, which know nothing else, are to fall to chance. A network may learn how much each
candidate is watched: it must not be above its own embedding with the queries shuffled, and that
above random is what it knows of the candidates alone. A difference below zero is noise: nothing
here could teach a system to avoid what is related."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A grid of variations of the base recipe."""

    name: str
    """Of the file in `experiments/`, and of what `gather` writes."""
    title: str
    claim: str
    """What the paper says about it, in a sentence."""
    points: Callable[[Recipe], Mapping[str, Recipe]]
    """The base recipe → name → the recipe of each point; a name stands for one recipe in all
    sweeps."""
    base: Callable[[int, int], Recipe] = base_recipe
    """(steps, triplets a batch) → the recipe that is varied."""
    evaluator: RelatedVideos = RelatedVideos()
    """What measures every point, with the seed of its world."""
    comparisons: Sequence[Comparison] = ()
    """Without any, each point is compared with the reference."""
    reference: str = REFERENCE
    """The point whose recipe is the base."""
    permuted: Sequence[str] = ()
    """Points that are trained where video ids are permuted, too, beside the reference."""
    measures: Sequence[str] = ()
    """Of the training, by their names in metrics.jsonl, whose course is shown."""
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=lambda: SIZES)
    """Scale → steps and triplets a batch."""
    axis: Callable[[Any], int] | None = None
    """Where a point stands on the horizontal axis of a plot, for sweeps of one number."""
    axis_name: str = ""

    def compared(self, base: Recipe) -> Sequence[Comparison]:
        """The comparisons to make: those of points that there are at this size."""
        points = self.points(base).keys()
        others = [name for name in points if name != self.reference]
        asked = self.comparisons or [Comparison(name, self.reference, "") for name in others]
        return [one for one in asked if points >= {one.one, one.other}]

    def compared_permuted(self) -> list[Comparison]:
        """What is compared where ids are permuted: the reference, then each further point."""
        exchanged = [(f"{name} trained", f"{name} trained_exchanged") for name in self.permuted]
        pairs = [Comparison(*pair, "not above zero") for pair in exchanged]
        chance = [Comparison(other, "random", "popularity learnt") for _, other in exchanged]
        return [*PERMUTED, *(one for both in zip(pairs, chance) for one in both)]
