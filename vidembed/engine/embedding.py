"""All videos of a table through a trained output, block by block, on the mesh that is set."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vidembed.distributed import mesh as meshes
from vidembed.records.table import FeatureTable

Output = Callable[..., jax.Array]


def embed_table(
    output: Output,
    parameters: Any,
    state: Any,
    table: FeatureTable,
    modalities: tuple[str, ...],
    *,
    mesh: jax.sharding.Mesh,
    block_rows: int = 4096,
) -> np.ndarray:
    """f32[N, D]: `output(parameters, state, features, present)` of every row, on every host.

    `output` is compiled by the caller, who may then embed one checkpoint after another.

    Rows travel in their stored dtype. The last block is padded with its own last row, so that one
    compiled function serves all; padding is cut off.
    """
    block_rows = -(-min(block_rows, len(table)) // mesh.size) * mesh.size
    blocks = []
    for start in range(0, len(table), block_rows):
        rows = np.minimum(np.arange(start, start + block_rows), len(table) - 1)
        part = _this_host(rows)
        features = {m: np.take(table.features[m], part, axis=0) for m in modalities}
        present = {m: table.present[m][part] for m in modalities if m in table.present}
        batch = {"features": features, "present": present}
        placed = meshes.place_batch(mesh, batch, {"features": 0, "present": 0})
        embedded = output(parameters, state, placed["features"], placed["present"])
        blocks.append(_on_every_host(embedded))
    return np.concatenate(blocks)[: len(table)]


def _this_host(rows: np.ndarray) -> np.ndarray:
    share = len(rows) // jax.process_count()
    return rows[jax.process_index() * share : (jax.process_index() + 1) * share]


def _on_every_host(array: jax.Array) -> np.ndarray:
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
