"""A trained model: the named outputs of a task at a checkpoint, without the training data."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import xxhash
from jax.experimental import multihost_utils

from vidembed import PATH, TUNABLE
from vidembed.distributed import mesh as meshes
from vidembed.distributed.agree import of_first_host
from vidembed.engine.evaluation import recipe_of
from vidembed.engine.field_roles import fields_with, without
from vidembed.engine.recipe import Recipe
from vidembed.engine.step import AVERAGE, AVERAGE_STATISTICS, BATCH_STATISTICS, State, state_shape
from vidembed.engine.typed_json import changed_fields, from_json
from vidembed.workdir.checkpoints.record import part_of
from vidembed.workdir.checkpoints.store import CheckpointError, Checkpoints
from vidembed.workdir.layout import Workdir

BLOCK_ROWS = 4096
SORTED_ROWS = 1024
"""If rows are sorted by length: fewer, so that those of a block differ less."""
BLOCK_BYTES = 256 << 20
"""Inputs of a block at most, if its rows are large, as those of frames are."""


class Model(Mapping[str, Callable[..., np.ndarray]]):
    """Named outputs of a task: each maps a source, and optionally some of its rows i64[N], to
    vectors f32[N, D].

    If a run keeps averages of its parameters and batch statistics, the model uses these. It
    restores only the arrays that the outputs need.
    """

    def __init__(
        self,
        recipe: Recipe,
        spec: Any,
        mesh: jax.sharding.Mesh,
        *,
        outputs: Collection[str] = (),
        stored: Mapping[str, Any] | None = None,
    ) -> None:
        """outputs: names of outputs; all by default. stored: the run's recipe.json."""
        every = recipe.task.outputs
        self.recipe, self.mesh, self.step = recipe, mesh, -1
        if unknown := [name for name in outputs if name not in every]:
            raise ValueError(f"the task has no output {unknown[0]!r}: it has {sorted(every)}")
        self._outputs = {name: every[name] for name in outputs or every}
        self._shape = state_shape(recipe, spec, mesh)
        self._apply = {name: jax.jit(output.apply) for name, output in self._outputs.items()}
        self._parts: dict[str, State] = {}
        self._checkpoints: Checkpoints | None = None
        known = stored or {}
        self._made_by = {name: known.get(name) for name in ("fingerprints", "init_from")}

    def restore(self, checkpoints: Checkpoints, step: int) -> "Model":
        """Switches to another checkpoint. Arrays are read when an output is first used; outputs are
        compiled once for all checkpoints."""
        self._parts, self._checkpoints, self.step = {}, checkpoints, step
        return self

    def space(self, output: str, inputs: Mapping[str, str]) -> str:
        """A short name of an output's embedding space: equal only for the same recipe, data, step,
        output and spaces of the inputs. Fields that a later version adds to recipes change nothing.
        """
        recipe = without(changed_fields(self.recipe), fields_with(self.recipe, PATH, TUNABLE))
        parts = {"recipe": recipe, "step": self.step, "output": output, "inputs": dict(inputs)}
        parts |= self._made_by
        digest = xxhash.xxh3_64_hexdigest(json.dumps(parts, sort_keys=True).encode())
        return f"{output} of step {self.step}, {digest}"

    def __getitem__(self, name: str) -> Callable[..., np.ndarray]:
        output, part = self._outputs[name], self.arrays(name)

        def embed(source: Any, rows: np.ndarray | None = None) -> np.ndarray:
            """f32[N, D] of all rows, or of these, on every host."""
            rows = np.arange(len(source)) if rows is None else np.asarray(rows)
            if output.lengths is None:
                return in_blocks(source, rows, BLOCK_ROWS)
            # From long to short: the rows that pad the last block are short ones.
            order = np.argsort(-output.lengths(source, rows), kind="stable")
            vectors = in_blocks(source, rows[order], SORTED_ROWS)
            in_order = np.empty_like(vectors)
            in_order[order] = vectors
            return in_order

        def in_blocks(source: Any, rows: np.ndarray, most: int) -> np.ndarray:
            """The last block is padded with its last row, so that every block has the same shape
            and one compiled function suffices."""
            size = self.mesh.size
            block = -(-_block_rows(output.read, source, rows, most) // size) * size
            blocks = []
            with jax.set_mesh(self.mesh):
                for start in range(0, len(rows), block):
                    some = rows[np.minimum(np.arange(start, start + block), len(rows) - 1)]
                    arrays = output.read(source, _this_host(some))
                    placed = meshes.place_batch(self.mesh, arrays, dict.fromkeys(arrays, 0))
                    vectors = self._apply[name](part["parameters"], part["state"], placed)
                    blocks.append(_on_every_host(vectors))
            return np.concatenate(blocks)[: len(rows)]

        return embed

    def function(self, name: str) -> Callable[[Any, Any, Any], jax.Array]:
        """(parameters, state, arrays) → f32[B, D]: an output as a pure function."""
        return self._outputs[name].apply

    def arrays(self, name: str) -> State:
        """The entries of `parameters` and `state` that an output needs."""
        assert self._checkpoints, "a model has no arrays before `restore`"
        if name not in self._parts:
            part = _needed(self._shape, self._outputs[name].needs)
            stored = dict(jax.tree.leaves(part, is_leaf=_is_named))
            arrays = self._checkpoints.restore(self.step, stored, only=tuple(stored))
            read = jax.tree.map(lambda leaf: arrays[leaf[0]], part, is_leaf=_is_named)
            self._parts[name] = read
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)


def _block_rows(read: Callable[[Any, Any], Any], source: Any, rows: np.ndarray, most: int) -> int:
    """How many of the rows are read at a time."""
    one = sum(leaf.nbytes for leaf in jax.tree.leaves(read(source, rows[:1])))
    return min(most, len(rows), max(1, BLOCK_BYTES // max(1, one)))


def load_model(
    workdir: Workdir,
    step: str = "best",
    *,
    outputs: Collection[str] = (),
    mesh: jax.sharding.Mesh | None = None,
    classes: Collection[type] = (),
) -> Model:
    """Load the model of a run from its work directory, without its data; `step` as in `step_named`,
    `classes` as in `Recipe.from_json`. Raises ValueError for a run without stored sizes."""
    recipe, stored = recipe_of(workdir, classes), workdir.read_recipe() or {}
    if "spec" not in stored:
        raise ValueError(
            f"{workdir} was made by a version that did not store the sizes of its model: train it "
            "for one more step (--steps) with this version, or evaluate it with its data"
        )
    spec = from_json(Any, stored["spec"], "spec", classes=classes)
    mesh = mesh or meshes.make_mesh(recipe.mesh)
    model = Model(recipe, spec, mesh, outputs=outputs, stored=stored)
    checkpoints = Checkpoints(workdir.checkpoints, read_only=True)
    model.restore(checkpoints, step_named(workdir, checkpoints, step))
    for name in model:
        model.arrays(name)  # read now, because the run may be deleted
    return model


def step_named(workdir: Workdir, checkpoints: Checkpoints, name: str) -> int:
    """The step that "latest", "best" (by the run's evaluations) or a number names."""
    steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(f"{workdir.checkpoints} holds no checkpoint: train first")
    if name == "latest":
        return steps[-1]
    if name == "best":
        # Another evaluation job may be writing: all hosts use what the first host read.
        if not (pinned := of_first_host(sorted(workdir.pinned()))):
            raise CheckpointError(
                f"{workdir}: nothing is evaluated yet, so no step is the best. Evaluate it "
                f"(vidembed evaluate RECIPE --workdir {workdir}), or name a step: --step latest, "
                "or RUN@latest where a run is given"
            )
        if len(pinned) > 1:
            raise CheckpointError(
                f"{workdir}: its evaluations found different steps best, {pinned}: give one of them"
            )
        return pinned[0]
    if not name.isdecimal() or int(name) not in steps:
        raise CheckpointError(f"step {name!r} is not there; choose latest, best or one of {steps}")
    return int(name)


def _needed(shape: State, needs: tuple[str, ...]) -> State:
    """The parts of `parameters` and `state` with these name prefixes; each leaf is (its name in the
    checkpoint, its shape)."""
    parameters, state = AVERAGE if AVERAGE in shape else "parameters", "state"
    whole = {"parameters": _labelled(shape[parameters], parameters)}
    whole["state"] = _labelled(shape[state], state)
    if AVERAGE_STATISTICS in shape:
        averaged = _labelled(shape[AVERAGE_STATISTICS], AVERAGE_STATISTICS)
        whole["state"] = {**whole["state"], BATCH_STATISTICS: averaged}
    return {"parameters": {}, "state": {}} | part_of(whole, needs)


def _labelled(tree: Any, top: str) -> Any:
    def label(path: Any, leaf: Any) -> tuple[str, Any]:
        return f"{top}/{jax.tree_util.keystr(path, simple=True, separator='/')}", leaf

    return jax.tree_util.tree_map_with_path(label, tree)


def _is_named(leaf: Any) -> bool:
    return type(leaf) is tuple and len(leaf) == 2 and isinstance(leaf[0], str)


def _this_host(rows: np.ndarray) -> np.ndarray:
    share = len(rows) // jax.process_count()
    return rows[jax.process_index() * share : (jax.process_index() + 1) * share]


def _on_every_host(array: jax.Array) -> np.ndarray:
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
