"""Lengths in passes over the train examples, turned into steps once the data is open."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vidembed.engine.recipe import Recipe

INSTEAD = {
    "passes": "steps",
    "decay_passes": "optimiser.decay_steps",
    "checkpoint_passes": "checkpoints.every_steps",
}
"""Each length in passes, and the field of the recipe that it sets."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths in passes; None leaves the recipe's number of steps."""

    passes: float | None = None
    """Train for this many passes over the train examples, instead of --steps."""
    decay_passes: float | None = None
    """Passes between two decays of the learning rate, instead of --optimiser.decay-steps."""
    checkpoint_passes: float | None = None
    """Passes between checkpoints, instead of --checkpoints.every-steps. Evaluations keep their
    distance in checkpoints (--evaluate-every)."""

    def __post_init__(self) -> None:
        for name, value in self.given.items():
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} {value} must be above zero")

    @property
    def given(self) -> Mapping[str, float]:
        """The lengths that are set, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def in_steps(self, recipe: Recipe, corpus: Any) -> tuple[Recipe, str]:
        """The recipe with its lengths in steps on this data, and a sentence that says them.

        A pass is a whole number of steps, rounded up, as in codes that count epochs. Decays count
        updates (see `Optimiser.accumulate`). Raises ValueError for a recipe of several phases, and
        for a feed with a fixed number of steps.
        """
        if not self.given:
            return recipe, ""
        options = ", ".join(f"--{name.replace('_', '-')}" for name in self.given)
        if recipe.phases:
            raise ValueError(
                f"{options}: the phases of this recipe have feeds of their own, and so no pass in "
                "common: give --steps"
            )
        feed = recipe.feed.open(corpus, seed=recipe.seed, reads=recipe.task.reads)
        if feed.whole_steps is not None:
            raise ValueError(
                f"{options}: {type(recipe.feed).__name__} makes exactly one pass, of "
                f"{feed.whole_steps} steps: leave this out"
            )
        size, drawn_from = feed.one_pass
        each = -(-size // recipe.feed.examples)
        steps = {name: max(1, round(value * each)) for name, value in self.given.items()}
        stepwise = recipe.optimiser.schedule == "stepwise"
        lengths = {
            "training": self.passes,
            "between decays of the learning rate": self.decay_passes if stepwise else None,
            "between checkpoints": self.checkpoint_passes,
        }
        said = [
            f"{what} {value:,g} {'pass' if value == 1 else 'passes'} "
            f"({max(1, round(value * each)):,} steps)"
            for what, value in lengths.items()
            if value is not None
        ]
        return (
            _with_steps(recipe, steps),
            f"a pass over {size:,} {drawn_from} is {each:,} steps: {', '.join(said)}",
        )


def _with_steps(recipe: Recipe, steps: Mapping[str, int]) -> Recipe:
    optimiser, checkpoints = recipe.optimiser, recipe.checkpoints
    if "decay_passes" in steps:
        updates = max(1, steps["decay_passes"] // optimiser.accumulate)
        optimiser = replace(optimiser, decay_steps=updates)
    if "checkpoint_passes" in steps:
        checkpoints = replace(checkpoints, every_steps=steps["checkpoint_passes"])
    apart = recipe.evaluate_every // recipe.checkpoints.every_steps
    return replace(
        recipe,
        steps=steps.get("passes", recipe.steps),
        optimiser=optimiser,
        checkpoints=checkpoints,
        evaluate_every=apart * checkpoints.every_steps,
    )
