"""Ways to store a vector in few bytes, and what retrieval loses by each: ours beside faiss's."""

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from vidembed.corpora.watched import Corpus
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.records.scores_file import PerQuery
from vidembed.serving.quantizer import Quantizer

FLOAT = "float32"
UNDIVIDED = ", undivided"
"""Ends the name of a code whose products are not divided by its length."""
RESIDUAL_ITERATIONS = 8
"""Of k-means a level; faiss takes 25, in three times the time."""
_SIMILARITIES: Mapping[str, Literal["cosine", "dot"]] = {"": "cosine", UNDIVIDED: "dot"}
OPQ_ITERATIONS, OPQ_MEANS = 8, (10, 4)
"""Rotations that OPQ tries one after another, and of k-means for the first and each later one.
faiss takes 50, 40 and 4: a code of 128 parts would train for minutes."""
NO_FAISS = "PQ, OPQ, residual: faiss is not installed (pip install -e '.[serve]')"


class Code(NamedTuple):
    """A way to store vectors: fitted on some, applied to others."""

    kind: str
    """Codes of a kind differ in bytes alone: a line of a plot."""
    name: str
    bytes: int
    """Of a vector."""
    restored: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(known f32[M, D], vectors f32[N, D]) → f32[N, D]: what is left of the vectors, coded by what
    was fitted on the known ones."""


def has_faiss() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def codes(dimensions: int, *, faiss: bool) -> Iterator[Code]:
    """float32, then int8, Lloyd-Max of 8, 4 and 2 bits, and signs; with faiss its product
    quantisers, as they are and after OPQ's rotation, at the bytes of 4, 2 and 1 bits, and its
    residual quantiser at those of 1 bit, all of 8 bits a part."""
    yield Code(FLOAT, FLOAT, 4 * dimensions, lambda known, vectors: vectors)
    yield Code("int8", "int8", dimensions, int8)
    for bits in (8, 4, 2):
        size = dimensions * bits // 8
        yield Code("Lloyd-Max", f"{bits} bit", size, partial(lloyd_max, bits=bits))
        each = partial(lloyd_max, bits=bits, shared=False)
        yield Code("Lloyd-Max, per dimension", f"{bits} bit, per dimension", size, each)
    yield Code("signs", "signs", dimensions // 8, signs)
    if faiss:
        for size in (dimensions // 2, dimensions // 4, dimensions // 8):
            yield Code("PQ", f"PQ{size}", size, partial(product, size=size))
            yield Code("OPQ", f"OPQ{size}", size, partial(rotated_product, size=size))
        size = dimensions // 8
        yield Code("residual", f"residual, {size} levels", size, partial(residual, size=size))


def lloyd_max(
    known: np.ndarray, vectors: np.ndarray, *, bits: int, shared: bool = True
) -> np.ndarray:
    """CDML's quantiser."""
    quantizer = Quantizer.fit(known, bits=bits, shared=shared)
    return quantizer.decode(quantizer.encode(vectors))


def int8(known: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """255 even levels up to the largest known value, with zero among them."""
    step = np.abs(known).max() / 127
    return np.asarray(np.clip(np.rint(vectors / step), -127, 127) * step, np.float32)


def signs(known: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """One bit a dimension: above or below the known mean. Dot products order as Hamming does."""
    return np.where(vectors > known.mean(axis=0), 1, -1).astype(np.float32)


def product(known: np.ndarray, vectors: np.ndarray, *, size: int) -> np.ndarray:
    """faiss's product quantiser of `size` parts of 256 centroids."""
    quantizer = _product_quantizer(vectors.shape[1], size)
    quantizer.train(known)
    return np.asarray(quantizer.decode(quantizer.compute_codes(vectors)))


def rotated_product(known: np.ndarray, vectors: np.ndarray, *, size: int) -> np.ndarray:
    """`product` in axes turned so that its parts lose least (OPQ, Ge et al. 2013, the
    non-parametric solution), turned back. All vectors share the rotation: it takes none of their
    bytes."""
    rotation = faiss_module().OPQMatrix(vectors.shape[1], size)
    rotation.niter, (rotation.niter_pq_0, rotation.niter_pq) = OPQ_ITERATIONS, OPQ_MEANS
    trial = _product_quantizer(vectors.shape[1], size)
    rotation.pq = trial  # which is not the code's own: it has too few iterations of k-means
    rotation.train(known)
    restored = product(rotation.apply(known), rotation.apply(vectors), size=size)
    return np.asarray(rotation.reverse_transform(restored))


def _product_quantizer(dimensions: int, size: int) -> Any:
    """Untrained, and content with few vectors to train on."""
    quantizer = faiss_module().ProductQuantizer(dimensions, size, 8)
    quantizer.cp.min_points_per_centroid = 1
    return quantizer


def residual(known: np.ndarray, vectors: np.ndarray, *, size: int) -> np.ndarray:
    """faiss's residual quantiser of `size` levels of 256 centroids, trained greedily, coded with a
    beam of 4."""
    faiss = faiss_module()
    quantizer = faiss.ResidualQuantizer(vectors.shape[1], size, 8)
    quantizer.train_type = faiss.ResidualQuantizer.Train_default
    quantizer.cp.min_points_per_centroid, quantizer.cp.niter = 1, RESIDUAL_ITERATIONS
    quantizer.max_beam_size = 1
    quantizer.train(known)
    quantizer.max_beam_size = 4
    return np.asarray(quantizer.decode(quantizer.compute_codes(vectors)))


def faiss_module() -> Any:
    """faiss, without the complaints of its bindings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own bindings
        import faiss
    return faiss


def measure_codes(
    vectors: np.ndarray, corpus: Corpus, evaluator: RelatedVideos, *, faiss: bool
) -> tuple[dict[str, dict[str, PerQuery]], dict[str, Mapping[str, Any]]]:
    """Of every code for vectors f32[N, D] of the corpus's videos the metrics of each query, by
    direction; and its `kind`, `bytes`, `error` (the share of the variance that is lost) and
    `seconds`.

    Fitted on train videos. Both query and candidates are coded, as in the paper, which looks
    products of codes up. They are divided by the lengths of what the codes stand for, which codes
    themselves say, and under a name of its own not.
    """
    similarities = {name: replace(evaluator, similarity=of) for name, of in _SIMILARITIES.items()}
    known = np.ascontiguousarray(vectors[corpus.is_train])
    variance = vectors.var(axis=0).sum()
    scores, said = dict[str, dict[str, PerQuery]](), dict[str, Mapping[str, Any]]()
    for code in codes(vectors.shape[1], faiss=faiss):
        began = time.monotonic()
        restored = code.restored(known, vectors)
        seconds = time.monotonic() - began
        error = np.square(restored - vectors).sum(axis=1).mean() / variance
        said[code.name] = {
            "kind": code.kind,
            "bytes": code.bytes,
            "error": None if code.kind == "signs" else float(error),
            "seconds": round(seconds, 3),
        }
        for name, similar in similarities.items():
            scores[code.name + name] = {
                direction: similar.per_query(restored, corpus, direction)
                for direction in evaluator.directions
            }
    return scores, said
