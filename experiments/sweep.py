"""A sweep: variations of one recipe, each an ordinary training run with its evaluation.

    python -m experiments.architectures run --workdir W [--records FOLDER] [--shard 1/4]
    python -m experiments.architectures gather --workdir W

Sweeps that use the same work directory share the table, each seed's sessions and graph, the
controls, and every point of the same name, which is trained once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from experiments import cdml
from experiments.comparisons import Comparison
from experiments.variation import varied
from vidembed.models.fusion import EarlyFusion, Fusion, LateFusion, Layers, SingleModality
from vidembed.recipe import Recipe, Retention

REDUCED_STEPS, REDUCED_TRIPLETS = 100, 512
"""The largest network of the tables takes about a minute at this size on two cores."""
REFERENCE = "late-4000-256"
"""CDML's choice: the recipe that every other point varies, and the controls are made with."""
NARROW_REFERENCE = "base"
"""The same for sweeps of `narrow_recipe`."""
SIZES = {
    "reduced": (REDUCED_STEPS, REDUCED_TRIPLETS),
    "full": (cdml.recipe.steps, cdml.recipe.feed.examples),
}
"""Scale → steps and triplets a batch."""


def base_recipe(
    steps: int = REDUCED_STEPS, triplets: int = REDUCED_TRIPLETS, *, hidden: int = 4000
) -> Recipe:
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


def network(kind: str, *widths: int) -> Fusion:
    """`late`, `early` or `visual` (one tower over the visual features), of these widths."""
    *hidden, size = widths
    layers = Layers(hidden=tuple(hidden), size=size, input_dropout=0.5)
    kinds = {"late": LateFusion, "early": EarlyFusion, "visual": SingleModality}
    return kinds[kind](layers=layers)


def networks(base: Recipe, *names: str) -> dict[str, Recipe]:
    """Name → `base` with the network that the name spells, such as early-4000-512-256."""
    found = {}
    for name in names:
        kind, *widths = name.split("-")
        model = network(kind, *map(int, widths))
        found[name] = varied(base, task={"model": model})
    return found


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
    axis: Callable[[Recipe], int] | None = None
    """Where a point stands on the horizontal axis of a plot, for sweeps of one number."""
    axis_name: str = ""

    def compared(self, base: Recipe) -> Sequence[Comparison]:
        """The comparisons to make: those of points that there are at this size."""
        points = self.points(base).keys()
        others = [name for name in points if name != self.reference]
        asked = self.comparisons or [Comparison(name, self.reference, "") for name in others]
        return [one for one in asked if points >= {one.one, one.other}]
