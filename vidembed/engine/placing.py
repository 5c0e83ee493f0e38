"""How batches come onto the devices, with the plan of how resident rows travel between these."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vidembed.distributed import mesh as meshes
from vidembed.distributed.exchange import Exchanger

SIZING_BATCHES = 8
"""The capacity of the exchange is sized from this many batches, spread over the run."""
OVERFLOW = "gather_overflow"
"""The event of a batch that exceeds the capacity."""


def place_constants(
    feed: Any, mesh: jax.sharding.Mesh, placed: dict[int, Any] | None = None
) -> dict[str, Any]:
    """What every step reads besides the batch: the feed's resident arrays, padded to divide.

    placed: what feeds before this one have placed, by the address of the host's array, so that a
    table lies on the devices once.
    """
    known: dict[int, Any] = {} if placed is None else placed

    def place(array: np.ndarray) -> jax.Array:
        address = array.__array_interface__["data"][0]
        if address not in known:
            # With the host's array, whose memory no other may get meanwhile.
            known[address] = (array, meshes.place_rows(mesh, array))
        found: jax.Array = known[address][1]
        return found

    on_devices: dict[str, Any] = jax.tree.map(place, feed.resident())
    return on_devices


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
    def of(cls, feed: Any, mesh: jax.sharding.Mesh, *, steps: int) -> "Placer":
        """The placer for so many steps of an opened feed, sized from its own batches."""
        resident = jax.tree.leaves(feed.resident()) if mesh.size > 1 else []
        if not resident:
            return cls(mesh=mesh, feed=feed)
        # Spread over the run, for a curriculum draws other rows as it goes on.
        some = range(0, steps, max(1, steps // SIZING_BATCHES))
        batches = (feed.at(step)["rows"] for step in some)
        exchanger = Exchanger.sized(batches, videos=len(resident[0]), devices=mesh.size)
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
