"""The quantiser: error, bytes and speed. `python -m experiments.benchmarks.quantiser`.

100,000 vectors of 256 dimensions: unit vectors around 1,000 centres. Fitting, encoding and decoding
are held against moving their bytes once, at the rate of a copy of the vectors in the same rounds
(fitting reads all values, encoding reads them and writes codes); scores of 200 queries by lookup
against the bare product's arithmetic, 10 GFLOP, at the rate of a 4096³ product. A note says what a
case moves or adds, and the error as a share of the variance. Where faiss is installed (`pip install
-e '.[serve]'`) its product quantiser of one dimension a part is fitted, encodes and decodes beside.
"""

import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tyro

from experiments.benchmarks.bench import (
    Row,
    against_products,
    in_rounds,
    measure,
    report,
    square_products,
)
from experiments.codes import faiss_module, has_faiss
from vidembed.serving.quantizer import Quantizer

SQUARE = 4096
COPY = "copy"
PEER_BITS = 4


class Case(NamedTuple):
    """Work, and what it is held against."""

    work: Callable[[], Any]
    moved_bytes: int = 0
    """To be moved at the rate of a copy; 0 for scores, which are held against a product."""
    note: str = ""


def main(
    *, vectors: int = 100_000, dimensions: int = 256, queries: int = 200, rounds: int = 3
) -> None:
    """Measure all cases and report them; smaller numbers are for trying the benchmark itself."""
    pool = _vectors(vectors, dimensions)
    cases = {
        f"{bits} bit: {name}": case
        for bits in (2, 4, 8)
        for name, case in _ours(pool, pool[:queries], bits)
    }
    if has_faiss():
        cases |= {f"faiss, {PEER_BITS} bit: {name}": case for name, case in _peer(pool)}
    products = square_products(SQUARE)
    copy = partial(np.copyto, np.empty_like(pool), pool)
    works = {name: case.work for name, case in cases.items()}
    seconds = in_rounds({**products, COPY: copy, **works}, rounds=rounds)
    arithmetic = queries * pool.size / SQUARE**3
    rows = []
    for name, case in cases.items():
        peak = measure(case.work, repeats=1)[1]
        if case.moved_bytes:
            row = _against_copy(name, seconds, case.moved_bytes / (2 * pool.nbytes), peak)
        else:
            row = against_products(name, seconds, arithmetic, peak_bytes=peak)
        moved = f"{case.moved_bytes / 1e6:.0f} MB" if case.moved_bytes else ""
        note = ", ".join(part for part in (moved, case.note, row.note) if part)
        rows.append(replace(row, note=note))
    report("quantiser", rows)


def _ours(pool: np.ndarray, queries: np.ndarray, bits: int) -> Iterator[tuple[str, Case]]:
    for name, shared in (("fit", True), ("fit, per dimension", False)):
        fit = partial(Quantizer.fit, pool, bits=bits, shared=shared)
        quantizer = fit()
        error = _lost(quantizer.decode(quantizer.encode(pool)), pool)
        yield name, Case(fit, pool.nbytes, f"error {error:.3g}")
    quantizer = Quantizer.fit(pool, bits=bits)
    codes = quantizer.encode(pool)
    size = pool.nbytes + codes.nbytes
    yield "encode", Case(partial(quantizer.encode, pool), size)
    yield "decode", Case(partial(quantizer.decode, codes), size)
    look_ups = f"{len(queries) * codes.size / 1e9:.1f} G look-ups"
    yield "scores", Case(partial(quantizer.scores, queries, codes), note=look_ups)
    yield "decode, product", Case(lambda: queries @ quantizer.decode(codes).T)


def _peer(pool: np.ndarray) -> Iterator[tuple[str, Case]]:
    faiss = faiss_module()
    faiss.omp_set_num_threads(os.cpu_count())

    def fit() -> Any:
        quantizer = faiss.ProductQuantizer(pool.shape[1], pool.shape[1], PEER_BITS)
        quantizer.train(pool)
        return quantizer

    quantizer = fit()
    codes = quantizer.compute_codes(pool)
    size = pool.nbytes + codes.nbytes
    error = _lost(quantizer.decode(codes), pool)
    yield "fit, per dimension", Case(fit, pool.nbytes, f"error {error:.3g}")
    yield "encode", Case(partial(quantizer.compute_codes, pool), size)
    yield "decode", Case(partial(quantizer.decode, codes), size)


def _against_copy(
    case: str, seconds: Mapping[str, list[float]], copies: float, peak_bytes: int
) -> Row:
    """The row of a case whose limit is to move as many bytes as so many copies of the vectors."""
    ratios = [a / (b * copies) for a, b in zip(seconds[case], seconds[COPY])]
    took = statistics.median(seconds[case])
    limit = took / statistics.median(ratios)
    return Row(case=case, seconds=took, limit_seconds=limit, peak_bytes=peak_bytes)


def _vectors(count: int, dimensions: int) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = random.standard_normal((1000, dimensions), np.float32)
    found = centres[random.integers(0, 1000, count)]
    found = found + 0.5 * random.standard_normal(found.shape, np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _lost(restored: np.ndarray, pool: np.ndarray) -> float:
    return float(np.square(restored - pool).sum() / np.square(pool - pool.mean(axis=0)).sum())


if __name__ == "__main__":
    tyro.cli(main)
