"""One update, as a pure function that is compiled once, the state it updates, and how batches come
onto its devices.

The state of training is a dictionary: `step` i32[] (updates applied), `parameters`, `state` (what
changes without a gradient), `optimiser`, and `average` (of the parameters) where that is kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vidembed.corpora.watched import Corpus
from vidembed.distributed import mesh as meshes
from vidembed.distributed.exchange import Exchanger
from vidembed.engine.optimiser import average_share
from vidembed.engine.recipe import Recipe
from vidembed.models.parameters import check_modalities
from vidembed.records.rows import resident_rows
from vidembed.records.statistics import Statistics
from vidembed.tasks.spec import Spec

State = dict[str, Any]


def spec_of(recipe: Recipe, corpus: Corpus) -> Spec:
    """What the shapes of the state follow from, besides the recipe."""
    return Spec(widths=corpus.table.widths, classes=recipe.feed.classes(corpus))


def new_state(recipe: Recipe, spec: Spec, statistics: Statistics) -> State:
    """The state before the first update; a pure function of its arguments (trace or run it)."""
    key = jax.random.key(recipe.seed)
    parameters, state = recipe.task.init(key, spec, statistics)
    whole = {
        "step": jnp.zeros((), jnp.int32),
        "parameters": parameters,
        "state": state,
        "optimiser": recipe.optimiser.transformation().init(parameters),
    }
    if recipe.optimiser.average_decay is not None:
        whole["average"] = jax.tree.map(jnp.copy, parameters)
    return whole


def state_shape(
    recipe: Recipe, spec: Spec, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
) -> State:
    """Shapes, dtypes and shardings of the state, without computing it."""
    check_modalities(recipe.task.model, spec.widths)
    nothing = {
        m: {"mean": np.zeros(w, np.float32), "deviation": np.ones(w, np.float32)}
        for m, w in spec.widths.items()
    }
    shapes = jax.eval_shape(partial(new_state, recipe, spec, nothing))
    axes, _ = recipe.task.layout(shapes["parameters"], shapes["state"])
    specs = {name: meshes.model_spec(axis) for name, axis in axes.items()}
    for name, axis in axes.items():
        _refuse_uneven(name, shapes["parameters"][name].shape, axis, mesh)
    everywhere = partial(jax.tree.map, lambda _: meshes.model_spec(None))
    layout = everywhere(shapes) | {"parameters": specs}
    layout["optimiser"] = optax.tree.map_params(
        recipe.optimiser.transformation(),
        lambda _, spec: spec,
        shapes["optimiser"],
        specs,
        transform_non_params=lambda _: meshes.model_spec(None),
    )
    if "average" in shapes:
        layout["average"] = specs
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        meshes.shardings(mesh, layout),
    )


def place_constants(recipe: Recipe, corpus: Corpus, mesh: jax.sharding.Mesh) -> dict[str, Any]:
    """What every step reads besides the batch: the rows that the task wants on the devices."""
    if recipe.feed.placement == "host":
        return {}
    resident = resident_rows(corpus.table, recipe.task.reads)
    return jax.tree.map(partial(meshes.place_rows, mesh), resident)


def compile_update(
    recipe: Recipe, shape: State, mesh: jax.sharding.Mesh
) -> Callable[..., tuple[State, dict[str, Any]]]:
    """`update(state, constants, batch) → (state, measures)`; the old state is given up."""
    rule = recipe.optimiser.transformation()
    decay = recipe.optimiser.average_decay

    def update(
        whole: State, constants: Mapping[str, Any], batch: Mapping[str, Any]
    ) -> tuple[State, dict[str, jax.Array]]:
        step, parameters = whole["step"], whole["parameters"]
        key = jax.random.fold_in(jax.random.key(recipe.seed), step + 1)
        differentiate = jax.value_and_grad(recipe.task.loss_and_measures, has_aux=True)
        (_, (state, measures)), gradient = differentiate(
            parameters, whole["state"], constants, batch, key
        )
        direction, optimiser = rule.update(gradient, whole["optimiser"], parameters)
        parameters = optax.apply_updates(parameters, direction)
        new = {"step": step + 1, "parameters": parameters, "state": state, "optimiser": optimiser}
        if decay is not None:
            share = average_share(decay, step)
            new["average"] = optax.incremental_update(parameters, whole["average"], share)
        measures["gradient_norm"] = optax.tree.norm(gradient)
        measures["parameter_norm"] = optax.tree.norm(parameters)
        measures["learning_rate"] = recipe.optimiser.rate(step)
        return new, measures

    shardings = jax.tree.map(lambda leaf: leaf.sharding, shape)
    return jax.jit(update, donate_argnums=0, out_shardings=(shardings, meshes.replicated(mesh)))


def refuse_uneven_batch(recipe: Recipe, devices: int) -> None:
    """Raises ValueError, with the nearest sizes that fit, unless the batch divides evenly."""
    unit, examples = recipe.feed.unit, recipe.feed.examples
    if examples % devices:
        below = examples // devices * devices
        raise ValueError(
            f"feed.batch_{unit} {examples} does not divide over {devices} devices; choose "
            f"{below or devices} or {below + devices}"
        )


def _refuse_uneven(name: str, shape: tuple[int, ...], axis: int | None, mesh: Any) -> None:
    parts = mesh.shape[meshes.MODEL]
    if axis is not None and shape[axis] % parts:
        raise ValueError(
            f"parameter {name} {shape} does not divide over mesh.model={parts} at axis {axis}; "
            "choose layer widths that divide by it, or a smaller mesh.model"
        )


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
