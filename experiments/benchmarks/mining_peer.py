"""The mining benchmark's peer: pytorch-metric-learning's semi-hard miner, in a process of its own.

It returns every triplet whose negative is farther than its positive and inside the margin, without
forbidden lists, and holds one entry a triplet of the batch: 14,400 embeddings, two a class, take
about 14 GB. Hence a process of its own, which is the first to be killed where memory runs out.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def semi_hard(triplets: int, dimensions: int) -> tuple[float, int]:
    """Seconds of one call on `triplets` anchors and as many positives, and the bytes it added."""
    command = [sys.executable, "-m", __name__, str(triplets), str(dimensions)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"pytorch-metric-learning's semi-hard miner ended with {done.returncode} (-9: killed, "
            "for want of memory perhaps; leave it out by --no-semi-hard-peer): "
            f"{done.stderr[-500:]}"
        )
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def _run(triplets: int, dimensions: int) -> tuple[float, int]:
    import torch
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.miners import TripletMarginMiner

    torch.set_num_threads(os.cpu_count() or 1)
    random = np.random.default_rng(0)

    def vectors() -> np.ndarray:
        drawn = random.standard_normal((triplets, dimensions), np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    anchor = vectors()
    embeddings = torch.from_numpy(np.concatenate([anchor, anchor + 0.75 * vectors()]))
    labels = torch.arange(triplets).repeat(2)
    distance = LpDistance(power=2)
    miner = TripletMarginMiner(margin=0.1, type_of_triplets="semihard", distance=distance)
    Path("/proc/self/oom_score_adj").write_text("1000")
    before = _highest_memory()
    began = time.perf_counter()
    miner(embeddings, labels)
    return time.perf_counter() - began, _highest_memory() - before


def _highest_memory() -> int:
    """Bytes of memory that this process has had at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(_run(int(sys.argv[1]), int(sys.argv[2]))))
