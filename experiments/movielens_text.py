"""Text as a modality: TF-IDF of words, reduced by SVD (latent semantic analysis).

Deerwester et al., "Indexing by Latent Semantic Analysis", 1990. No ratings are used; the words of
all movies are, cold ones included, as a catalogue has them.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

LEAST, MOST = 2, 0.3
"""Words of fewer documents, and of a larger share of them, are left out."""


def words(text: str) -> list[str]:
    """Its words of two letters or more, in small letters."""
    return re.findall(r"[^\W_]{2,}", text.lower())


def tfidf(documents: Sequence[Sequence[str]], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors f32[N, at most size] and which documents hold a known word, bool[N].

    Weights are (1 + log count) · (1 + log((1 + N) / (1 + documents))), rows of unit length; of
    these the left singular vectors times their values. Zero rows where nothing is known; width 0
    where no word stands in two documents.
    """
    counts = [Counter(document) for document in documents]
    among = Counter(word for count in counts for word in count)
    most = MOST * len(documents)
    known = sorted(word for word, n in among.items() if LEAST <= n <= most)
    place = {word: number for number, word in enumerate(known)}
    entries = [
        (row, place[word], 1 + np.log(n))
        for row, count in enumerate(counts)
        for word, n in count.items()
        if word in place
    ]
    if not entries:
        return np.zeros((len(documents), 0), np.float32), np.zeros(len(documents), bool)
    row, column, weight = (np.array(of) for of in zip(*entries))
    rarity = 1 + np.log((1 + len(documents)) / (1 + np.array([among[word] for word in known])))
    weight = weight * rarity[column]
    length = np.sqrt(np.bincount(row, weight**2, minlength=len(documents)))
    matrix = scipy.sparse.csr_array(
        (weight / length[row], (row, column)), shape=(len(documents), len(known))
    )
    rank = min(size, min(matrix.shape) - 1)
    if rank < 1:
        return np.zeros((len(documents), 0), np.float32), length > 0
    # A start of one's own, so that equal texts give equal vectors.
    start = np.random.default_rng(0).random(min(matrix.shape))
    left, values, _ = scipy.sparse.linalg.svds(matrix, k=rank, v0=start)
    return (left * values)[:, ::-1].astype(np.float32), length > 0
