"""Ranks in a search for videos by captions, and for captions by videos, from dot products.

Captions are ragged: each belongs to one video, and a video has one or more. Text to video ranks the
caption's video among all videos; video to text ranks the best of the video's captions among all
captions. Scores of all pairs are never in memory: a block of captions is scored against all videos,
and only counts remain.

Scores count as equal if they differ by less than float32 products of these lengths may be wrong by,
so that equal videos tie whatever the block.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vidembed.metrics.tied_ranks import Ranks

BLOCK_BYTES = 1 << 25
"""Scores of a block of captions: 32 MB."""
ROUNDING = 2.0**-20
"""Scores closer than this, times the lengths of both vectors, are equal."""


class BothRanks(NamedTuple):
    """Ranks in both directions."""

    text_to_video: Ranks
    """M queries, in the order of the captions."""
    video_to_text: Ranks
    """N queries, in the order of the videos."""


def caption_ranks(
    videos: np.ndarray,
    texts: np.ndarray,
    owners: np.ndarray,
    *,
    temperature: float | None = None,
    block: int | None = None,
) -> BothRanks:
    """Rank videos f32[N, D] and texts f32[M, D], where text m belongs to video `owners` i[M].

    temperature: score by the dual softmax: instead of s, log softmax of s / temperature over all
    queries of the same part, so that what suits every query suits none of them. It uses all queries
    at once, which a search by one user cannot; None scores by dot products.
    block: captions scored at a time; by default as many as fill 32 MB.

    Work: 2·N·M·D operations (twice that with a temperature). Memory: the block, beside the inputs.
    Raises ValueError for a video without a caption and for values that are not finite.
    """
    _check(videos, texts, owners, temperature)
    size = min(block or max(1, BLOCK_BYTES // (4 * len(videos))), len(texts))
    pool = jnp.asarray(videos, jnp.float32)
    starts = range(0, len(texts), size)
    hubs = _hubs(pool, texts, starts, size, temperature)
    own, reach = _own(videos, texts, owners, size)
    rivals = own - hubs.of_video[owners], own - hubs.of_text
    best = np.full(len(videos), -np.inf, np.float32)
    np.maximum.at(best, owners, rivals[1])
    longest = np.zeros(len(videos), np.float32)
    np.maximum.at(longest, owners, reach)
    right = np.zeros(len(videos), np.int64)
    np.add.at(right, owners, rivals[1] >= (best - longest)[owners])
    to_video, to_text = np.zeros((2, len(texts)), np.int64), np.zeros((2, len(videos)), np.int64)
    bounds = jnp.asarray(best - longest), jnp.asarray(best + longest)
    of_video = jnp.asarray(hubs.of_video)
    for start in starts:
        rows = np.arange(start, start + size)
        inside = rows < len(texts)
        rows = np.minimum(rows, len(texts) - 1)
        counts = _counts(
            pool,
            texts[rows],
            (rivals[0] - reach)[rows],
            (rivals[0] + reach)[rows],
            bounds,
            of_video,
            hubs.of_text[rows],
            inside,
        )
        by_text, by_video = (np.asarray(c) for c in counts)
        to_video[:, rows[inside]] = by_text[:, inside]
        to_text += by_video
    return BothRanks(
        _ranks(to_video, np.ones(len(texts), np.int64)),
        _ranks(to_text, right),
    )


class _Hubs(NamedTuple):
    of_video: np.ndarray
    of_text: np.ndarray


def _hubs(
    pool: jax.Array, texts: np.ndarray, starts: range, size: int, temperature: float | None
) -> _Hubs:
    """What the dual softmax subtracts from the scores of each video and of each text.

    temperature · log Σ exp(score / temperature), over texts for a video and over videos for a text.
    """
    by_video, by_text = np.zeros(len(pool), np.float32), np.zeros(len(texts), np.float32)
    if temperature is None:
        return _Hubs(by_video, by_text)
    sums = np.full(len(pool), -np.inf)
    for start in starts:
        rows = np.arange(start, start + size)
        inside = rows < len(texts)
        rows = np.minimum(rows, len(texts) - 1)
        over_texts, over_videos = _softmax_sums(pool, texts[rows], inside, temperature)
        sums = np.logaddexp(sums, np.asarray(over_texts, np.float64))
        by_text[rows[inside]] = temperature * np.asarray(over_videos)[inside]
    return _Hubs((temperature * sums).astype(np.float32), by_text)


@jax.jit
def _softmax_sums(
    pool: jax.Array, texts: jax.Array, inside: jax.Array, temperature: float
) -> tuple[jax.Array, jax.Array]:
    logits = _products(texts, pool) / temperature
    over_texts = jax.nn.logsumexp(jnp.where(inside[:, None], logits, -jnp.inf), axis=0)
    return over_texts, jax.nn.logsumexp(logits, axis=1)


@jax.jit
def _counts(
    pool: jax.Array,
    texts: jax.Array,
    low: jax.Array,
    high: jax.Array,
    video_bounds: tuple[jax.Array, jax.Array],
    of_video: jax.Array,
    of_text: jax.Array,
    inside: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Scores above the bounds, and at least at them: i32[2, b] by text, i32[2, N] by video."""
    scores = _products(texts, pool)
    to_video = scores - of_video[None]
    to_text = jnp.where(inside[:, None], scores - of_text[:, None], -jnp.inf)
    count = partial(jnp.sum, dtype=jnp.int32)
    by_text = [count(to_video > high[:, None], axis=1), count(to_video >= low[:, None], axis=1)]
    least, most = video_bounds
    by_video = [count(to_text > most[None], axis=0), count(to_text >= least[None], axis=0)]
    return jnp.stack(by_text), jnp.stack(by_video)


def _products(texts: jax.Array, pool: jax.Array) -> jax.Array:
    return jnp.matmul(texts, pool.T, precision=jax.lax.Precision.HIGHEST)


def _own(
    videos: np.ndarray, texts: np.ndarray, owners: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """f32[M] twice: each text's score with its own video, and by how much a tie may differ."""
    own, reach = np.empty(len(texts), np.float32), np.empty(len(texts), np.float32)
    longest = np.sqrt(np.square(videos, dtype=np.float32).sum(axis=1).max())
    size = min(size, max(1, BLOCK_BYTES // (4 * videos.shape[1])))
    for start in range(0, len(texts), size):
        some = slice(start, start + size)
        own[some] = np.einsum("md,md->m", texts[some], videos[owners[some]])
        reach[some] = ROUNDING * longest * np.linalg.norm(texts[some], axis=1)
    return own, reach


def _ranks(counts: np.ndarray, right: np.ndarray) -> Ranks:
    above, at_least = counts
    return Ranks(above, np.maximum(at_least - above - right, 0), right)


def _check(
    videos: np.ndarray, texts: np.ndarray, owners: np.ndarray, temperature: float | None
) -> None:
    if videos.ndim != 2 or texts.ndim != 2 or videos.shape[1] != texts.shape[1]:
        raise ValueError(
            f"videos {list(videos.shape)} and texts {list(texts.shape)} must be rows of one width"
        )
    if len(owners) != len(texts):
        raise ValueError(f"{len(texts):,} texts, but {len(owners):,} owners: give one for each")
    counts = np.bincount(owners, minlength=len(videos))
    if len(counts) > len(videos) or not len(counts) or not counts.all():
        raise ValueError(
            f"every one of the {len(videos):,} videos needs a text, and every text one of them; "
            f"{int((counts == 0).sum()):,} have none: leave these out"
        )
    for name, vectors in (("videos", videos), ("texts", texts)):
        bad = sum(
            int((~np.isfinite(vectors[start : start + 4096]).all(axis=1)).sum())
            for start in range(0, len(vectors), 4096)
        )
        if bad:
            raise ValueError(
                f"{bad:,} of {len(vectors):,} {name} have vectors that are not finite: check the "
                "checkpoint and their features"
            )
    if temperature is not None and not 0 < temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}, but must be above 0")
