"""One update as a pure function that is compiled once, and the state that it updates.

The training state is a dictionary: `step` i32[] (updates applied), `parameters`, `state` (changes
without a gradient), `optimiser` (with phases, one entry per phase, by number), and, if averages are
kept, `average` (of the parameters) and `average_statistics`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vidembed.distributed import mesh as meshes
from vidembed.engine.optimiser import average_share
from vidembed.engine.recipe import Recipe
from vidembed.workdir.checkpoints.record import is_below

State = dict[str, Any]
BATCH_STATISTICS = "batch_statistics"
"""The entry of a task's state that is averaged if parameters are."""
AVERAGE, AVERAGE_STATISTICS = "average", "average_statistics"


def new_state(recipe: Recipe, spec: Any, statistics: Any) -> State:
    """The state before the first update; a pure function of its arguments (trace or run it)."""
    key = jax.random.key(recipe.seed)
    return state_of(recipe, *recipe.task.init(key, spec, statistics))


def state_of(recipe: Recipe, parameters: dict[str, Any], state: Any) -> State:
    """The training state that starts with these parameters."""
    optimisers = {
        str(number): transformation(recipe, number).init(learning(parameters, phase.learns))
        for number, phase in enumerate(recipe.resolved_phases)
    }
    whole = {
        "step": jnp.zeros((), jnp.int32),
        "parameters": parameters,
        "state": state,
        "optimiser": optimisers if recipe.phases else optimisers["0"],
    }
    if recipe.optimiser.average_decay is not None:
        whole[AVERAGE] = jax.tree.map(jnp.copy, parameters)
        if BATCH_STATISTICS in state:
            whole[AVERAGE_STATISTICS] = jax.tree.map(jnp.copy, state[BATCH_STATISTICS])
    return whole


def transformation(recipe: Recipe, phase: int) -> optax.GradientTransformation:
    """The update rule of a phase, with its rate over the steps of the run."""
    return recipe.resolved_phases[phase].optimiser.transformation(recipe.steps_of(phase))


def learning(parameters: Mapping[str, Any], learns: tuple[str, ...]) -> dict[str, Any]:
    """The parameters at or below the paths in `learns`, or all if it is empty; ValueError if a path
    matches none."""
    selected = {n: p for n, p in parameters.items() if not learns or is_below(n, learns)}
    for path in learns:
        if not any(is_below(name, [path]) for name in selected):
            raise ValueError(
                f"--learns: there is no parameter {path!r}, nor any below it; there are "
                f"{', '.join(sorted(parameters))}"
            )
    return selected


def state_shape(
    recipe: Recipe, spec: Any, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
) -> State:
    """Shapes, dtypes and shardings of the state, without computing it."""
    shapes = jax.eval_shape(partial(new_state, recipe, spec, None))
    axes, state_axes = recipe.task.layout(shapes["parameters"], shapes["state"])
    parts = mesh.shape[meshes.MODEL]

    def specs_of(tree: Any, axes: Mapping[str, int | None]) -> Any:
        def spec_of(path: Any, shape: jax.ShapeDtypeStruct) -> Any:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            axis = axes.get(name)
            _refuse_uneven(name, shape.shape, axis, parts)
            return meshes.model_spec(axis)

        return jax.tree_util.tree_map_with_path(spec_of, tree)

    parameters = specs_of(shapes["parameters"], axes)
    state = specs_of(shapes["state"], state_axes)
    layout = {
        "step": meshes.model_spec(None),
        "parameters": parameters,
        "state": state,
        AVERAGE: parameters,
        AVERAGE_STATISTICS: state.get(BATCH_STATISTICS) if isinstance(state, dict) else None,
    }
    layout = {name: layout[name] for name in shapes if name in layout}
    optimisers = shapes["optimiser"] if recipe.phases else {"0": shapes["optimiser"]}
    optimiser_layouts = {
        str(number): optax.tree.map_params(
            transformation(recipe, number),
            lambda _, spec: spec,
            optimisers[str(number)],
            learning(parameters, phase.learns),
            transform_non_params=lambda _: meshes.model_spec(None),
        )
        for number, phase in enumerate(recipe.resolved_phases)
    }
    layout["optimiser"] = optimiser_layouts if recipe.phases else optimiser_layouts["0"]
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        meshes.shardings(mesh, layout),
    )


def compile_update(
    recipe: Recipe, shape: State, mesh: jax.sharding.Mesh, *, phase: int = 0
) -> Callable[..., tuple[State, dict[str, Any]]]:
    """`update(state, constants, batch) → (state, measures)` of a phase; donates the old state."""
    resolved = recipe.resolved_phases[phase]
    optimiser, rule = resolved.optimiser, transformation(recipe, phase)
    decay = recipe.optimiser.average_decay

    def update(
        whole: State, constants: Mapping[str, Any], batch: Mapping[str, Any]
    ) -> tuple[State, dict[str, jax.Array]]:
        step, parameters = whole["step"], whole["parameters"]
        key = jax.random.fold_in(jax.random.key(recipe.seed), step + 1)
        learnt = learning(parameters, resolved.learns)

        def loss(learnt: Mapping[str, Any]) -> Any:
            every = {**parameters, **learnt}
            return recipe.task.loss_and_measures(every, whole["state"], constants, batch, key)

        (_, (state, measures)), gradient = jax.value_and_grad(loss, has_aux=True)(learnt)
        if "weight" in batch:
            gradient = jax.tree.map(lambda leaf: leaf * batch["weight"], gradient)
        before = whole["optimiser"][str(phase)] if recipe.phases else whole["optimiser"]
        direction, after = rule.update(gradient, before, learnt)
        direction = recipe.task.masked(direction, whole["state"])
        parameters = {**parameters, **optax.apply_updates(learnt, direction)}
        new = {
            "step": step + 1,
            "parameters": parameters,
            "state": state,
            "optimiser": {**whole["optimiser"], str(phase): after} if recipe.phases else after,
        }
        if decay is not None:
            mean = partial(optax.incremental_update, step_size=_newest_share(recipe, decay, step))
            new[AVERAGE] = mean(parameters, whole[AVERAGE])
            if AVERAGE_STATISTICS in whole:
                old = whole[AVERAGE_STATISTICS]
                new[AVERAGE_STATISTICS] = mean(state[BATCH_STATISTICS], old)
        measures["gradient_norm"] = optax.tree.norm(gradient)
        measures["parameter_norm"] = optax.tree.norm(parameters)
        measures["learning_rate"] = optimiser.rate(
            _done(recipe, phase, step), recipe.steps_of(phase)
        )
        return new, measures

    shardings = jax.tree.map(lambda leaf: leaf.sharding, shape)
    return jax.jit(update, donate_argnums=0, out_shardings=(shardings, meshes.replicated(mesh)))


def _newest_share(recipe: Recipe, decay: float, step: jax.Array) -> jax.Array:
    """f32[]: `average_share` of the update at step `step`; 0 if that step makes no update because
    gradients are still being accumulated."""
    every = [phase.optimiser.accumulate for phase in recipe.resolved_phases]
    if set(every) == {1}:
        return average_share(decay, step)
    before, after = (
        sum(_done(recipe, phase, at) // batches for phase, batches in enumerate(every))
        for at in (step, step + 1)
    )
    return jnp.where(after > before, average_share(decay, before), 0.0)


def _done(recipe: Recipe, phase: int, step: jax.Array) -> jax.Array:
    """i32[]: the number of steps before `step` in this phase; see `Recipe.position`."""
    if not recipe.phases:
        return step
    lengths = [each.steps for each in recipe.phases]
    rounds, rest = jnp.divmod(step, sum(lengths))
    return rounds * lengths[phase] + jnp.clip(rest - sum(lengths[:phase]), 0, lengths[phase])


def refuse_uneven_batch(recipe: Recipe, devices: int) -> None:
    """Raises ValueError, with the nearest sizes that fit, if a batch does not divide evenly."""
    for phase in recipe.resolved_phases:
        unit, examples = phase.feed.unit, phase.feed.examples
        if examples % devices:
            below = examples // devices * devices
            raise ValueError(
                f"--feed.batch-{unit} {examples} does not divide over {devices} devices; choose "
                f"{below or devices} or {below + devices}"
            )


def _refuse_uneven(name: str, shape: tuple[int, ...], axis: int | None, parts: int) -> None:
    if axis is not None and shape[axis] % parts:
        raise ValueError(
            f"axis {axis} of {name} {shape} does not divide over --mesh.model {parts}; choose "
            "layer widths that are multiples of it, or a smaller --mesh.model"
        )
