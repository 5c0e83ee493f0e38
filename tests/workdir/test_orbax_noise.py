import subprocess
import sys

import pytest

_DAMAGED = """
import gc, logging, random, sys
from pathlib import Path
import jax, jax.numpy as jnp
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.checkpoints.record import DigestError
tree = {str(i): jax.random.normal(jax.random.key(i), (300,)) for i in range(20)}
with Checkpoints(sys.argv[1]) as checkpoints:
    checkpoints.save(1, tree, {})
reader = Checkpoints(sys.argv[1], read_only=True)
draw = random.Random(0)
found = 0
for file in (Path(sys.argv[1]) / "1" / "arrays").rglob("*"):
    if file.is_file():
        good = file.read_bytes()
        for _ in range(3):
            bad = bytearray(good)
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
            file.write_bytes(bad)
            try:
                reader.restore(1, tree)
            except DigestError:
                found += 1
        file.write_bytes(good)
gc.collect()
assert found > 5


class Trouble:
    def __del__(self):
        raise ValueError("heard")


from absl import logging as absl_logging
absl_logging.error("heard too")
Trouble()
"""


@pytest.mark.long
def test_orbax_is_silent_and_other_libraries_are_not(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _DAMAGED, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines() or [""]
    assert lines[0].endswith("heard too"), done.stderr
    assert lines[-1] == "ValueError: heard"
    assert "orbax" not in done.stderr
    assert "loop" not in done.stderr
