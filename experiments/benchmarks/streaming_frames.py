"""How fast frame-level records become batches: `python -m experiments.benchmarks.streaming_frames`.

Made records of YouTube-8M's layout (120 to 300 frames of 1,024 + 128 bytes, random), in random
order, with labels and checked crcs, by the feed of an annotation run; the index, one pass that
parses every record; and pooling on the device, for the means alone, for all statistics, and with
learned weights. The limit is reading the same files from end to end and nothing else. Files warm in
the page cache. A minute on two cores.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.bench import in_rounds, report
from experiments.benchmarks.streaming_labels import (
    LIMIT,
    Case,
    open_feed,
    passing,
    read_files,
    row_of,
)
from vidembed.models.frame_attention import attend
from vidembed.records.frame_pooling import STATISTICS, pooled_features, pooled_name
from vidembed.records.frame_rows import FrameRows
from vidembed.records.frame_table import open_frames
from vidembed.records.frames import encode_frames
from vidembed.records.framing import write_records
from vidembed.records.record_layout import RecordLayout

RUN_LENGTHS = (1, 16)
WIDTHS = {"visual": 1024, "audio": 128}
LAYOUT = RecordLayout(level="frame")


def main(
    *,
    videos: int = 1024,
    files: int = 8,
    batch_videos: int = 128,
    rounds: int = 5,
    threads: int = 2,
    shortest: int = 120,
    longest: int = 300,
) -> None:
    """Measure all cases in turn, print the table, write runs/benchmarks/streaming_frames.json.

    Args:
        videos: videos to make, 245 KB each on average.
        files: files to write them to.
        batch_videos: videos per batch.
        rounds: rounds of all cases.
        threads: threads that make batches.
        shortest: frames of a video, at least.
        longest: frames of a video, at most.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), videos, files, shortest, longest)
        table, steps = open_frames(folder, LAYOUT), videos // batch_videos
        cases = {LIMIT: Case(partial(read_files, paths, 1), steps)}
        cases["index"] = Case(lambda: open_frames(folder, LAYOUT), steps)
        for run_length in RUN_LENGTHS:
            feed = open_feed(table, batch_videos, threads, run_length)
            cases[f"batches, runs of {run_length}"] = Case(passing(feed, steps), steps)
        batch = open_feed(table, batch_videos, threads, 1).at(0)
        for name, statistics in (("mean", ("mean",)), ("all statistics", tuple(STATISTICS))):
            names = tuple(pooled_name(m, each) for m in WIDTHS for each in statistics)
            pool = jax.jit(partial(chosen, names))
            arrays = jax.device_put((batch["features"], batch["lengths"]))
            cases[f"pooling, {name}"] = Case(partial(waited, pool, *arrays), 1)
        weights = {name: jnp.zeros(width) for name, width in WIDTHS.items()}
        for name, function in (("", attended), (" and its gradient", jax.grad(total))):
            compiled = jax.jit(function)
            cases[f"attention{name}"] = Case(partial(waited, compiled, weights, *arrays), 1)
        seconds = in_rounds(cases, rounds=rounds)
        each = sum(path.stat().st_size for path in paths) / videos
    report("streaming_frames", [row_of(n, cases, seconds, batch_videos, each) for n in cases])


def waited(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a compiled function, when it is there."""
    return jax.block_until_ready(function(*arguments))


def chosen(
    names: tuple[str, ...], features: dict[str, Any], lengths: jax.Array
) -> dict[str, jax.Array]:
    """The pooled vectors of these names; the others are not computed."""
    vectors = pooled_features(features, lengths)
    return {name: vectors[name] for name in names}


def attended(
    weights: dict[str, jax.Array], features: dict[str, Any], lengths: jax.Array
) -> dict[str, jax.Array]:
    """The vectors of attention with these weights."""
    return {n: attend(FrameRows(features[n], lengths), vector) for n, vector in weights.items()}


def total(*arguments: Any) -> jax.Array:
    """A sum over the vectors of attention."""
    return sum((jnp.sum(jnp.square(each)) for each in attended(*arguments).values()), jnp.zeros(()))


def write(folder: Path, videos: int, files: int, shortest: int, longest: int) -> list[Path]:
    """The paths of made files."""
    rng, paths = np.random.default_rng(0), []
    for number in range(files):
        paths.append(folder / f"videos{number}.tfrecord")
        records = []
        for video in range(number, videos, files):
            length = int(rng.integers(shortest, longest + 1))
            frames = {m: rng.integers(0, 256, (length, w), np.uint8) for m, w in WIDTHS.items()}
            records.append(encode_frames(f"v{video}", rng.permutation(3862)[:3], frames))
        write_records(paths[-1], records)
    return paths


if __name__ == "__main__":
    tyro.cli(main)
