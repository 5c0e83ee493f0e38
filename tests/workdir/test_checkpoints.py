"""Saving and restoring without faults; for faults see test_checkpoint_faults."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vidembed.workdir.checkpoints.record import (
    CheckpointError,
    DigestError,
    MismatchError,
    VanishedError,
    entries_of,
    part_of,
)
from vidembed.workdir.checkpoints.store import Checkpoints


def _mesh(shape, devices=8):
    auto = (AxisType.Auto,) * 2
    return jax.make_mesh(shape, ("data", "model"), auto, devices=jax.devices()[:devices])


def _tree(mesh, step=0):
    """A small training state: sharded, replicated, bf16, scalars, flags, empty parts."""
    key = jax.random.key(step)
    kernel = jax.device_put(
        jax.random.normal(key, (16, 32)), NamedSharding(mesh, PartitionSpec("data", "model"))
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    params = {
        "towers": [
            {"kernel": kernel},
            {"bias": jax.device_put(jnp.ones(4, jnp.bfloat16), everywhere)},
        ],
        "trained": jax.device_put(jnp.array([True, False]), everywhere),
    }
    optimizer = optax.chain(optax.clip(1.0), optax.adam(1e-3)).init({"kernel": kernel})
    return {"params": params, "optimizer": optimizer, "average": None}


def _shape(tree, sharding=None):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding or x.sharding), tree
    )


def _assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_restores_what_was_saved(tmp_path):
    tree = _tree(_mesh((4, 2)))
    meta = {"loss": 0.1, "recipe": {"widths": (4, 2)}, "note": "é"}
    with Checkpoints(tmp_path / "new" / "folder") as checkpoints:
        assert checkpoints.steps() == []
        assert checkpoints.latest() is None
        assert checkpoints.restore_newest(_shape(tree)) is None
        checkpoints.save(3, tree, meta)
        checkpoints.wait()
        assert checkpoints.steps() == [3]
        restored = checkpoints.restore(3, _shape(tree))
        _assert_same(restored, tree)
        for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(tree), strict=True):
            assert a.sharding == b.sharding
        assert checkpoints.meta(3) == {"loss": 0.1, "recipe": {"widths": [4, 2]}, "note": "é"}


def test_arrays_may_be_donated_as_soon_as_save_returns(tmp_path):
    mesh = _mesh((8, 1))
    update = jax.jit(lambda x: x * 2 + 1, donate_argnums=0)
    x = jax.device_put(jnp.arange(800_000.0), NamedSharding(mesh, PartitionSpec("data")))
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 4):
            checkpoints.save(step, {"x": x}, {})
            for _ in range(3):
                x = update(x)
        x = np.arange(800_000.0, dtype=np.float32)
        like = {"x": jax.ShapeDtypeStruct(x.shape, x.dtype)}
        checkpoints.wait()
        for step in range(1, 4):
            np.testing.assert_array_equal(checkpoints.restore(step, like)["x"], x)
            for _ in range(3):
                x = x * 2 + 1


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (2, 2), (8, 1), (1, 8)])
def test_eight_devices_to_any_other_number(tmp_path, shape):
    tree = _tree(_mesh((4, 2)))
    mesh = _mesh(shape, np.prod(shape))
    like = _shape(_tree(mesh))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree, {})
        checkpoints.wait()
        restored = checkpoints.restore(1, like)
    _assert_same(restored, tree)
    kernel = restored["params"]["towers"][0]["kernel"]
    assert kernel.sharding == NamedSharding(mesh, PartitionSpec("data", "model"))
    assert len(kernel.devices()) == np.prod(shape)


def test_works_with_explicit_transfers_and_a_mesh(tmp_path):
    mesh = _mesh((4, 2))
    tree = _tree(mesh)
    with jax.set_mesh(mesh), jax.transfer_guard("disallow"), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree, {})
        checkpoints.wait()
        restored = checkpoints.restore(1, _shape(tree))
    _assert_same(restored, tree)


def test_relative_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Checkpoints("runs/a") as checkpoints:
        checkpoints.save(1, {"x": jnp.ones(3)}, {})
        checkpoints.wait()
        assert checkpoints.restore(1, {"x": jnp.zeros(3)})["x"].tolist() == [1, 1, 1]
    assert (tmp_path / "runs" / "a" / "1").is_dir()


def _without(tree, name):
    return {key: value for key, value in tree.items() if key != name}


REFUSED = [
    (lambda t: t | {"more": jax.ShapeDtypeStruct((), jnp.int32)}, "more: expected, not stored"),
    (lambda t: _without(t, "b"), "b: stored, not expected"),
    (
        lambda t: t | {"b": jax.ShapeDtypeStruct((4,), jnp.bfloat16)},
        "b: stored float32[4], expected bfloat16[4]",
    ),
    (
        lambda t: t | {"b": jax.ShapeDtypeStruct((2, 2), jnp.float32)},
        "b: stored float32[4], expected float32[2, 2]",
    ),
    (
        lambda t: _without(t, "a") | {"a": {"kernel": jax.ShapeDtypeStruct((2, 3), jnp.int32)}},
        "a/0: stored, not expected",
    ),
]


@pytest.mark.fault(
    "Runs: other shape, dtype, missing weights on restore",
    "path, stored and expected value",
)
@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_another_tree_is_refused_before_orbax_is_called(tmp_path, monkeypatch, change, words):
    tree = {"a": [jnp.ones((2, 3), jnp.int32)], "b": jnp.zeros(4)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, tree, {})
        checkpoints.wait()
        monkeypatch.setattr(checkpoints, "_read", lambda *_: pytest.fail("Orbax was called"))
        for restore in (
            lambda like: checkpoints.restore(7, like),
            lambda like: checkpoints.restore_newest(like),
        ):
            with pytest.raises(MismatchError) as refusal:
                restore(change(_shape(tree)))
            assert words in str(refusal.value)
            assert f"step 7 of {tmp_path}" in str(refusal.value)


def test_a_part_is_restored_by_name_only(tmp_path):
    tree = _tree(_mesh((4, 2)))
    like = _shape(tree)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree, {})
        checkpoints.wait()
        part = checkpoints.restore(1, {"params": like["params"]}, only=("params",))
        _assert_same(part, {"params": tree["params"]})
        with pytest.raises(MismatchError, match="optimizer/1/0/count: stored, not expected"):
            checkpoints.restore(1, {"params": like["params"]})
        with pytest.raises(MismatchError, match="params/towers/1/bias: expected, not stored"):
            checkpoints.restore(1, like, only=("optimizer",))
        with pytest.raises(MismatchError, match="params/towers/1/bias: stored, not expected"):
            checkpoints.restore(1, {}, only=("params/towers/1",))
        assert checkpoints.restore(1, {}, only=()) == {}
        # Arrays are identified by path, so the tree may be flat.
        name = "params/towers/0/kernel"
        flat = checkpoints.restore(1, {name: like["params"]["towers"][0]["kernel"]}, only=(name,))
        _assert_same(flat, {name: tree["params"]["towers"][0]["kernel"]})


def test_a_part_of_a_tree_is_selected_by_path_prefixes():
    tree = {"a": {"b/c": 1, "b": {"d": 2}, "bc": 3}, "e": (4, 5), "f": {"g": {}}}
    assert part_of(tree, ("a/b",)) == {"a": {"b/c": 1, "b": {"d": 2}}}
    assert part_of(tree, ("a/b/c", "e")) == {"a": {"b/c": 1}, "e": (4, 5)}
    assert part_of(tree, ("a", "a/b/d")) == {"a": tree["a"]}
    assert part_of(tree, ("a/x", "f/h", "g")) == {}


def test_a_step_lists_its_entries_before_it_is_read(tmp_path):
    tree = _tree(_mesh((4, 2)))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree, {})
        checkpoints.wait()
        stored = checkpoints.entries(1)
        with pytest.raises(VanishedError):
            checkpoints.entries(2)
    assert {name: (of.shape, of.dtype) for name, of in stored.items()} == {
        name: (of.shape, of.dtype) for name, of in entries_of(tree).items()
    }


def test_only_requested_arrays_are_read(tmp_path):
    """A large array overwritten with zeros is a fault only if that array is requested."""
    large = jax.random.bits(jax.random.key(0), (300_000,))
    tree = {"a": jnp.arange(8.0), "large": large, "z": jnp.ones(4)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree, {})
    # Random bits do not compress, so they fill nearly all of their file.
    (file,) = [path for path in tmp_path.rglob("*") if path.stat().st_size > 1_000_000]
    size = file.stat().st_size
    assert size < large.nbytes + 2_000
    data = bytearray(file.read_bytes())
    data[size // 4 : size // 2] = bytes(size // 2 - size // 4)
    file.write_bytes(data)
    reader = Checkpoints(tmp_path, read_only=True)
    small = {name: tree[name] for name in ("a", "z")}
    _assert_same(reader.restore(1, _shape(small), only=("a", "z")), small)
    for like, only in ((tree, None), ({"large": large}, ("large",))):
        with pytest.raises(DigestError, match="step 1 is damaged"):
            reader.restore(1, _shape(like), only=only)


@pytest.mark.fault(
    "Runs: an existing or lower step saved",
    "error",
)
@pytest.mark.parametrize("step", [4, 5])
def test_steps_must_increase(tmp_path, step):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, {"x": jnp.ones(2)}, {})
        with pytest.raises(CheckpointError, match=f"save of step {step}: .* already holds step 5"):
            checkpoints.save(step, {"x": jnp.zeros(2)}, {})
        assert checkpoints.restore(5, {"x": jnp.zeros(2)})["x"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("tree", "meta", "error", "words"),
    [
        ({"x": np.ones(2)}, {}, TypeError, "x is a ndarray"),
        ({"x": {"n": 3}}, {}, TypeError, "x/n is a int"),
        ({"x": jax.random.key(0)}, {}, TypeError, "x is a PRNG key"),
        (jnp.ones(2), {}, ValueError, "a unique name"),
        ({"a": {"b": jnp.ones(1)}, "a/b": jnp.ones(1)}, {}, ValueError, "got 'a/b'"),
        ({"x": jnp.ones(2)}, {"n": np.int32(3)}, TypeError, "JSON"),
        ({"x": jnp.ones(2)}, {"n": float("nan")}, ValueError, "JSON"),
    ],
)
def test_unsupported_data_are_refused_at_once(tmp_path, tree, meta, error, words):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(error, match=words):
            checkpoints.save(1, tree, meta)
        checkpoints.save(1, {"x": jnp.ones(2)}, {})
        checkpoints.wait()
        assert checkpoints.steps() == [1]


def test_deleted_steps_are_gone(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 5):
            checkpoints.save(step, {"x": jnp.full(2, step)}, {})
        checkpoints.wait()
        checkpoints.delete([1, 3])
        assert checkpoints.steps() == [2, 4]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4"]


def test_a_reader_changes_nothing(tmp_path):
    with Checkpoints(tmp_path) as writer:
        writer.save(1, {"x": jnp.ones(2)}, {})
        writer.wait()
        leftover = tmp_path / "2.orbax-checkpoint-tmp"
        leftover.mkdir()
        (tmp_path / "notes.txt").write_text("mine")
        reader = Checkpoints(tmp_path, read_only=True)
        with reader:
            assert reader.steps() == [1]
            assert reader.restore(1, {"x": jnp.zeros(2)})["x"].tolist() == [1, 1]
            for work in (
                lambda: reader.save(3, {"x": jnp.ones(2)}, {}),
                lambda: reader.delete([1]),
                reader.wait,
                reader.check,
            ):
                with pytest.raises(CheckpointError, match="opened read-only"):
                    work()
        assert leftover.exists()
    assert Checkpoints(tmp_path / "nowhere", read_only=True).steps() == []
    assert not (tmp_path / "nowhere").exists()


def test_a_reader_follows_a_writer(tmp_path):
    """Every step once, in order, including the last; a deleted step raises VanishedError."""
    ended = threading.Event()
    squares, problems = [], []

    def read():
        reader = Checkpoints(tmp_path, read_only=True)
        for step in reader.follow(ended.is_set, poll_seconds=0.01):
            try:
                squares.append((step, reader.meta(step)["square"]))
            except VanishedError as problem:
                problems.append(str(problem))
            if step == 2:
                went.set()
                gone.wait(10)

    went, gone = threading.Event(), threading.Event()
    thread = threading.Thread(target=read)
    thread.start()
    with Checkpoints(tmp_path) as writer:
        writer.save(1, {"x": jnp.ones(2)}, {"square": 1})
        writer.save(2, {"x": jnp.ones(2)}, {"square": 4})
        writer.save(3, {"x": jnp.ones(2)}, {"square": 9})
        writer.wait()
        assert went.wait(10)
        writer.save(5, {"x": jnp.ones(2)}, {"square": 25})
        writer.wait()
        ended.set()
        gone.set()
    thread.join(10)
    assert squares == [(1, 1), (2, 4), (3, 9), (5, 25)]
    assert problems == []
    reader = Checkpoints(tmp_path, read_only=True)
    with pytest.raises(VanishedError, match=r"has no step 4: \[1, 2, 3, 5\]"):
        reader.meta(4)
    with pytest.raises(VanishedError):
        reader.restore(4, {"x": jnp.ones(2)})
