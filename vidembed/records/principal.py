"""Principal directions of each modality over the train split, from sums on the mesh."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.distributed import mesh as meshes
from vidembed.records.rows import float_rows
from vidembed.records.table import FeatureTable

BLOCK_ROWS = 16_384


def principal_directions(
    table: FeatureTable,
    is_train: np.ndarray,
    means: Mapping[str, np.ndarray],
    *,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Modality of `means` → {"directions": f32[F, F], "variances": f32[F]}, by falling variance.

    Columns of `directions` are the eigenvectors of the covariance over the train rows that have the
    modality; the largest entry of each is positive. means: f32[F] by modality, over the same rows.
    Rows are split over the devices of the mesh (all devices if None), block by block, so that
    memory holds one block and the covariance.
    """
    mesh = mesh or meshes.make_mesh(meshes.MeshShape())
    return {
        modality: directions_of(_covariance(table, modality, is_train, mean, mesh))
        for modality, mean in means.items()
    }


def _covariance(
    table: FeatureTable,
    modality: str,
    is_train: np.ndarray,
    mean: np.ndarray,
    mesh: jax.sharding.Mesh,
) -> np.ndarray:
    """f64[F, F]"""
    rows = np.flatnonzero(is_train & table.has(modality))
    width = len(mean)
    total = np.zeros((width, width))
    # Blocks of one shape, so that the function is compiled once; rows of zeros add nothing.
    size = min(BLOCK_ROWS, len(rows))
    with jax.set_mesh(mesh):
        products = jax.jit(meshes.on_all_devices(_products, (0,)))
        for start in range(0, len(rows), size):
            block = np.zeros((size, width), np.float32)
            some = rows[start : start + size]
            block[: len(some)] = float_rows(table, modality, some) - mean
            total += np.asarray(products(meshes.place_rows(mesh, block)), np.float64)
    return total / len(rows)


def _products(block: jax.Array) -> jax.Array:
    product = jnp.matmul(block.T, block, precision=jax.lax.Precision.HIGHEST)
    summed: jax.Array = meshes.total(product)
    return summed


def directions_of(covariance: np.ndarray) -> dict[str, np.ndarray]:
    """The eigenvectors of a covariance f64[F, F], as `principal_directions` returns them."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(len(vectors))]
    signed = vectors * np.where(largest < 0, -1.0, 1.0)
    return {
        "directions": signed.astype(np.float32),
        "variances": np.maximum(values, 0).astype(np.float32),
    }
