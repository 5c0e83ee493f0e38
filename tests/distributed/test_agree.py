"""Two processes over jax.distributed that share a folder; and each function with one process."""

import os
import socket
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed.agree import (
    agree,
    is_first_host,
    lost_host,
    meet,
    of_first_host,
    together,
)
from vidembed.workdir.checkpoints.store import Checkpoints

_HOST = """
import sys
import jax, jax.numpy as jnp
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from pathlib import Path
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.checkpoints.record import CheckpointError, DigestError
from vidembed.workdir.checkpoints.record import MismatchError, VanishedError
from vidembed.distributed.agree import HostsDifferError, agree, lost_host
from vidembed.distributed.agree import meet, of_first_host, together
from vidembed.workdir.journal import Journal
from vidembed.workdir.lease import LeaseHeldError
from vidembed.workdir.layout import Workdir

me = jax.process_index()
folder = Path(sys.argv[3])
assert jax.device_count() == 4 and jax.process_count() == 2

assert of_first_host([me, 7, 10 * me]) == [0, 7, 0]
assert of_first_host([5, 6] if me else []) == []
assert of_first_host([] if me else [5, 6]) == [5, 6]
assert together(lambda: me, ValueError) == me


def fails(on, error):
    def work():
        if me == on:
            raise error("mine")
        return 1

    try:
        together(work, ValueError, KeyError)
    except error as met:
        return str(met)


for on in (0, 1):
    for error in (ValueError, KeyError):
        words = fails(on, error)
        expected = str(error("mine"))
        assert words == expected if me == on else f"process {on}: " in words and "mine" in words


def differ():
    raise (KeyError if me else ValueError)(f"of {me}")


try:
    together(differ, ValueError, KeyError)
    raise SystemExit("both failed, and it went on")
except KeyError as met:
    assert met.args == ("of 1" if me else "process 1: 'of 1'",), met

agree({"a": {"b": [1, "é" * 300]}, "c": None})
for mine, words in (
    ({"a": {"b": me, "c": 1}}, ["  a.b: 0 on process 0; 1 on process 1\\n"]),
    ({"x" * (me + 1): True}, ["  x: true on process 0; (absent) on process 1\\n", "  xx: (abs"]),
    ({"a": {} if me else {"b": 1}}, ["  a: (absent) on process 0; {} on process 1", "  a.b: 1 on"]),
):
    try:
        agree(mine)
        raise SystemExit(f"{mine} is taken to be equal")
    except HostsDifferError as error:
        assert all(each in str(error) for each in words), error
assert "process" in lost_host(ValueError("UNKNOWN: Gloo AllGather failed: closed by peer"))
assert lost_host(ValueError("steps 0 must be 1 or more")) is None
for words, lost in (
    ("UNAVAILABLE: connection reset by peer", True),
    ("INTERNAL: NCCL operation failed", True),
    ("INVALID_ARGUMENT: Gloo AllReduce failed", True),
    ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes", False),
    ("INVALID_ARGUMENT: Argument does not match host shape", False),
    ("UNIMPLEMENTED: not on this platform", False),
):
    assert (lost_host(jax.errors.JaxRuntimeError(words)) is not None) == lost, words

mesh = jax.make_mesh((2, 2), ("data", "model"), (AxisType.Auto,) * 2)
make = jax.jit(
    lambda step: {"x": jax.random.normal(jax.random.key(step), (64, 32)), "n": step},
    out_shardings={
        "x": NamedSharding(mesh, PartitionSpec("data", "model")),
        "n": NamedSharding(mesh, PartitionSpec()),
    },
)
workdir = Workdir(folder)
with workdir.lease() as lease, Checkpoints(workdir.checkpoints) as checkpoints:
    lease.check(now=True)
    try:
        with Workdir(folder).lease():
            raise SystemExit("two runs in one folder")
    except LeaseHeldError:
        pass
    assert workdir.claim_recipe({"a": 1}, {}) == []
    assert checkpoints.restore_newest(make(0)) is None
    with Journal(workdir, 3) as journal:
        for step in (1, 2, 3):
            checkpoints.save(step, make(step), {"step": step})
            journal.log(step, {"loss": 1.0})
    checkpoints.wait()
    checkpoints.delete([1])
    assert checkpoints.steps() == [2, 3]
    try:
        checkpoints.restore(3, {"x": make(0)["x"]})
        raise SystemExit("a part was taken for the whole")
    except MismatchError:
        pass
    try:
        checkpoints.save(3, make(3), {})
        raise SystemExit("saved a step twice")
    except CheckpointError:
        pass
    meet("before the damage")
    if me == 0:
        files = [f for f in (folder / "checkpoints" / "3").rglob("*") if f.is_file()]
        big = max(files, key=lambda f: f.stat().st_size)
        data = bytearray(big.read_bytes())
        data[len(data) // 2] ^= 1
        big.write_bytes(data)
    meet("after the damage")
    step, tree, troubles = checkpoints.restore_newest(make(0))
    assert step == 2 and len(troubles) == 1 and "step 3" in troubles[0], (step, troubles)
    assert tree["x"].sharding == make(0)["x"].sharding
    assert bool((tree["x"] == make(2)["x"]).all()) and int(tree["n"]) == 2
    checkpoints.delete([3])
    # One host reads a wrong number where all have a copy of their own, or nothing at all.
    own_read = ocp.CompositeCheckpointHandler.restore

    def wrong_number(*args, **options):
        read = own_read(*args, **options)
        whole = read.arrays["n"]
        shards = [jax.device_put(jnp.int32(9), device) for device in jax.local_devices()]
        read.arrays["n"] = jax.make_array_from_single_device_arrays((), whole.sharding, shards)
        return read

    def nothing(*args, **options):
        raise ValueError("a corrupt block")

    for bad_read, words in ((wrong_number, "the bits of n are not"), (nothing, "a corrupt block")):
        if me == 1:
            ocp.CompositeCheckpointHandler.restore = bad_read
        try:
            checkpoints.restore_newest(make(0))
            raise SystemExit("the only step is damaged on one host, and yet restored")
        except DigestError as error:
            assert words in str(error), error
            assert str(error).startswith("process 1: ") == (me == 0), error
        ocp.CompositeCheckpointHandler.restore = own_read
    try:
        checkpoints.restore(3, make(0))
        raise SystemExit("restored what is not there")
    except VanishedError:
        pass
print("good", flush=True)
"""


@pytest.mark.fault("Runs: one host reads a checkpoint wrongly")
@pytest.mark.long
def test_two_processes_on_one_folder(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    hosts = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _HOST, address, str(index), str(tmp_path)],
            env=os.environ
            | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    watchdog = threading.Timer(120, lambda: [host.kill() for host in hosts])
    watchdog.start()
    outputs = [host.communicate() for host in hosts]
    watchdog.cancel()
    # Gloo, the message transport, prints its own lines before.
    assert all(out.endswith("good\n") for out, _ in outputs), [error for _, error in outputs]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    like = {"x": jnp.zeros((64, 32)), "n": jnp.int32(0)}
    tree = Checkpoints(tmp_path / "checkpoints", read_only=True).restore(2, like)
    expected = jax.jit(lambda step: jax.random.normal(jax.random.key(step), (64, 32)))(2)
    np.testing.assert_array_equal(tree["x"], expected)


@pytest.mark.fault("Runs: one host reads a checkpoint wrongly")
def test_hosts_that_fail_in_different_ways_raise_the_same(monkeypatch):
    """Process 0 of two: the other process raised the type that is listed last."""
    gathered = iter([[1, 2], [4, 6], [b"mine\0\0", b"theirs"]])

    def gather(mine):
        rows = next(gathered)
        return np.array([np.frombuffer(r, np.uint8) if isinstance(r, bytes) else r for r in rows])

    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr("vidembed.distributed.agree.multihost_utils.process_allgather", gather)

    def work():
        raise ValueError("mine")

    with pytest.raises(KeyError, match="process 1: theirs"):
        together(work, ValueError, KeyError)


def test_one_process_agrees_with_itself():
    assert is_first_host()
    meet("here")
    assert of_first_host([3, 1]) == [3, 1]
    agree({"seed": 1})
    assert lost_host(ValueError("UNKNOWN: Gloo AllGather failed")) is None
    assert together(lambda: "done") == "done"

    def work():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        together(work, ValueError)
    with pytest.raises(ValueError, match="mine"):
        together(work)
