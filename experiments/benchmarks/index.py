"""Indexes beside faiss's own: `python -m experiments.benchmarks.index [--records ...]`.

300,000 × 256 mixtures of real features (of two videos each; projected on principal components, unit
length), k = 100. Each engine takes the least effort, by doubling, that finds 0.95 of the exact
neighbours. Printed for each: that effort and recall, queries a second in batches of 500, p50 and
p99 of one query, warm and cold (all that is mapped thrown out of memory before each), the time to
open the folder and answer the first query from a cold disk, bytes a vector of what is held in
memory and of all on disk, and how long it took to build. faiss's own rows search the same vectors
without a folder, ids, filters or refinement from disk.

About ten minutes on two cores, and 4 GB.
"""

import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rich
import tyro
from rich.table import Table

from experiments.benchmarks.bench import write_result
from vidembed.evaluators.baselines import raw_features
from vidembed.records.importing import Importing, import_videos
from vidembed.records.table import FeatureTable
from vidembed.serving.faiss_engine import FastScan, Hnsw, Ivf, faiss_module
from vidembed.serving.index import Index
from vidembed.serving.segment import Engine

RECALL = 0.95
COLD, OPENED = 30, 5
TRAINED_ON = 1 << 15
COLUMNS = (
    "case", "effort", "recall", "a second", "p50 ms", "p99 ms", "cold p50", "cold p99", "open ms",
    "B in memory", "B on disk", "built s",
)  # fmt: skip


def main(
    *,
    records: str = "data/youtube8m/*.tfrecord",
    rows: int = 300_000,
    dimensions: int = 256,
    queries: int = 500,
    singles: int = 200,
    k: int = 100,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure all engines and faiss's own; smaller numbers are for trying the benchmark itself."""
    vectors = mixtures(records, rows + queries, dimensions, seed)
    vectors, wanted = vectors[:rows], vectors[rows:]
    ids = np.arange(rows).astype("S")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        exact = Index.create(f"{folder}/truth", ids, vectors, space="mixtures")
        truth = [set(near.tolist()) for near, _ in exact.search(wanted, k).each()]

        def recall_of(found: list[np.ndarray]) -> float:
            pairs = zip(found, truth)
            return float(np.mean([len(right & set(near.tolist())) / k for near, right in pairs]))

        cases: list[tuple[str, str | Engine, str]] = [
            ("exact", "exact", "float32"),
            ("exact, 8 bit", "exact", "int8"),
            ("4 bit, refined by float32", FastScan(effort=1), "float32"),
            ("4 bit, refined by 8 bit", FastScan(effort=1), "int8"),
            ("IVF", Ivf(effort=4), "float32"),
            ("HNSW", Hnsw(effort=2 * k), "float32"),
        ]
        for name, engine, keep in cases:
            path = Path(folder) / name.replace(" ", "-")
            began = time.perf_counter()
            Index.create(path, ids, vectors, space="mixtures", engine=engine, keep=keep)
            built = time.perf_counter() - began
            results.append(ours(name, path, wanted, k, singles, recall_of) | {"built s": built})
            show(results[-1:])
        results += faiss_rows(vectors, wanted, k, singles, lambda near: recall_of(list(near)))
    show(results)
    write_result("index", results)
    return results


def mixtures(records: str, rows: int, dimensions: int, seed: int) -> np.ndarray:
    """f32[rows, dimensions]: each w a + (1 − w) b of two videos' features, w uniform."""
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        import_videos(records, f"{folder}/table", Importing())
        table = FeatureTable.open(f"{folder}/table")
        features = raw_features(table, tuple(table.features))
    features = features - features.mean(axis=0)
    _, _, axes = np.linalg.svd(features, full_matrices=False)
    features = features @ axes[:dimensions].T
    one, other = random.integers(0, len(features), (2, rows))
    weight = random.random((rows, 1), np.float32)
    mixed = weight * features[one] + (1 - weight) * features[other]
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)


def ours(
    name: str,
    path: Path,
    queries: np.ndarray,
    k: int,
    singles: int,
    recall_of: Callable[[list[np.ndarray]], float],
) -> dict[str, Any]:
    """The row of an index that lies in a folder."""
    index = Index.open(path)
    effort, recall = index.engine.effort, 0.0
    while True:
        recall = recall_of([near for near, _ in index.search(queries, k, effort=effort).each()])
        if recall >= RECALL or effort >= 1024:
            break
        effort *= 2

    def one(number: int) -> None:
        index.search(queries[number % len(queries)][None], k, effort=effort)

    def opened(number: int) -> None:
        Index.open(path).search(queries[number][None], k, effort=effort)

    batch = timed(lambda _: index.search(queries, k, effort=effort), 3)
    warm = timed(one, singles)
    parts = [segment.blocks for segment in index._version.segments]
    maps = [mapped for part in parts for mapped in (part._map, part._scattered)]
    cold = timed(one, COLD, lambda: forget(path, maps))
    opening = timed(opened, OPENED, lambda: forget(path, maps))
    sizes = index.sizes()
    # The exact engine holds the vectors as float32.
    held = sizes["engine bytes"] or 4 * index.dimension * len(index)
    return {
        "case": name,
        "effort": effort,
        "recall": recall,
        "a second": len(queries) / np.median(batch),
        **percentiles(warm, ""),
        **percentiles(cold, "cold "),
        "open ms": 1e3 * float(np.median(opening)),
        "B in memory": held / len(index),
        "B on disk": sizes["bytes"] / len(index),
    }


def faiss_rows(
    vectors: np.ndarray,
    queries: np.ndarray,
    k: int,
    singles: int,
    recall_of: Callable[[np.ndarray], float],
) -> list[dict[str, Any]]:
    """faiss's own: exact, and 4-bit codes that it trains by itself, refined or not."""
    results = []
    for name, index, efforts, set_effort, built in peers(vectors):
        search: Callable[..., Any] = index.search
        for effort in efforts:
            set_effort(effort)
            # Ids of the benchmark are row numbers, as text.
            recall = recall_of(search(queries, k)[1].astype("S"))
            if recall >= RECALL:
                break

        def one(at: int, search: Callable[..., Any] = search) -> Any:
            return search(queries[at][None], k)

        def many(_: int, search: Callable[..., Any] = search) -> Any:
            return search(queries, k)

        batch = timed(many, 3)
        warm = timed(one, min(singles, len(queries)))
        results.append(
            {
                "case": name,
                "effort": effort,
                "recall": recall,
                "a second": len(queries) / np.median(batch),
                **percentiles(warm, ""),
                "B in memory": len(faiss_module().serialize_index(index)) / len(vectors),
                "built s": built,
            }
        )
        show(results[-1:])
    return results


def peers(
    vectors: np.ndarray,
) -> Iterator[tuple[str, Any, list[int], Callable[[int], None], float]]:
    """faiss's own: name, index, the efforts to try, what sets one, and seconds of building."""
    faiss, width = faiss_module(), vectors.shape[1]

    def made(kind: str) -> tuple[Any, float]:
        began = time.perf_counter()
        index = faiss.index_factory(width, kind, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[:TRAINED_ON])
        index.add(vectors)
        return index, time.perf_counter() - began

    doubled = [1 << power for power in range(10)]
    flat, built = made("Flat")
    yield "faiss: flat", flat, [0], lambda effort: None, built
    codes, built = made(f"PQ{width}x4fs")
    yield "faiss: 4 bit", codes, [0], lambda effort: None, built
    eight_bits, more = made("SQ8")
    for name, store, seconds in (("float32", flat, built), ("8 bit", eight_bits, built + more)):
        refined = faiss.IndexRefine(codes, store)
        set_factor = partial(setattr, refined, "k_factor")
        yield f"faiss: 4 bit, refined by {name}", refined, doubled, set_factor, seconds
    lists, built = made(f"IVF{lists_of(len(vectors))},SQ8")
    yield "faiss: IVF", lists, doubled, partial(setattr, lists, "nprobe"), built


def lists_of(rows: int) -> int:
    """As Ivf chooses."""
    return max(1, min(round(4 * rows**0.5), rows // 39))


def timed(
    work: Callable[[int], Any], times: int, before: Callable[[], None] | None = None
) -> list[float]:
    """Seconds of each of so many calls, with their numbers, after one that is not counted."""
    seconds = []
    work(0)
    for number in range(times):
        if before is not None:
            before()
        began = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - began)
    return seconds


def percentiles(seconds: list[float], what: str) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    p50, p99 = 1e3 * np.percentile(seconds, [50, 99])
    return {f"{what}p50" + " ms" * (not what): p50, f"{what}p99" + " ms" * (not what): p99}


def forget(path: Path, maps: list[mmap.mmap]) -> None:
    """Throw a folder's files out of memory: what is mapped first, then the system's pages."""
    for part in maps:
        part.madvise(mmap.MADV_DONTNEED)
    for file in path.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def show(results: list[dict[str, Any]]) -> None:
    """Print rows as a table."""
    table = Table(*COLUMNS, title="index")
    for result in results:
        values = [result.get(column, "") for column in COLUMNS]
        table.add_row(*(f"{v:,.4g}" if isinstance(v, float) else str(v) for v in values))
    rich.print(table)


if __name__ == "__main__":
    tyro.cli(main)
