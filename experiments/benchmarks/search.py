"""Exact search of a million: `python -m experiments.benchmarks.search [--candidates 1000000]`.

The 100 nearest of 1,000,000 candidates for 1,000 queries of 256 dimensions, and the exact ranks of
10 relevant candidates a query in the full ranking. The limit is the arithmetic of one product of
all pairs, 512 GFLOP, at the rate of a 4096³ float32 product in the same rounds. faiss's flat index
does the same search where faiss is installed (`pip install -e '.[bench]'`), on as many threads as
there are cores. Memory beside the vectors: what the compiled program allocates, for faiss and the
ranks what the process grows by. About two minutes on two cores, and 4 GB.
"""

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.bench import (
    against_products,
    in_rounds,
    measure,
    report,
    square_products,
)
from vidembed.evaluators.ranks import relevant_ranks
from vidembed.pairwise import search

SQUARE = 4096


def main(
    *,
    candidates: int = 1_000_000,
    queries: int = 1000,
    dimensions: int = 256,
    k: int = 100,
    rounds: int = 3,
) -> None:
    """Measure all cases and report them; smaller numbers are for trying the benchmark itself."""
    random = np.random.default_rng(0)
    pool = random.standard_normal((candidates, dimensions), np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    wanted = pool[random.choice(candidates, queries, replace=False)]
    wanted = wanted + 0.05 * random.standard_normal(wanted.shape, np.float32)
    relevant = random.integers(0, candidates, queries * 10)
    arguments = jnp.asarray(wanted), jnp.asarray(pool)
    program: Any = jax.jit(partial(search, k=k)).lower(*arguments).compile()
    offsets = np.arange(queries + 1) * 10
    products = square_products(SQUARE)
    works: dict[str, Callable[[], Any]] = {
        **products,
        "search": partial(program, *arguments),
        "ranks of 10 relevant": partial(relevant_ranks, wanted, pool, offsets, relevant),
    }
    if importlib.util.find_spec("faiss"):
        works["faiss, flat index"] = faiss_search(pool, wanted, k)
    seconds = in_rounds(works, rounds=rounds)

    arithmetic = queries * candidates * dimensions / SQUARE**3
    rows = []
    for name in list(works)[len(products) :]:
        if name == "search":
            peak = program.memory_analysis().temp_size_in_bytes
        else:
            _, peak = measure(works[name], repeats=1)
        rows.append(against_products(name, seconds, arithmetic, peak_bytes=peak))
    report("search", rows)


def faiss_search(pool: np.ndarray, queries: np.ndarray, k: int) -> Callable[[], Any]:
    """The same search by inner product with faiss's IndexFlatIP, filled beforehand."""
    import faiss

    faiss.omp_set_num_threads(os.cpu_count() or 1)
    index = faiss.IndexFlatIP(pool.shape[1])
    index.add(pool)
    return lambda: index.search(queries, k)


if __name__ == "__main__":
    tyro.cli(main)
