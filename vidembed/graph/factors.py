"""Factors of a relation graph: a vector for each node, near for nodes with the same neighbours."""

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

NEGLIGIBLE = 1e-9
"""A row's length, as a share of the longest, up to which it is none."""
DENSE = 1_000
"""Nodes up to which eigenvectors are those of a dense matrix."""


def log_factors(weights: scipy.sparse.csr_array, rank: int) -> np.ndarray:
    """f64[N, rank], rows of unit length, from symmetric weights [N, N] of at least 0.

    The eigenvectors of log(1 + weight) of the largest eigenvalues, times their roots, then each
    row divided by its length, which tells how much a node is related and nothing of to whom (AUC of
    cold trailers by a ridge onto such factors .644, .633 with lengths). The diagonal counts for
    nothing. Nodes without a relation, or that no leading eigenvector reaches, are zero.
    """
    together = weights.astype(np.float64).tocsr()
    together.setdiag(0)
    together.data = np.log1p(together.data)
    active = np.flatnonzero(together.sum(axis=1))
    factors = np.zeros((weights.shape[0], rank))
    if not len(active):
        return factors
    values, vectors = _largest(together[active][:, active], min(rank, len(active)))
    scaled = vectors * np.sqrt(np.maximum(values, 0))
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    # Below it entries are rounding, and directions chance: of components with small eigenvalues.
    reached = lengths > NEGLIGIBLE * lengths.max(initial=0)
    factors[active, : len(values)] = np.where(reached, scaled / np.where(reached, lengths, 1), 0)
    return factors


def _largest(symmetric: scipy.sparse.csr_array, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues f64[rank], falling, and their vectors f64[N, rank]."""
    size = symmetric.shape[0]
    if size <= max(DENSE, rank + 1):  # quick, and sure where eigenvalues repeat
        values, vectors = scipy.linalg.eigh(
            symmetric.toarray(), subset_by_index=(size - rank, size - 1)
        )
    else:
        # A start of one's own, so that equal data give equal factors.
        start = np.random.default_rng(0).random(size)
        values, vectors = scipy.sparse.linalg.eigsh(symmetric, k=rank, which="LA", v0=start)
    return values[::-1], vectors[:, ::-1]
