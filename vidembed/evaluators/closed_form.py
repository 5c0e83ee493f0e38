"""The closed form as a baseline: a linear map, solved on the host in seconds.

Same mathematics and defaults as `vidembed train linear`, on all modalities of the table.
"""

import numpy as np

from vidembed.corpora.watched import Corpus
from vidembed.graph.scaled import Weigh, scaled
from vidembed.models.linear import POWER, RIDGE, SIZE, projection

ROWS_AT_ONCE = 1 << 12


def sums(
    corpus: Corpus, features: np.ndarray, *, weigh: Weigh = "one", by_degree: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(XᵀX, XᵀÂX) f64[d, d] over the train rows X of standardised features f32[N, d].

    Products of a block are float32, their sum is float64.
    """
    width = features.shape[1]
    rows, edges = np.zeros((width, width)), np.zeros((width, width))
    matrix = scaled(corpus.train_graph, weigh=weigh, by_degree=by_degree).matrix()
    train = np.flatnonzero(corpus.is_train)
    for start in range(0, len(train), ROWS_AT_ONCE):
        block_rows = train[start : start + ROWS_AT_ONCE]
        block = features[block_rows]
        rows += block.T @ block
        edges += block.T @ (matrix[block_rows] @ features)
    return rows, edges


def closed_form(
    corpus: Corpus,
    features: np.ndarray,
    *,
    ridge: float = RIDGE,
    power: float = POWER,
    size: int = SIZE,
    given: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Vectors f32[N, k] from standardised features f32[N, d], with k = min(size, d).

    given: the `sums` of the features, if known. Raises ValueError as `projection` does.
    """
    rows, edges = given or sums(corpus, features)
    size = min(size, features.shape[1])
    matrix = projection(rows, edges, size=size, ridge=ridge, power=power)
    return features @ matrix.astype(np.float32)
