"""Place batches on the devices, with a plan for moving resident rows between devices."""

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
    """The arrays that every step reads besides the batch: the feed's resident arrays, padded to
    divide.

    placed: arrays that earlier feeds have placed, by the address of the host's array, so that a
    table is placed on the devices only once.
    """
    known: dict[int, Any] = {} if placed is None else placed

    def place(array: np.ndarray) -> jax.Array:
        address = array.__array_interface__["data"][0]
        if address not in known:
            # Keep the host's array alive, so that its address is not reused.
            known[address] = (array, meshes.place_rows(mesh, array))
        on_device: jax.Array = known[address][1]
        return on_device

    on_devices: dict[str, Any] = jax.tree.map(place, feed.resident())
    return on_devices


@dataclass(frozen=True, kw_only=True)
class Placer:
    """Places batches on a mesh, with the plan for moving their rows between its devices.

    A batch that exceeds the exchange's capacity is placed without a plan. A second compiled step
    then gathers its features with equal results, but moves the whole batch to every device. The
    choice depends only on the whole batch, so all hosts make the same choice.
    """

    mesh: jax.sharding.Mesh
    feed: Any
    """The source of the batches; it defines which of their axes are split over the data axis."""
    exchanger: Exchanger | None = None
    """None if rows do not move: on one device, or if the hosts gather the features."""

    @classmethod
    def of(cls, feed: Any, mesh: jax.sharding.Mesh, *, steps: int) -> "Placer":
        """The placer for `steps` steps of an opened feed, sized from its own batches."""
        resident = jax.tree.leaves(feed.resident()) if mesh.size > 1 else []
        if not resident:
            return cls(mesh=mesh, feed=feed)
        # Spread over the run, because a curriculum draws other rows later.
        sampled = range(0, steps, max(1, steps // SIZING_BATCHES))
        batches = (feed.at(step)["rows"] for step in sampled)
        exchanger = Exchanger.sized(batches, videos=len(resident[0]), devices=mesh.size)
        return cls(mesh=mesh, feed=feed, exchanger=exchanger)

    @property
    def events(self) -> tuple[str, ...]:
        """Names of the events that `place` may report: the feed's, and OVERFLOW."""
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
