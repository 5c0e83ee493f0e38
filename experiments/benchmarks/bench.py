"""What the benchmarks share: a case measured against its limit, printed as a table, kept as JSON.

A limit is something obvious that the same work cannot do without (reading the file, one bare
product), measured in the same run, so that a ratio means the same on every machine. Cases that are
timed in turn, round by round, have ratios that a busy machine does not spoil.
"""

import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import rich
from rich.table import Table

from vidembed.workdir.versions import commit_of

FOLDER = Path("runs/benchmarks")
PACKAGES = ("jax", "numpy", "torch", "pytorch-metric-learning", "faiss-cpu", "tensorflow")
"""Ours and the peers', of which those that are installed are written down."""
FULL, NARROW = "product, float32", "product, bfloat16"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured case: seconds of the whole case and of its limit, peak memory in bytes."""

    case: str
    seconds: float
    limit_seconds: float
    peak_bytes: int = 0
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times its limit the case takes."""
        return self.seconds / self.limit_seconds


def measure(work: Callable[[], Any], *, repeats: int = 3) -> tuple[float, int]:
    """Run `work` `repeats` times: the best time in seconds, and the resident bytes it added.

    The memory is the highest of the repeats' peaks above the resident size at their start, as
    Linux counts it (0 elsewhere): time and memory come from the same calls.
    """
    best, added = float("inf"), 0
    for _ in range(repeats):
        before = _peak_bytes(anew=True)
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
        added = max(added, _peak_bytes() - before)
    return best, added


def measured(
    case: str, work: Callable[[], Any], limit_seconds: float, *, repeats: int = 3, note: str = ""
) -> Row:
    """The row of a case that is measured by itself."""
    seconds, peak = measure(work, repeats=repeats)
    return Row(case=case, seconds=seconds, limit_seconds=limit_seconds, peak_bytes=peak, note=note)


def square_products(side: int) -> dict[str, Callable[[], Any]]:
    """FULL and NARROW: the bare product of side³ whose rate is a limit.

    The float32 one at the precision that the network and the miners ask for: at the default, an
    accelerator would round its operands. The other, with float32 sums, is the most that the matrix
    units of an accelerator give.
    """
    full = jax.random.normal(jax.random.key(0), (side, side))
    narrow = full.astype(jnp.bfloat16)
    exact = jax.jit(partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))
    fast = jax.jit(partial(jnp.matmul, preferred_element_type=jnp.float32))
    return {FULL: partial(exact, full, full), NARROW: partial(fast, narrow, narrow)}


def in_rounds(works: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each case in each of `rounds` rounds, after one that compiles and is not counted.

    A round runs every case once, so that what slows the machine for a while slows all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(rounds + 1):
        for name, work in works.items():
            began = time.perf_counter()
            jax.block_until_ready(work())
            if round_number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def against_products(
    case: str, seconds_of: Mapping[str, list[float]], arithmetic: float, *, peak_bytes: int
) -> Row:
    """The row of a case whose limit is its arithmetic, in bare products of the same rounds.

    The limit is scaled so that seconds / limit is the median of the ratios within rounds; the note
    has their range, and the case's rate as a share of the bfloat16 product's.
    """
    seconds = seconds_of[case]
    ratios = sorted(a / (b * arithmetic) for a, b in zip(seconds, seconds_of[FULL]))
    shares = [b * arithmetic / a for a, b in zip(seconds, seconds_of[NARROW])]
    note = f"ratio {ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds"
    note += f", {statistics.median(shares):.0%} of the bfloat16 rate"
    took = statistics.median(seconds)
    limit = took / statistics.median(ratios)
    return Row(case=case, seconds=took, limit_seconds=limit, peak_bytes=peak_bytes, note=note)


def report(name: str, rows: list[Row]) -> Path:
    """Print the rows as a table and write them to runs/benchmarks/<name>.json; returns its path."""
    table = Table("case", "seconds", "limit", "ratio", "peak MB", "note", title=name)
    for row in rows:
        numbers = (f"{row.seconds:.4f}", f"{row.limit_seconds:.4f}", f"{row.ratio:.2f}")
        table.add_row(row.case, *numbers, f"{row.peak_bytes / 1e6:.1f}", row.note)
    rich.print(table)
    return write_result(name, [asdict(row) | {"ratio": row.ratio} for row in rows])


def write_result(name: str, rows: list[dict[str, Any]]) -> Path:
    """Write rows, with the command, the machine and the versions, as `report` does."""
    result = {
        "benchmark": name,
        "command": " ".join(sys.orig_argv),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": dict(_versions()) | commit_of(Path(__file__).parent),
        "rows": rows,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield package, metadata.version(package)


def _peak_bytes(*, anew: bool = False) -> int:
    """The most resident bytes there were; of now, and counted from now on, if `anew`."""
    try:
        if anew:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
