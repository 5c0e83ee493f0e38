"""How the batches of a run come onto its devices."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from vidembed.distributed import mesh as meshes
from vidembed.distributed.exchange import Exchanger
from vidembed.engine.recipe import Recipe

logger = logging.getLogger(__name__)

SIZING_BATCHES = 8
"""The capacity of the exchange is sized from this many batches, spread over the run."""
OVERFLOW = "gather_overflow"
"""The event of a batch that exceeds the capacity."""


@dataclass(frozen=True, kw_only=True)
class Placer:
    """Places batches on a mesh, with the plan of how their rows travel between its devices.

    A batch that exceeds the exchange's capacity is placed without a plan. Its features are then
    gathered by a second compiled step, with equal results, which moves the whole batch to every
    device. The choice depends on the whole batch alone, so that all hosts make the same.
    """

    mesh: jax.sharding.Mesh
    feed: Any
    """Where the batches come from; it says which of their axes are split over the data axis."""
    exchanger: Exchanger | None = None
    """None where rows do not travel: on one device, or if the hosts gather the features."""

    @classmethod
    def of(cls, recipe: Recipe, feed: Any, videos: int, mesh: jax.sharding.Mesh) -> "Placer":
        """The placer of a run over a table of so many videos, sized from its own batches."""
        if mesh.size == 1 or recipe.feed.placement == "host":
            return cls(mesh=mesh, feed=feed)
        # Spread over the run, for a curriculum draws other rows as it goes on.
        steps = range(0, recipe.steps, max(1, recipe.steps // SIZING_BATCHES))
        batches = (feed.at(step)["rows"] for step in steps)
        exchanger = Exchanger.sized(batches, videos=videos, devices=mesh.size)
        logger.info("a device sends at most %d rows to each other device", exchanger.capacity)
        return cls(mesh=mesh, feed=feed, exchanger=exchanger)

    @property
    def events(self) -> tuple[str, ...]:
        """Names of what `place` may report: the feed's events, and OVERFLOW."""
        return (*self.feed.events, *((OVERFLOW,) if self.exchanger else ()))

    def place(self, batch: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """This host's batch as global arrays, and the events that happened."""
        placed = meshes.place_batch(self.mesh, batch, self.feed.split_axes)
        events = tuple(self.feed.events_of(batch))
        if self.exchanger is None:
            return placed, events
        plan = self.exchanger.plan(batch["rows"])
        if plan is None:
            return placed, (*events, OVERFLOW)
        return placed | {"exchange": meshes.place_exchange(self.mesh, plan)}, events
