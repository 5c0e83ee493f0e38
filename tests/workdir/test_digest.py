import contextlib
import math
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from vidembed.workdir.checkpoints.digest import _sums, digests


def _shardings():
    eight = jax.make_mesh((8, 1), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    four_two = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    return [
        SingleDeviceSharding(jax.devices()[3]),
        NamedSharding(eight, PartitionSpec("a")),
        NamedSharding(eight, PartitionSpec(None, "a")),
        NamedSharding(eight, PartitionSpec()),
        NamedSharding(four_two, PartitionSpec("a", "b")),
        NamedSharding(four_two, PartitionSpec("b")),
        NamedSharding(four_two, PartitionSpec(("b", "a"))),
    ]


def _mixed(word: int) -> int:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = (word ^ (word >> shift)) * factor % 2**32
    return word ^ (word >> 16)


def _one_by_one(words: list[int]) -> str:
    """The same digest, one element at a time in plain integers."""
    first = sum(_mixed(word ^ _mixed(i)) for i, word in enumerate(words, 1))
    second = sum(_mixed((word + i * 0x9E3779B9) % 2**32) for i, word in enumerate(words, 1))
    return f"{first % 2**32:08x}{second % 2**32:08x}"


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "float16", "float8_e4m3fn", "int32", "uint8", "int16", "bool"]
)
def test_equals_a_plain_sum_whatever_the_sharding(dtype):
    values = np.random.default_rng(0).normal(size=(16, 24)) * 3
    array = np.asarray(jnp.asarray(values > 0 if dtype == "bool" else values, dtype))
    words = array.view(f"u{array.itemsize}").reshape(-1).tolist()
    placed = [jax.device_put(array, sharding) for sharding in _shardings()]
    results = [digests({"x": x})["x"] for x in placed]
    assert results == [_one_by_one(words)] * len(placed)


def test_scalars_empty_and_complex_arrays():
    results = digests(
        {
            "scalar": jnp.int32(7),
            "empty": jnp.zeros((0, 3)),
            "complex": jnp.asarray([1 + 2j, 3j], jnp.complex64),
        }
    )
    parts = np.asarray([1, 2, 0, 3], np.float32).view(np.uint32).tolist()
    assert results == {
        "scalar": _one_by_one([7]),
        "empty": "0" * 16,
        "complex": _one_by_one(parts),
    }


def test_wide_elements_are_two_words():
    with jax.enable_x64(True):
        array = jnp.asarray([[1.5, -2.25], [3e300, 0.0]], jnp.float64)
        assert digests({"x": array})["x"] == _one_by_one(
            np.asarray(array).view(np.uint32).ravel().tolist()
        )


def test_every_single_bit_and_every_swap_changes_it():
    array = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    bits = array.view(np.uint32)
    seen = {digests({"x": jnp.asarray(array)})["x"]}
    for bit in range(32):
        flipped = bits.copy()
        flipped[2, 3] ^= np.uint32(1 << bit)
        seen.add(digests({"x": jnp.asarray(flipped.view(np.float32))})["x"])
    seen.add(digests({"x": jnp.asarray(array[::-1])})["x"])
    seen.add(digests({"x": jnp.asarray(np.roll(array, 1, axis=1))})["x"])
    assert len(seen) == 1 + 32 + 2


def test_negative_zero_and_nan_payloads_count():
    zeros = [np.float32(0), -np.float32(0)]
    nans = np.asarray([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
    distinct = {digests({"x": jnp.asarray(x)})["x"] for x in (*zeros, *nans)}
    assert len(distinct) == 4


def test_only_partial_sums_travel_between_devices():
    collective = re.compile(
        r"= (.*?) (?:all-[a-z]+|collective-permute|reduce-scatter)(?:-start)?\("
    )
    for sharding in _shardings()[1:]:
        x = jax.ShapeDtypeStruct((1024, 1024), jnp.float32, sharding=sharding)
        program = _sums.lower({"x": x}).compile().as_text()
        travelling = [
            math.prod(int(size) for size in sizes.split(",") if size)
            for kind in collective.findall(program)
            for sizes in re.findall(r"u32\[([\d,]*)\]", kind)
        ]
        assert travelling or sharding.is_fully_replicated
        assert all(elements <= 8 for elements in travelling)


def test_arrays_on_different_devices_are_grouped():
    auto = (AxisType.Auto,)
    mesh = jax.make_mesh((8,), ("a",), auto)
    backwards = jax.sharding.Mesh(jax.devices()[::-1], ("a",), auto)
    few = jax.make_mesh((2,), ("a",), auto, devices=jax.devices()[5:7])
    x = jnp.arange(8.0)
    arrays = {
        str(index): jax.device_put(x, sharding)
        for index, sharding in enumerate(
            [
                SingleDeviceSharding(jax.devices()[2]),
                *(NamedSharding(m, PartitionSpec("a")) for m in (mesh, backwards, few)),
            ]
        )
    }
    alone = digests({"x": x})["x"]
    # set_mesh takes effect when called, so each call is made where it is entered.
    for chosen in (None, mesh, few):
        with contextlib.nullcontext() if chosen is None else jax.set_mesh(chosen):
            assert digests(arrays) == dict.fromkeys(arrays, alone)


def test_keys_are_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"dropout.*key_data"):
        digests({"dropout": jax.random.key(0)})


@pytest.mark.long
def test_a_process_with_one_device_agrees():
    code = (
        "import jax, jax.numpy as jnp;"
        "from vidembed.workdir.checkpoints.digest import _sums, digests;"
        "assert jax.device_count() == 1;"
        "x = jax.random.normal(jax.random.key(0), (640, 96), jnp.bfloat16);"
        "print(digests({'x': x})['x'])"
    )
    environment = {"JAX_PLATFORMS": "cpu", "PATH": ""}
    alone = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    x = jax.random.normal(jax.random.key(0), (640, 96), jnp.bfloat16)
    here = digests({"x": jax.device_put(x, NamedSharding(mesh, PartitionSpec("a", "b")))})
    assert alone.stdout.strip() == here["x"]
