import os
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.distributed.exchange import Exchanger
from vidembed.distributed.mesh import MeshShape, make_mesh

pytestmark = pytest.mark.optimised

SHAPES = [(1, 1), (8, 1), (4, 2), (1, 8)]


def mesh_of(shape):
    devices = jax.devices()[: shape[0] * shape[1]]
    return make_mesh(MeshShape(data=shape[0], model=shape[1]), devices)


def test_data_takes_what_model_leaves():
    assert dict(make_mesh(MeshShape(model=2)).shape) == {"data": 4, "model": 2}


def test_shapes_that_do_not_cover_the_devices_are_refused():
    with pytest.raises(ValueError, match=r"data=3 × model=2 does not cover 8 devices"):
        make_mesh(MeshShape(data=3, model=2))
    with pytest.raises(ValueError, match="1 or more"):
        MeshShape(model=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_gathered_rows_equal_indexing(shape):
    """Features of every dtype and flags, with a plan and without."""
    rng = np.random.default_rng(0)
    tables = {
        str(dtype): rng.integers(0, 256, (37, 5)).astype(dtype)
        for dtype in (np.uint8, np.float32, jnp.bfloat16)
    } | {"flags": rng.integers(0, 2, 37).astype(np.uint8)}
    triplets = rng.integers(0, 37, (3, 16)).astype(np.int32)
    triplets[0, :2] = [0, 36]
    triplets[1, :6] = triplets[0, 0]
    mesh = mesh_of(shape)
    gather = jax.jit(
        lambda tables, *how: {n: meshes.gather_rows(table, *how) for n, table in tables.items()}
    )
    with jax.set_mesh(mesh):
        placed = {name: meshes.place_rows(mesh, table) for name, table in tables.items()}
        for rows in (triplets, triplets[1]) if shape == (4, 2) else (triplets,):
            plan = Exchanger.sized([rows], videos=37, devices=mesh.size).plan(rows)
            planned = gather(placed, rows, meshes.place_exchange(mesh, plan))
            for gathered in (planned, gather(placed, rows)):
                for name, table in tables.items():
                    assert gathered[name].dtype == table.dtype
                    np.testing.assert_array_equal(np.asarray(gathered[name]), table[rows])
    assert all(len(table) == -(-37 // mesh.size) * mesh.size for table in placed.values())


def test_planned_rows_travel_as_stored_and_to_those_who_need_them():
    """On 8 devices, 2,048 of 16,384 slots each: 256 rows a pair and some to spare."""
    mesh = mesh_of((8, 1))
    rows = np.random.default_rng(0).permutation(2**17)[: 2**14].astype(np.int32)
    exchanger = Exchanger.sized([rows], videos=2**17, devices=8)
    with jax.set_mesh(mesh):
        arguments = (np.zeros((2**17, 16), np.uint8), rows, exchanger.plan(rows))
        text = jax.jit(meshes.gather_rows).lower(*arguments).compile().as_text()
    sent = [line for line in text.splitlines() if re.search(r" all-(to-all|reduce|gather)\(", line)]
    assert 256 < exchanger.capacity < 1.4 * 256
    # One collective, whose result is a part for each device.
    (line,) = sent
    assert line.count(f"u8[{exchanger.capacity},16]") == 8
    assert "all-to-all(" in line


def test_the_table_never_travels():
    """A device's temporaries are those of the batch, not of the table."""
    mesh = mesh_of((8, 1))
    table = np.zeros((80_000, 64), np.uint8)
    rows = np.zeros((3, 64), np.int32)
    with jax.set_mesh(mesh):
        placed = meshes.place_rows(mesh, table)
        memory = jax.jit(meshes.gather_rows).lower(placed, rows).compile().memory_analysis()
    assert memory.temp_size_in_bytes < table.nbytes / 20


@pytest.mark.parametrize("shape", SHAPES)
def test_gather_and_total_join_parts_in_batch_order(shape):
    x = np.arange(16, dtype=np.float32).reshape(8, 2)
    mesh = mesh_of(shape)

    def body(part):
        whole = meshes.gather(part, axis=0)
        start = meshes.device_number() * len(part)
        mine = jax.lax.dynamic_slice_in_dim(whole, start, len(part))
        return {"sum": meshes.total(part.sum()), "wrong": meshes.total(jnp.abs(mine - part).sum())}

    with jax.set_mesh(mesh):
        result = jax.jit(meshes.on_all_devices(body, (0,)))(x)
    assert result["sum"] == x.sum()
    assert result["wrong"] == 0


@pytest.mark.parametrize("shape", [(1, 1), (4, 2), (2, 4)])
def test_rows_of_a_table_split_by_class_equal_indexing(shape):
    """On every device; and the gradient is added where it belongs, once for each time a row is
    taken and each device that uses it."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(24, 3)).astype(np.float32)
    classes = np.array([0, 23, 5, 5, 12], np.int32)
    weights = rng.normal(size=(8, 5, 3)).astype(np.float32)
    by_class, split = meshes.model_spec(0), meshes.everywhere_spec(0)

    def body(part, wanted, own_weights):
        numbers = meshes.class_numbers(part)
        taken = meshes.take_class_rows(part, wanted)
        largest = meshes.largest_over_classes(numbers.max())
        count = meshes.over_classes(jnp.sum(numbers >= 0))
        return own_weights * taken[None], jnp.stack([largest, count])

    whole = meshes.model_spec(None)
    run = meshes.on_devices(body, (by_class, whole, split), (split, whole))
    with jax.set_mesh(mesh_of(shape)):
        weighted, ends = jax.jit(run)(table, classes, weights)
        slope = jax.jit(jax.grad(lambda t: run(t, classes, weights)[0].sum()))(table)
    np.testing.assert_allclose(weighted, weights * table[classes], rtol=1e-6)
    np.testing.assert_array_equal(ends, [23, 24])
    expected = np.zeros_like(table)
    np.add.at(expected, classes, weights.sum(0))
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)
    assert slope.sharding.shard_shape(slope.shape) == (24 // shape[1], 3)


def test_batches_are_split_over_data_and_copied_over_model():
    mesh = mesh_of((4, 2))
    batch = {"rows": np.arange(24).reshape(3, 8), "first": np.ones((3, 8), bool)}
    placed = meshes.place_batch(mesh, batch, {"rows": 1, "first": None})
    assert placed["rows"].sharding.shard_shape((3, 8)) == (3, 2)
    assert placed["first"].sharding.shard_shape((3, 8)) == (3, 8)
    np.testing.assert_array_equal(placed["rows"], batch["rows"])


_HOST = """
import sys, jax, numpy as np
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from vidembed.distributed import mesh as meshes
from vidembed.distributed.exchange import Exchanger
from vidembed.distributed.mesh import MeshShape, make_mesh
mesh = make_mesh(MeshShape(model=2))
assert dict(mesh.shape) == {"data": 2, "model": 2}
table = np.arange(37 * 3, dtype=np.uint8).reshape(37, 3)
rows = (np.arange(24, dtype=np.int32) * 5 % 37).reshape(3, 8)
plan = Exchanger.sized([rows], videos=37, devices=4).plan(rows)
with jax.set_mesh(mesh):
    placed = meshes.place_rows(mesh, table)
    whole = meshes.place_batch(mesh, {"rows": rows}, {"rows": None})["rows"]
    for how in ((), (meshes.place_exchange(mesh, plan),)):
        for part in jax.jit(meshes.gather_rows)(placed, whole, *how).addressable_shards:
            assert part.data.shape == (3, 2, 3)
            np.testing.assert_array_equal(part.data, table[rows][part.index])
try:
    make_mesh(MeshShape(model=4))
except ValueError as error:
    print(error)
"""


@pytest.mark.long
def test_two_hosts_gather_as_one_and_refuse_a_model_axis_across_them():
    """Two processes with two devices each: four along the model axis would span both."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", _HOST, address, str(index)],
            env=os.environ | flags,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        told = [host.communicate(timeout=120) for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    for out, error in told:
        # Gloo says before it that it has met the other host.
        assert out.endswith(
            "mesh model=4 does not divide the 2 devices of a host: the model axis lies within "
            "hosts; choose a divisor\n"
        ), error
