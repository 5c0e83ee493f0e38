"""Initialise a run from another run's arrays.

Arrays are copied by name if shape and dtype match: parameters (their average if the source keeps
one, because that is what was evaluated), and the parts of the state that the task inherits. These
include the statistics that standardise inputs, because the source's parameters were trained on
inputs standardised with them. Differences are refused unless the caller allows them; those arrays
keep their fresh values. The optimiser starts fresh.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vidembed.distributed import mesh as meshes
from vidembed.engine.inherited_classes import counts_of
from vidembed.engine.inherited_parts import grown_axis, left_out
from vidembed.engine.inherited_texts import drawn_anew
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
    """Which arrays a run copies from another run."""

    taken: Mapping[str, str]
    """Path of an array of this run → path of the source's array that replaces it."""
    grown: Mapping[str, int]
    """Paths in `taken` that may be longer in this run → their axis; the source's rows are first."""
    differences: tuple[str, ...]
    """One line per array that only one of the runs has, or that differs in shape or dtype."""
    classes: tuple[int, int] | None = None
    """The source's classes and this run's, which begin with them: the rows of grown arrays. None if
    a run does not name its classes; rows then end before trailing rows of zeros."""

    def without(self, paths: Collection[str], why: str) -> "Plan":
        """The plan that leaves some arrays of this run as they are."""
        taken = {path: source for path, source in self.taken.items() if path not in paths}
        lines = (*self.differences, *(f"{path}: {why}" for path in paths))
        return replace(self, taken=taken, differences=lines)


class Source(NamedTuple):
    """A checkpoint of another run."""

    workdir: Workdir
    step: int
    checkpoints: Checkpoints

    def __str__(self) -> str:
        return f"{self.workdir}@{self.step}"


def resolve(name: str) -> Source:
    """The checkpoint named by "RUN", "RUN@latest", "RUN@best" or "RUN@120"; RUN is a work
    directory, by default at its latest step. Raises CheckpointError as `step_named` does."""
    path, at, step = name.rpartition("@")
    if not at or Workdir(name).checkpoints.exists():
        path, step = name, "latest"
    workdir = Workdir(path)
    checkpoints = Checkpoints(workdir.checkpoints, read_only=True)
    return Source(workdir, step_named(workdir, checkpoints, step), checkpoints)


def compare(stored: Mapping[str, Any], fresh: Mapping[str, Any], task: Task) -> Plan:
    """Match a source's entries to those of a new run; both map path → array or shape.

    `fresh`: the entries of the run that the task inherits.
    """
    taken: dict[str, str] = {}
    grown: dict[str, int] = {}
    differences = []
    for path, here in fresh.items():
        axis = grown_axis(task, path)
        top, _, name = path.partition("/")
        if top == "parameters":
            averaged = f"{AVERAGE}/{name}"
        else:
            averaged = path.replace(f"state/{BATCH_STATISTICS}", AVERAGE_STATISTICS, 1)
        source = averaged if averaged in stored else path
        if source not in stored:
            differences.append(f"{path}: only here, drawn anew")
            continue
        theirs = stored[source]
        if not _fits(theirs, here, axis):
            differences.append(f"{path}: {_shown(theirs)} there, {_shown(here)} here, drawn anew")
            continue
        taken[path] = source
        if axis is not None:
            grown[path] = axis
    inherited = (path for path in stored if is_below(path, task.inherits))
    differences += [f"{path}: only there, not copied" for path in inherited if path not in fresh]
    return Plan(taken=taken, grown=grown, differences=tuple(differences))


def planned(recipe: Recipe, source: Source, shape: State, corpus: Any, spec: Any = None) -> Plan:
    """Plan which arrays a run of this shape on these data copies from a source. Reads no array.

    spec: what this run's task knows of its data. Raises ValueError if the runs differ and
    `recipe.init_partial` is off, if nothing fits, if the inputs of the runs are of different
    spaces, and if the classes of this run do not begin with those of the source.
    """
    theirs = source.workdir.read_recipe() or {}
    if theirs.get("fingerprints", {}).get("corpus") != corpus.rows:
        both = (f"the data of {source.workdir}", "those of this run")
        check_same_space(theirs.get("space", {}), corpus.space, names=both)
    stored = source.checkpoints.entries(source.step)
    ours = entries_of(part_of(shape, recipe.task.inherits))
    grows = any(grown_axis(recipe.task, path) is not None for path in ours)
    names = getattr(spec, "class_names", ()) if grows else ()
    classes = counts_of(str(source), theirs, names, fixed=recipe.task.fixed_classes)
    plan = compare(stored, ours, recipe.task)
    texts = [path for path in plan.taken if is_below(path, recipe.task.of_texts)]
    if texts and drawn_anew(str(source), theirs, spec, partial=recipe.init_partial):
        plan = plan.without(texts, "of other texts, drawn anew")
    _refuse(str(source), plan.differences, recipe.init_partial)
    if not plan.taken:
        raise ValueError(f"{source} has no array that fits this run: name another run")
    return replace(plan, classes=classes)


def warnings_of(recipe: Recipe, source: Source) -> list[str]:
    """Warnings if the source may have trained on this run's test videos."""
    stored = source.workdir.read_recipe() or {}
    theirs, ours = stored.get("recipe", {}).get("corpus", {}), recipe.to_json()["corpus"]
    different = [
        name
        for name in ours
        if theirs.get(name, ours[name]) != ours[name]
        and (name.startswith("split") or name.endswith("_share") or name == "class")
    ]
    if not different:
        return []
    return [
        f"WARNING: {source} used another split ({', '.join(different)}): it may have trained on "
        "test videos of this run, whose scores would then be too high"
    ]


def begin_from(recipe: Recipe, source: Source, plan: Plan, state: State) -> tuple[State, list[str]]:
    """A fresh training state with the source's arrays where they fit, in the same layout, and
    lines that describe it.

    `state`: from `step.new_state`, on its devices. Raises ValueError if the source has more classes
    and `recipe.init_partial` is off, and the errors of `Checkpoints.restore`.
    """
    stored = source.checkpoints.entries(source.step)
    fresh = entries_of(part_of(state, recipe.task.inherits))
    like = {theirs: _like(stored[theirs], fresh[path]) for path, theirs in plan.taken.items()}
    restored = source.checkpoints.restore(source.step, like, only=tuple(like))
    taken = {path: restored[theirs] for path, theirs in plan.taken.items()}
    differences, lines = list(plan.differences), []
    for path, axis in plan.grown.items():
        theirs, ours = plan.classes or (
            int(_rows(array, axis)) for array in (taken[path], fresh[path])
        )
        if theirs > ours:
            differences.append(f"{path}: {theirs:,} rows there, {ours:,} here, drawn anew")
            del taken[path]
            continue
        fill = jax.jit(_filled, static_argnums=(2, 3), out_shardings=fresh[path].sharding)
        taken[path] = fill(taken[path], fresh[path], axis, theirs)
        if theirs < ours:
            lines.append(f"{path}: {theirs:,} rows are taken, {ours - theirs:,} drawn anew")
    _refuse(str(source), differences, recipe.init_partial)
    averaged = any(theirs.startswith(f"{AVERAGE}/") for theirs in plan.taken.values())
    what = ", the average of its parameters" if averaged else ""
    lines = [f"begins from {source}{what}: {len(taken)} arrays are taken", *lines, *differences]
    lines += left_out(stored, recipe.task)
    return _with(recipe, state, taken), [*lines, *warnings_of(recipe, source)]


def _fits(theirs: Any, ours: Any, axis: int | None) -> bool:
    shape = list(theirs.shape)
    if axis is not None and len(shape) == len(ours.shape) and shape[axis] <= ours.shape[axis]:
        shape[axis] = ours.shape[axis]
    return shape == list(ours.shape) and theirs.dtype == ours.dtype


def _shown(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _refuse(place: str, differences: Sequence[str], partial: bool) -> None:
    if differences and not partial:
        more = len(differences) - _SHOWN
        shown = [*differences[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise ValueError(
            f"{place} does not have the arrays of this run:\n  "
            + "\n  ".join(shown)
            + "\nGive --init-partial to copy those that fit, or begin from another run"
        )


def _like(stored: Any, fresh: jax.Array) -> jax.ShapeDtypeStruct:
    """How to read a source array: laid out as in this run, or whole if it does not divide."""
    sharding: Any = fresh.sharding
    try:
        sharding.shard_shape(stored.shape)
    except ValueError:
        sharding = meshes.replicated(sharding.mesh)
    return jax.ShapeDtypeStruct(stored.shape, stored.dtype, sharding=sharding)


@functools.partial(jax.jit, static_argnums=1)
def _rows(array: jax.Array, axis: int) -> jax.Array:
    """i32[]: rows along an axis without trailing rows of zeros (all rows if all are zero)."""
    rest = tuple(number for number in range(array.ndim) if number != axis)
    used = jnp.any(array != 0, axis=rest)
    count = jnp.max(jnp.where(used, jnp.arange(1, len(used) + 1), 0))
    return jnp.where(count > 0, count, len(used))


def _filled(stored: jax.Array, fresh: jax.Array, axis: int, rows: int) -> jax.Array:
    """`fresh` with the first rows of `stored`, which may be shorter along the axis."""
    after = [(0, new - old) for old, new in zip(stored.shape, fresh.shape)]
    number = jax.lax.broadcasted_iota(jnp.int32, fresh.shape, axis)
    return jnp.where(number < rows, jnp.pad(stored, after), fresh)


def _with(recipe: Recipe, state: State, taken: Mapping[str, jax.Array]) -> State:
    """The state with these arrays; the state derived from them is rebuilt."""
    leaves = [taken.get(path, leaf) for path, leaf in entries_of(state).items()]
    new: State = jax.tree.unflatten(jax.tree.structure(state), leaves)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    make = jax.jit(functools.partial(state_of, recipe), out_shardings=shardings)
    return make(new["parameters"], new["state"])
