"""All videos of a table through a trained output, block by block, on the mesh that is set."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vidembed.distributed import mesh as meshes


def embed_table(
    apply: Callable[..., jax.Array],
    parameters: Any,
    state: Any,
    source: Any,
    read: Callable[[Any, np.ndarray], Any],
    *,
    mesh: jax.sharding.Mesh,
    block_rows: int = 4096,
) -> np.ndarray:
    """f32[N, D]: `apply(parameters, state, read(source, rows))` of every row, on every host.

    `apply` is compiled by the caller, who may then embed one checkpoint after another.

    Rows travel in their stored dtype. The last block is padded with its own last row, so that one
    compiled function serves all; padding is cut off.
    """
    block_rows = -(-min(block_rows, len(source)) // mesh.size) * mesh.size
    blocks = []
    for start in range(0, len(source), block_rows):
        rows = np.minimum(np.arange(start, start + block_rows), len(source) - 1)
        arrays = read(source, _this_host(rows))
        placed = meshes.place_batch(mesh, {"arrays": arrays}, {"arrays": 0})["arrays"]
        blocks.append(_on_every_host(apply(parameters, state, placed)))
    return np.concatenate(blocks)[: len(source)]


def _this_host(rows: np.ndarray) -> np.ndarray:
    share = len(rows) // jax.process_count()
    return rows[jax.process_index() * share : (jax.process_index() + 1) * share]


def _on_every_host(array: jax.Array) -> np.ndarray:
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
