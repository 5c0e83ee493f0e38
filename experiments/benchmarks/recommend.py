"""The mean of a history, averaged first: `python -m experiments.benchmarks.recommend`.

Scores of 100,000 videos of 256 dimensions for one user of 1, 10, 100 and 1,000 watched videos
(CDML, section 4.2.1): as `serving` does it, one pre-averaged vector, O(|V| + |Q|), from the vectors
of the history to the scores on the host; and by every pair, O(|V||Q|), a product of all with all
and a mean over the history, compiled by XLA. The limit of the first is one bare product of all
videos with a vector, that of the second is the first; all in turn, round by round. Differences are
the largest of any score from the same in f64. About a minute on two cores, and 1 GB.
"""

import statistics
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.bench import Row, in_rounds, report
from vidembed.distributed import mesh as meshes
from vidembed.serving.exact import placed
from vidembed.serving.recommender import histories_for
from vidembed.serving.scoring import all_scores
from vidembed.serving.user_models import Mean


def main(
    *,
    videos: int = 100_000,
    dimensions: int = 256,
    lengths: tuple[int, ...] = (1, 10, 100, 1000),
    rounds: int = 7,
) -> None:
    """Measure all lengths and report them; smaller numbers are for trying the benchmark itself."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((videos, dimensions), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mesh = meshes.make_mesh(meshes.MeshShape())
    pool, plain = placed(mesh, vectors), jnp.asarray(vectors)
    rows = []
    for length in lengths:
        history = vectors[random.choice(videos, length)]
        works: dict[str, Any] = {
            "one product": partial(_every_pair, history[:1], plain),
            "one vector": partial(_one_vector, mesh, pool, history),
            "every pair": partial(_every_pair, history, plain),
        }
        exact = vectors.astype(np.float64) @ history.mean(axis=0, dtype=np.float64)
        seconds = in_rounds(works, rounds=rounds)
        for case, limit in (("one vector", "one product"), ("every pair", "one vector")):
            ratio = statistics.median(a / b for a, b in zip(seconds[case], seconds[limit]))
            apart = np.abs(np.asarray(works[case]())[:videos] - exact).max()
            took = statistics.median(seconds[case])
            rows.append(
                Row(
                    case=f"history of {length:,}, {case}",
                    seconds=took,
                    limit_seconds=took / ratio,
                    note=f"largest difference {apart:.1e}",
                )
            )
    report("recommend", rows)


def _one_vector(mesh: jax.sharding.Mesh, pool: jax.Array, history: np.ndarray) -> np.ndarray:
    given = histories_for(Mean(), history, np.array([0, len(history)]))
    [(_, scores)] = all_scores(mesh, pool, given, model=Mean())
    found: np.ndarray = scores[0]
    return found


@jax.jit
def _every_pair(history: Any, pool: jax.Array) -> jax.Array:
    return jnp.matmul(history, pool.T, precision=jax.lax.Precision.HIGHEST).mean(axis=0)


if __name__ == "__main__":
    tyro.cli(main)
