"""Mining at paper scale: `python -m experiments.benchmarks.mining [--triplets 7200]`.

7,200 anchors, the 21,600 embeddings of their batch as the pool, 256 dimensions, 48 forbidden
members an anchor. The limit is the arithmetic of one product of all pairs, 80 GFLOP, at the rate
of a 4096³ float32 product in the same rounds; the notes have the share of a bfloat16 one's rate.
Memory is what the compiled program allocates beside its arguments and results. The batches of
14,400 to 57,600 triplets run once: they show that memory grows with the batch, and not with its
square. Two minutes on two cores. What pytorch-metric-learning needs is measured where it is
installed (`pip install -e '.[bench]'`), without forbidden lists: its hardest negatives, and with
`--semi-hard-peer` its semi-hard ones of 14,400 embeddings (their own pool: 106 GFLOP), which take
14 GB.
"""

import importlib.util
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.bench import (
    FULL,
    Row,
    against_products,
    in_rounds,
    measure,
    measured,
    report,
    square_products,
)
from vidembed.mining import Forbidden, Hardest, Miner, SemiHard, SemiHardRandom
from vidembed.mining.blockwise import Anchors, mask
from vidembed.pairwise import normalise

SQUARE = 4096
MARGIN = 0.1
MINERS: dict[str, Miner] = {
    "SemiHard": SemiHard(),
    "SemiHard, bfloat16": SemiHard(operands="bfloat16"),
    "SemiHardRandom": SemiHardRandom(),
    "Hardest": Hardest(),
}


def main(
    *,
    triplets: int = 7200,
    dimensions: int = 256,
    forbidden: int = 48,
    rounds: int = 7,
    larger: tuple[int, ...] = (14_400, 28_800, 57_600),
    semi_hard_peer: bool = False,
) -> None:
    """Measure all cases and report them; other sizes show how time and memory grow."""
    arguments = batch(triplets, dimensions, forbidden)
    key = jax.random.key(0)
    programs: dict[str, Any] = {
        name: jax.jit(partial(miner, key=key, margin=MARGIN)).lower(*arguments).compile()
        for name, miner in MINERS.items()
    }
    programs["semi-hard, all pairs at once"] = jax.jit(all_at_once).lower(*arguments).compile()
    programs["bare product, written out"] = jax.jit(product).lower(*arguments).compile()
    works = square_products(SQUARE)
    works |= {name: partial(program, *arguments) for name, program in programs.items()}
    seconds = in_rounds(works, rounds=rounds)

    product_seconds = float(np.median(seconds[FULL]))
    pairs = triplets * 3 * triplets
    rows = []
    for name, program in programs.items():
        peak = program.memory_analysis().temp_size_in_bytes
        amount = arithmetic(pairs, dimensions)
        rows.append(against_products(name, seconds, amount, peak_bytes=peak))
    for count in larger:
        peak, took = once(count, dimensions, forbidden)
        limit = product_seconds * arithmetic(count * 3 * count, dimensions)
        name = f"SemiHard, {count:,} triplets"
        rows.append(
            Row(case=name, seconds=took, limit_seconds=limit, peak_bytes=peak, note="one run")
        )
    if importlib.util.find_spec("pytorch_metric_learning"):
        rows += peers(*arguments[:3], product_seconds, semi_hard=semi_hard_peer)
    report("mining" if triplets == 7200 else f"mining-{triplets}", rows)


def arithmetic(pairs: int, dimensions: int) -> float:
    """The products of `pairs` pairs, in products of 4096³."""
    return pairs * dimensions / SQUARE**3


def once(triplets: int, dimensions: int, forbidden: int) -> tuple[int, float]:
    """Bytes that SemiHard's program allocates at another size, and the seconds of one run."""
    arguments = batch(triplets, dimensions, forbidden)
    miner = jax.jit(partial(SemiHard(), key=jax.random.key(0), margin=MARGIN))
    program: Any = miner.lower(*arguments).compile()
    seconds, _ = measure(lambda: jax.block_until_ready(program(*arguments)), repeats=1)
    return program.memory_analysis().temp_size_in_bytes, seconds


def batch(
    triplets: int, dimensions: int, forbidden: int
) -> tuple[jax.Array, jax.Array, jax.Array, Forbidden]:
    """Anchors, positives at a cosine of about 0.8 from them, all of the batch as the pool in the
    order of its slots, and lists of itself, the positive and random others."""
    random = np.random.default_rng(0)

    def vectors() -> jax.Array:
        return normalise(jnp.asarray(random.standard_normal((triplets, dimensions), np.float32)))

    negative, anchor = vectors(), vectors()
    positive = normalise(anchor + 0.75 * vectors())
    numbers = np.arange(triplets)[:, None]
    pairs = random.integers(0, 3 * triplets, (triplets, forbidden - 2))
    slots = np.concatenate([numbers + triplets, numbers + 2 * triplets, pairs], axis=1)
    pairs = np.stack([np.repeat(numbers, forbidden), slots.reshape(-1)])
    pool = jnp.concatenate([negative, positive, anchor])
    lists = Forbidden(jnp.asarray(pairs, jnp.int32), jnp.ones(3 * triplets, bool))
    return anchor, positive, pool, lists


def all_at_once(
    anchor: jax.Array, positive: jax.Array, pool: jax.Array, forbidden: Forbidden
) -> tuple[jax.Array, jax.Array]:
    """The obvious way to the same negatives: the whole matrix, masked, and its argmax."""
    scores = mask(anchor @ pool.T, forbidden, Anchors.of(forbidden, len(anchor), 0))
    farther = scores < jnp.sum(anchor * positive, axis=1, keepdims=True)
    scores = jnp.where(farther, scores, -jnp.inf)
    return jnp.argmax(scores, axis=1), jnp.max(scores, axis=1) > -jnp.inf


def product(
    anchor: jax.Array, positive: jax.Array, pool: jax.Array, forbidden: Forbidden
) -> jax.Array:
    """Nothing but the similarities of all pairs: f32[B, N]."""
    del positive, forbidden
    return anchor @ pool.T


def peers(
    anchor: jax.Array,
    positive: jax.Array,
    pool: jax.Array,
    product_seconds: float,
    *,
    semi_hard: bool,
) -> Iterator[Row]:
    """pytorch-metric-learning's miners on the same vectors, one class a triplet."""
    import torch
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner

    torch.set_num_threads(os.cpu_count() or 1)
    anchors, positives, candidates = (
        torch.from_numpy(np.array(x)) for x in (anchor, positive, pool)
    )
    distance, numbers = LpDistance(power=2), torch.arange(len(anchor))
    # Negatives are classes of their own; positives and anchors bear the number of their triplet.
    labels = torch.cat([numbers + len(anchor), numbers, numbers])
    hardest = partial(BatchHardMiner(distance=distance), anchors, numbers, candidates, labels)
    limit = product_seconds * arithmetic(len(anchor) * len(pool), anchor.shape[1])
    name = "peer: pytorch-metric-learning, hardest"
    yield measured(name, hardest, limit, repeats=2, note="best of 2")
    if semi_hard:
        # Its batch is its own pool: other pairs than ours, and more of them.
        batch, limit = torch.cat([anchors, positives]), limit * 4 * len(anchor) / len(pool)
        miner = TripletMarginMiner(MARGIN, type_of_triplets="semihard", distance=distance)
        name, note = "peer: pytorch-metric-learning, semi-hard", f"{len(batch):,} embeddings, once"
        yield measured(name, partial(miner, batch, numbers.repeat(2)), limit, repeats=1, note=note)


if __name__ == "__main__":
    tyro.cli(main)
