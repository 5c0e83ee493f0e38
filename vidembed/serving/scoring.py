"""Score videos for many users on the mesh, by any user model, in bounded memory.

The videos are split over all devices. Users are processed in blocks of similar history length, and
histories in chunks, so that memory never holds all pairs of users and videos, or all similarities
of a block.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vidembed.distributed import mesh as meshes
from vidembed.pairwise import largest
from vidembed.serving.exact import SCORES_AT_ONCE, few_sizes
from vidembed.serving.given import depth
from vidembed.serving.user_models import UserModel

ROWS_AT_ONCE, CHUNK = 256, 64
"""Maximum number of users, and of videos per history, scored at a time."""


class Histories(NamedTuple):
    """The histories of U users, one after another.

    queries: f32[H, D]; offsets: i64[U + 1]. current: f32[U, D], the video that each user is
    watching, or None; its similarity has weight `blend`, the score of the history 1 − blend.
    """

    queries: np.ndarray
    offsets: np.ndarray
    current: np.ndarray | None = None
    blend: float = 0.0


def all_scores(
    mesh: jax.sharding.Mesh, pool: jax.Array, histories: Histories, *, model: UserModel
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield numbers of users i64[b], and their scores f32[b, N] for a padded pool on the mesh."""
    with jax.set_mesh(mesh):
        for users, state, current in _states(histories, model, pool, mesh.size):
            scores = np.asarray(_all_scores(state, current, pool, model=model))
            yield users, scores[: len(users)]


def best_placed(
    mesh: jax.sharding.Mesh,
    pool: jax.Array,
    histories: Histories,
    seen: tuple[np.ndarray, np.ndarray],
    k: int,
    allowed: np.ndarray,
    *,
    model: UserModel,
) -> tuple[np.ndarray, np.ndarray]:
    """The best m ≤ k rows of a pool on the mesh: (scores f32[U, m], rows i64[U, m]).

    seen: rows i64[S] that are not candidates for a user, negative if the pool lacks them, with
    offsets i64[U + 1]. allowed: bool[N] before padding. If a user has fewer than k candidates, the
    remaining scores are −inf, and their rows are meaningless.
    """
    depth(k)
    mask = meshes.place_rows(mesh, np.pad(allowed, (0, few_sizes(len(allowed)) - len(allowed))))
    shape = len(histories.offsets) - 1, min(k, len(pool))
    scores, rows = np.empty(shape, np.float32), np.empty(shape, np.int64)
    with jax.set_mesh(mesh):
        for users, state, current in _states(histories, model, pool, mesh.size):
            seen_rows = _seen(*seen, users, size=few_sizes(len(users)), none=len(pool))
            best = _best(state, current, seen_rows, pool, mask, model=model, k=shape[1])
            scores[users], rows[users] = (np.asarray(part)[: len(users)] for part in best)
    return scores, rows


def _states(
    histories: Histories, model: UserModel, pool: jax.Array, devices: int
) -> Iterator[tuple[np.ndarray, Any, Any]]:
    """Yield (users i64[b], state of their histories, (current f32[u, D], blend f32[]) or None),
    u ≥ b. Uses few sizes, so that few programs are compiled."""
    local = -(-len(pool) // devices)
    most = int(np.clip(SCORES_AT_ONCE // (local * (1 + model.held)), 1, ROWS_AT_ONCE))
    order = np.argsort(np.diff(histories.offsets), kind="stable")
    at_once = 1 << (most.bit_length() - 1)
    for start in range(0, len(order), at_once):
        users = order[start : start + at_once]
        size = few_sizes(len(users))
        first, end = np.zeros((2, size, 1), np.int64)
        first[: len(users), 0] = histories.offsets[users]
        end[: len(users), 0] = histories.offsets[users + 1]
        length = int((end - first).max())
        chunk = min(max(1, at_once // size), CHUNK, few_sizes(length))
        state = _start(model=model, users=size, videos=len(pool))
        for begin in range(0, length, chunk):
            numbers = first + begin + np.arange(chunk)[None, :]
            valid = numbers < end
            queries = histories.queries[np.where(valid, numbers, 0)]
            state = _take(state, queries, valid, pool, model=model)
        if histories.current is None:
            yield users, state, None
        else:
            current = np.zeros((size, histories.queries.shape[1]), np.float32)
            current[: len(users)] = histories.current[users]
            yield users, state, (current, np.float32(histories.blend))


def _seen(
    rows: np.ndarray, offsets: np.ndarray, users: np.ndarray, *, size: int, none: int
) -> np.ndarray:
    """The rows that users have seen, i32[u, S], S a power of two, padded with `none`."""
    lengths = offsets[users + 1] - offsets[users]
    lines = np.full((size, few_sizes(max(1, int(lengths.max(initial=0))))), none, np.int32)
    for line, start, length in zip(lines, offsets[users], lengths):
        line[:length] = rows[start : start + length]
    return np.where(lines < 0, none, lines)


@partial(jax.jit, static_argnames=("model", "users", "videos"))
def _start(*, model: Any, users: int, videos: int) -> Any:
    split = meshes.everywhere_spec(1)
    return jax.tree.map(
        lambda part: lax.with_sharding_constraint(part, split), model.start(users, videos)
    )


@partial(jax.jit, static_argnames=("model",), donate_argnames=("state",))
def _take(state: Any, queries: Any, valid: Any, pool: jax.Array, *, model: Any) -> Any:
    def on_one_device(state: Any, queries: jax.Array, valid: jax.Array, part: jax.Array) -> Any:
        return model.take(state, _products(queries, part), valid)

    whole, states = meshes.batch_spec(None), meshes.everywhere_spec(1)
    specs = (states, whole, whole, meshes.everywhere_spec(0))
    return meshes.on_devices(on_one_device, specs, states)(state, queries, valid, pool)


@partial(jax.jit, static_argnames=("model",))
def _all_scores(state: Any, current: Any, pool: jax.Array, *, model: Any) -> jax.Array:
    whole, states = meshes.batch_spec(None), meshes.everywhere_spec(1)
    scores: jax.Array = meshes.on_devices(
        partial(_blended, model=model), (states, whole, meshes.everywhere_spec(0)), states
    )(state, current, pool)
    return scores


@partial(jax.jit, static_argnames=("model", "k"))
def _best(
    state: Any,
    current: Any,
    seen: Any,
    pool: jax.Array,
    mask: jax.Array,
    *,
    model: Any,
    k: int,
) -> Any:
    def on_one_device(
        state_and_current: Any, seen: jax.Array, part: jax.Array, mask: jax.Array
    ) -> Any:
        state, current = state_and_current
        scores = _blended(state, current, part, model=model)
        begin = meshes.device_number() * len(part)
        on_device = (seen >= begin) & (seen < begin + len(part))
        users = jnp.arange(len(seen))[:, None]
        scores = scores.at[users, jnp.where(on_device, seen - begin, len(part))].set(
            -jnp.inf, mode="drop"
        )
        scores, columns = largest(jnp.where(mask[None, :], scores, -jnp.inf), min(k, len(part)))
        return scores, begin + columns

    whole, split = meshes.batch_spec(None), meshes.everywhere_spec(0)
    joined = meshes.everywhere_spec(1)
    specs = ((joined, whole), whole, split, split)
    scores, rows = meshes.on_devices(on_one_device, specs, (joined, joined))(
        (state, current), seen, pool, mask
    )
    best, places = largest(scores, k)
    return best, jnp.take_along_axis(rows, places, axis=1)


def _blended(
    state: Any, current: tuple[jax.Array, jax.Array] | None, part: jax.Array, *, model: Any
) -> jax.Array:
    """Scores f32[u, n]. Padding users have no history; their scores are dropped later."""
    scores: jax.Array = model.finish(state)
    if current is None:
        return scores
    playing, blend = current
    return (1 - blend) * scores + blend * _products(playing, part)


def _products(queries: jax.Array, part: jax.Array) -> jax.Array:
    return jnp.einsum("...d,nd->...n", queries, part, precision=lax.Precision.HIGHEST)
