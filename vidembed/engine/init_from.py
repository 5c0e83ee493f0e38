"""Beginning from another run: which of its arrays are taken over, and what becomes of the others.

Arrays are taken by name, where shape and dtype are the same: parameters (by their average, where
the source keeps one, since that is what was measured of it), and what of the state the task
inherits. That includes how inputs are standardised: the source's parameters were trained on inputs
that were standardised so, and on other statistics they would compute something else. What differs
is refused unless the caller admits it, and then keeps its fresh values. The optimiser begins anew.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vidembed.distributed import mesh as meshes
from vidembed.engine.model import step_named
from vidembed.engine.protocols import Task
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import (
    AVERAGE,
    AVERAGE_STATISTICS,
    BATCH_STATISTICS,
    State,
    state_of,
)
from vidembed.records.space import check_same_space
from vidembed.workdir.checkpoints.record import entries_of, is_below, part_of
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import Workdir

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run takes from another."""

    taken: Mapping[str, str]
    """Path of an array of this run → the path of the source's array that takes its place."""
    grown: Mapping[str, int]
    """Those of them that may be longer here → the axis: the source's rows are the first."""
    differences: tuple[str, ...]
    """A line for each array that only one of the runs has, or that differs in shape or dtype."""


class Source(NamedTuple):
    """A checkpoint of another run."""

    workdir: Workdir
    step: int
    checkpoints: Checkpoints

    def __str__(self) -> str:
        return f"{self.workdir}@{self.step}"


def resolve(name: str) -> Source:
    """What "RUN", "RUN@latest", "RUN@best" or "RUN@120" names; RUN is a work directory, by itself
    its latest step. Raises CheckpointError as `step_named` does."""
    path, at, step = name.rpartition("@")
    if not at or Workdir(name).checkpoints.exists():
        path, step = name, "latest"
    workdir = Workdir(path)
    checkpoints = Checkpoints(workdir.checkpoints, read_only=True)
    return Source(workdir, step_named(workdir, checkpoints, step), checkpoints)


def compare(stored: Mapping[str, Any], fresh: Mapping[str, Any], task: Task) -> Plan:
    """What fits of a source's entries to a run that begins; path → array or shape, for both.

    `fresh`: those entries of the run that the task inherits.
    """
    taken: dict[str, str] = {}
    grown: dict[str, int] = {}
    differences = []
    for path, here in fresh.items():
        top, _, name = path.partition("/")
        axis = None
        if top == "parameters":
            axis = task.grown_axis(name)
            averaged = f"{AVERAGE}/{name}"
        else:
            averaged = path.replace(f"state/{BATCH_STATISTICS}", AVERAGE_STATISTICS, 1)
        source = averaged if averaged in stored else path
        if source not in stored:
            differences.append(f"{path}: only here, drawn anew")
            continue
        there = stored[source]
        if not _fits(there, here, axis):
            differences.append(f"{path}: {_shown(there)} there, {_shown(here)} here, drawn anew")
            continue
        taken[path] = source
        if axis is not None:
            grown[path] = axis
    inherited = (path for path in stored if is_below(path, task.inherits))
    differences += [f"{path}: only there, left over" for path in inherited if path not in fresh]
    return Plan(taken=taken, grown=grown, differences=tuple(differences))


def planned(recipe: Recipe, source: Source, shape: State, corpus: Any) -> Plan:
    """What a run of this shape on these data takes from a source. Reads no array.

    Raises ValueError where the runs differ, unless `recipe.init_partial` admits it, where nothing
    fits, and where the other run's inputs are of other spaces.
    """
    theirs = source.workdir.read_recipe() or {}
    if theirs.get("fingerprints", {}).get("corpus") != corpus.rows:
        names = (f"the data of {source.workdir}", "those of this run")
        check_same_space(theirs.get("space", {}), corpus.space, names=names)
    stored = source.checkpoints.entries(source.step)
    plan = compare(stored, entries_of(part_of(shape, recipe.task.inherits)), recipe.task)
    _refuse(str(source), plan.differences, recipe.init_partial)
    if not plan.taken:
        raise ValueError(f"{source} has nothing that this run can take over: name another run")
    return plan


def warnings_of(recipe: Recipe, source: Source) -> list[str]:
    """What makes scores of a run that begins from another flatter it, in words."""
    theirs = source.workdir.read_recipe() or {}
    there, here = theirs.get("recipe", {}).get("corpus", {}), recipe.to_json()["corpus"]
    other = [
        name
        for name in here
        if there.get(name, here[name]) != here[name]
        and (name.startswith("split") or name.endswith("_share") or name == "class")
    ]
    if not other:
        return []
    return [
        f"WARNING: {source} was split otherwise ({', '.join(other)}): it may have trained on "
        "videos that are for testing here, and scores would flatter this run"
    ]


def begin_from(recipe: Recipe, source: Source, plan: Plan, state: State) -> tuple[State, list[str]]:
    """A freshly initialised training state with what fits of another run's, laid out as before,
    and lines that tell people of it.

    `state`: as `step.new_state` makes it, on its devices. Raises ValueError where the source has
    more classes, unless `recipe.init_partial` admits it, and what `Checkpoints.restore` raises.
    """
    stored = source.checkpoints.entries(source.step)
    fresh = entries_of(part_of(state, recipe.task.inherits))
    like = {there: _like(stored[there], fresh[here]) for here, there in plan.taken.items()}
    restored = source.checkpoints.restore(source.step, like, only=tuple(like))
    taken = {here: restored[there] for here, there in plan.taken.items()}
    differences, lines = list(plan.differences), []
    for path, axis in plan.grown.items():
        there, here = (int(_rows(array, axis)) for array in (taken[path], fresh[path]))
        if there > here:
            differences.append(f"{path}: {there:,} rows there, {here:,} here, drawn anew")
            del taken[path]
            continue
        fill = jax.jit(_filled, static_argnums=(2, 3), out_shardings=fresh[path].sharding)
        taken[path] = fill(taken[path], fresh[path], axis, there)
        if there < here:
            lines.append(f"{path}: {there:,} rows are taken, {here - there:,} drawn anew")
    _refuse(str(source), differences, recipe.init_partial)
    averaged = any(there.startswith(f"{AVERAGE}/") for there in plan.taken.values())
    what = ", the average of its parameters" if averaged else ""
    lines = [f"begins from {source}{what}: {len(taken)} arrays are taken", *lines, *differences]
    return _with(recipe, state, taken), [*lines, *warnings_of(recipe, source)]


def _fits(there: Any, here: Any, axis: int | None) -> bool:
    shape = list(there.shape)
    if axis is not None and len(shape) == len(here.shape) and shape[axis] <= here.shape[axis]:
        shape[axis] = here.shape[axis]
    return shape == list(here.shape) and there.dtype == here.dtype


def _shown(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _refuse(place: str, differences: Sequence[str], partial: bool) -> None:
    if differences and not partial:
        more = len(differences) - _SHOWN
        shown = [*differences[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise ValueError(
            f"{place} has not the arrays of this run:\n  "
            + "\n  ".join(shown)
            + "\nGive --init-partial to take over what fits, or begin from another run"
        )


def _like(stored: Any, fresh: jax.Array) -> jax.ShapeDtypeStruct:
    """How an array of the source is read: as this run's lies, or whole where it does not divide."""
    sharding: Any = fresh.sharding
    try:
        sharding.shard_shape(stored.shape)
    except ValueError:
        sharding = meshes.replicated(sharding.mesh)
    return jax.ShapeDtypeStruct(stored.shape, stored.dtype, sharding=sharding)


@functools.partial(jax.jit, static_argnums=1)
def _rows(array: jax.Array, axis: int) -> jax.Array:
    """i32[]: the rows along an axis, without those of zeros at the end (unless all are)."""
    others = tuple(other for other in range(array.ndim) if other != axis)
    used = jnp.any(array != 0, axis=others)
    count = jnp.max(jnp.where(used, jnp.arange(1, len(used) + 1), 0))
    return jnp.where(count > 0, count, len(used))


def _filled(stored: jax.Array, fresh: jax.Array, axis: int, rows: int) -> jax.Array:
    """`fresh` with the first rows of `stored`, which may be shorter along the axis."""
    after = [(0, new - old) for old, new in zip(stored.shape, fresh.shape)]
    number = jax.lax.broadcasted_iota(jnp.int32, fresh.shape, axis)
    return jnp.where(number < rows, jnp.pad(stored, after), fresh)


def _with(recipe: Recipe, state: State, taken: Mapping[str, jax.Array]) -> State:
    """The state with these arrays; what follows from them is made anew."""
    leaves = [taken.get(path, leaf) for path, leaf in entries_of(state).items()]
    new: State = jax.tree.unflatten(jax.tree.structure(state), leaves)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    make = jax.jit(functools.partial(state_of, recipe), out_shardings=shardings)
    return make(new["parameters"], new["state"])
