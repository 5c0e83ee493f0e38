"""Turn a run into a pure function of weights and features, to compile or export."""

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from vidembed.deploy import composite
from vidembed.deploy.loading import load, opened
from vidembed.deploy.run import Run
from vidembed.records.export_folder import read_export

Weights = Mapping[str, Any]


class Traced(NamedTuple):
    """program(weights, features, present) → f32[N, D], with features f32[N, F] and present bool[N]
    per modality."""

    run: Run
    weights: dict[str, np.ndarray]
    program: Callable[[Any, Any, Any], Any]


def traced(
    path: str | os.PathLike[str],
    step: str | int = "best",
    output: str = "video",
    classes: Collection[type] = (),
) -> Traced:
    """The run that `load` loads, as a program; arguments as for `load`."""
    place = epath.Path(path)
    if composite.is_composite(place):
        return _composite(place)
    if (place / composite.EXPORT).exists():
        return _export(place, step)
    run, model = opened(path, step, output, classes)
    if run.frames_of:
        raise ValueError(
            f"{path} pools the frames of {' and '.join(run.frames_of)} with learned weights, and "
            "an export takes vectors: use the run itself (`vidembed embed`, `vidembed annotate`)"
        )
    apply, part = model.function(output), model.arrays(output)
    leaves, tree = jax.tree_util.tree_flatten_with_path(part)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]

    def program(weights: Weights, features: Any, present: Any) -> jax.Array:
        whole = jax.tree_util.tree_unflatten(tree, [weights[name] for name in names])
        arrays = {"features": features, "present": present}
        return apply(whole["parameters"], whole["state"], arrays)

    return Traced(run, {n: np.asarray(leaf) for n, (_, leaf) in zip(names, leaves)}, program)


def _export(place: epath.Path, step: str | int) -> Traced:
    _, exported = read_export(place)
    return Traced(load(place, step), exported.weights, exported.program)


def _composite(place: epath.Path) -> Traced:
    parts = composite.parts_of(place)
    entries = composite.files.read_json(place / composite.ABOUT)["parts"]
    each = [traced(entry["run"], entry["step"]) for entry in entries]
    weights = {
        f"{number}/{name}": array
        for number, part in enumerate(each)
        for name, array in part.weights.items()
    }

    def program(weights: Weights, features: Any, present: Any) -> jax.Array:
        vectors = []
        for number, part in enumerate(each):
            prefix, reads = f"{number}/", part.run.widths
            part_weights = {n[len(prefix) :]: w for n, w in weights.items() if n.startswith(prefix)}
            masks = {m: present[m] for m in reads}
            computed = part.program(part_weights, {m: features[m] for m in reads}, masks)
            readable = jnp.any(jnp.stack([masks[m] for m in reads]), axis=0)
            vectors.append(jnp.where(readable[:, None], computed, jnp.zeros_like(computed)))
        return composite.side_by_side(vectors, [part.weight for part in parts])

    return Traced(composite.joint(parts, str(place)), weights, program)
