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
"""CDML's choice: the recipe that all other points vary, and that the controls use."""
NARROW_REFERENCE = "base"
"""The reference of sweeps that use `narrow_recipe`."""
SIZES = {"reduced": (100, 512), "full": (cdml.recipe.steps, cdml.recipe.feed.examples)}
"""Scale → steps and triplets per batch. The largest network of the tables takes about a minute at
the reduced scale on two cores."""


def varied(
    recipe: Recipe, *, task: Mapping[str, Any] = {}, feed: Mapping[str, Any] = {}, **fields: Any
) -> Recipe:
    """Change fields of a recipe, its task and its feed; raises TypeError for unknown fields."""
    old_task: Any = recipe.task
    old_feed: Any = recipe.feed
    return replace(recipe, task=replace(old_task, **task), feed=replace(old_feed, **feed), **fields)


def base_recipe(steps: int = 100, triplets: int = 512, *, hidden: int = 4000) -> Recipe:
    """The recipe that sweeps vary: the paper's network, with input dropout, in float32."""
    return varied(
        cdml.recipe,
        task={"model": network("late", hidden, 256)},
        feed={"batch_triplets": triplets},
        # Keep one checkpoint: there are a hundred runs, with up to 160 MB each.
        checkpoints=Retention(every_steps=500, keep_last=1),
        steps=steps,
        log_every=10,
    )


def narrow_recipe(steps: int, triplets: int) -> Recipe:
    """The base of sweeps with many points: 1,024 hidden units unless batches have the paper's size,
    which takes a quarter of the time."""
    full = triplets >= cdml.recipe.feed.examples
    return base_recipe(steps, triplets, hidden=4000 if full else 1024)


def network(kind: str, *widths: int) -> Network:
    """A `late`, `early` or `visual` network (one tower of visual features) of these widths."""
    kinds = {"late": LateFusion, "early": EarlyFusion, "visual": SingleModality}
    return kinds[kind](layers=Layers(hidden=widths[:-1], size=widths[-1], input_dropout=0.5))


def networks(base: Recipe, *names: str) -> dict[str, Recipe]:
    """Name → `base` with the network that the name describes, such as early-4000-512-256."""
    spelt = {name: name.split("-") for name in names}
    models = {name: network(kind, *map(int, widths)) for name, (kind, *widths) in spelt.items()}
    return {name: varied(base, task={"model": model}) for name, model in models.items()}


class Comparison(NamedTuple):
    """The comparison `one` minus `other` of two points of a sweep, or two systems."""

    one: str
    other: str
    asks: str
    paper: Percent | None = None
    """The difference that the paper reports, in percent, if it makes this comparison."""


PERMUTED = (
    Comparison("visual", "random", "not above zero"),
    Comparison("audio", "random", "not above zero"),
    Comparison("concatenated", "random", "not above zero"),
    Comparison("trained", "trained_exchanged", "not above zero"),
    Comparison("trained_exchanged", "random", "popularity learnt"),
)
"""Comparisons with permuted video ids, so that content says nothing about what is watched.

Raw features use only content and must fall to chance. A network may learn how much each candidate
is watched: it must not be above its own embedding with the queries shuffled, and the difference
between that and random is what it knows about candidates alone. A difference below zero is noise:
nothing here could teach a system to avoid related videos."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A set of variations of the base recipe."""

    name: str
    """Name of the file in `experiments/`, and of the files that `gather` writes."""
    title: str
    claim: str
    """The paper's claim, in one sentence."""
    points: Callable[[Recipe], Mapping[str, Recipe]]
    """The base recipe → name → the recipe of each point; a name means the same recipe in all
    sweeps."""
    base: Callable[[int, int], Recipe] = base_recipe
    """(steps, triplets per batch) → the recipe to vary."""
    evaluator: RelatedVideos = RelatedVideos()
    """The evaluator of every point, with the seed of its world."""
    comparisons: Sequence[Comparison] = ()
    """If empty, each point is compared with the reference."""
    reference: str = REFERENCE
    """The point whose recipe is the base."""
    permuted: Sequence[str] = ()
    """Points that are also trained with permuted video ids, besides the reference."""
    measures: Sequence[str] = ()
    """Training measures to show over time, by their names in metrics.jsonl."""
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=lambda: SIZES)
    """Scale → steps and triplets per batch."""
    axis: Callable[[Any], int] | None = None
    """Recipe → the position on the horizontal axis of a plot, for sweeps of one number."""
    axis_name: str = ""

    def compared(self, base: Recipe) -> Sequence[Comparison]:
        """The comparisons whose points exist at this size."""
        points = self.points(base).keys()
        others = [name for name in points if name != self.reference]
        comparisons = self.comparisons or [Comparison(name, self.reference, "") for name in others]
        return [
            comparison for comparison in comparisons if points >= {comparison.one, comparison.other}
        ]

    def compared_permuted(self) -> list[Comparison]:
        """Comparisons with permuted ids: the reference first, then each further point."""
        systems = [(f"{name} trained", f"{name} trained_exchanged") for name in self.permuted]
        pairs = [Comparison(*pair, "not above zero") for pair in systems]
        chance = [Comparison(shuffled, "random", "popularity learnt") for _, shuffled in systems]
        return [
            *PERMUTED,
            *(
                comparison
                for pair_of_comparisons in zip(pairs, chance)
                for comparison in pair_of_comparisons
            ),
        ]
