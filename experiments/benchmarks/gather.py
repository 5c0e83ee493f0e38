"""The gather of features on several devices: `python -m experiments.benchmarks.gather`.

7,168 triplets of 8 million videos: the host's plan of who sends which rows to whom is measured
against 2 ms, an accelerator's step. On 2 and 8 simulated devices, with 100,000 videos of
1,024 + 128 uint8, placing a batch and gathering its features with a plan is measured against the
same without one. The devices share two cores and one memory, so that the times say what a plan
costs and not what it saves; the notes have the bytes that a device receives. Half a minute.
"""

import statistics
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import tyro

from experiments.benchmarks.bench import Row, in_rounds, report
from experiments.benchmarks.step import WIDTHS, synthetic_features
from vidembed.distributed import mesh as meshes
from vidembed.distributed.exchange import Exchanger
from vidembed.engine.placing import Placer

VIDEOS, TRIPLETS = 8_000_000, 7168
RESIDENT_VIDEOS = 100_000
STEP_SECONDS = 0.002
ROW_BYTES = sum(WIDTHS.values())


def main(*, rounds: int = 20) -> None:
    """Measure all cases and report them."""
    rows = [planning(devices, rounds) for devices in (8, 64, 256)]
    features = synthetic_features(RESIDENT_VIDEOS)
    rows += [row for devices in (2, 8) for row in gathering(features, devices, rounds)]
    report("gather", rows)


def batches(videos: int) -> list[np.ndarray]:
    """Row numbers i32[3, B] of eight batches."""
    random = np.random.default_rng(0)
    return [random.integers(0, videos, (3, TRIPLETS), np.int32) for _ in range(8)]


def planning(devices: int, rounds: int) -> Row:
    """The plan of one batch, on the host."""
    drawn = batches(VIDEOS)
    exchanger = Exchanger.sized(drawn, videos=VIDEOS, devices=devices)
    (seconds,) = in_rounds({"": lambda: exchanger.plan(drawn[0])}, rounds=rounds).values()
    return Row(
        case=f"plan for {devices} devices",
        seconds=statistics.median(seconds),
        limit_seconds=STEP_SECONDS,
        note=f"{devices * exchanger.capacity * ROW_BYTES / 1e6:.2f} MB received a device, "
        f"{3 * TRIPLETS // devices * ROW_BYTES / 1e6:.2f} MB needed",
    )


def gathering(features: dict[str, np.ndarray], devices: int, rounds: int) -> list[Row]:
    """Placing a batch and gathering its features, with a plan and without."""
    mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:devices])
    drawn = batches(RESIDENT_VIDEOS)
    exchanger = Exchanger.sized(drawn, videos=RESIDENT_VIDEOS, devices=devices)
    with jax.set_mesh(mesh):
        tables = jax.tree.map(partial(meshes.place_rows, mesh), features)
        gather: Any = jax.jit(
            lambda tables, rows, plan=None: jax.tree.map(
                lambda table: meshes.gather_rows(table, rows, plan), tables
            )
        )

        def work(placer: Placer) -> Callable[[], Any]:
            def place_and_gather() -> Any:
                placed, _ = placer.place({"rows": drawn[0]})
                return gather(tables, *placed.values())

            return place_and_gather

        feed = SimpleNamespace(split_axes={"rows": None}, events=(), events_of=lambda batch: ())
        plain = Placer(mesh=mesh, feed=feed)
        planned = Placer(mesh=mesh, feed=feed, exchanger=exchanger)
        seconds = in_rounds({"plain": work(plain), "planned": work(planned)}, rounds=rounds)
    ratio = statistics.median(b / a for a, b in zip(seconds["plain"], seconds["planned"]))
    took = statistics.median(seconds["planned"])
    received = devices * exchanger.capacity * ROW_BYTES
    whole = 3 * TRIPLETS * ROW_BYTES
    note = f"{received / 1e6:.1f} MB received a device, {whole / 1e6:.1f} MB without a plan"
    return [
        Row(
            case=f"place and gather, {devices} devices",
            seconds=took,
            limit_seconds=took / ratio,
            note=note,
        )
    ]


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    tyro.cli(main)
