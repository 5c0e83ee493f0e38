"""Classes of clips: a batch against a slow float64 loop, devices that agree, a frozen encoder."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.test_clip_encoder import Tiny
from vidembed.distributed import mesh as meshes
from vidembed.engine.inherited_parts import left_out
from vidembed.engine.init_from import compare
from vidembed.models.clip_encoder import MeanOfFrames
from vidembed.tasks.clip_classes import ClipClasses
from vidembed.tasks.spec import Spec

B, N, T, F, CLASSES = 16, 3, 4, 5, 3
SPEC = Spec(widths={"visual": F}, clip=(T, F), classes=CLASSES, class_names=tuple("abc"))
STATISTICS = {"visual": {"mean": np.full(F, 10.0), "deviation": np.full(F, 2.0)}}
PLAIN = ClipClasses(encoder=MeanOfFrames())
TUNED = ClipClasses(encoder=Tiny())


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    present = rng.random((B, N)) < 0.7
    present[:2] = [[True, False, False], [False] * N]
    return {
        "rows": np.arange(B, dtype=np.int32),
        "labels": rng.integers(0, CLASSES, B).astype(np.int32),
        "clips": rng.normal(10, 2, (B, N, T, F)).astype(np.float32),
        "present": present,
    }


@lru_cache
def started(task):
    """With a head that is not zero, so that the encoder has a gradient."""
    parameters, state = jax.jit(lambda key: task.init(key, SPEC, STATISTICS))(jax.random.key(0))
    kernel = jax.random.normal(jax.random.key(3), parameters["classes/kernel"].shape)
    inside = jnp.arange(len(kernel))[:, None] < CLASSES
    return parameters | {"classes/kernel": jnp.where(inside, kernel, 0.0)}, state


@lru_cache
def compiled(task):
    return jax.jit(jax.value_and_grad(task.loss_and_measures, has_aux=True))


def stepped(task, batch, shape=(1, 1)):
    """((loss, (state, measures)), gradient) on a mesh of data by model."""
    devices = jax.devices()[: shape[0] * shape[1]]
    mesh = meshes.make_mesh(meshes.MeshShape(model=shape[1]), devices)
    parameters, state = started(task)
    with jax.set_mesh(mesh):
        placed = meshes.place_batch(mesh, batch, dict.fromkeys(batch, 0))
        axes = task.layout(parameters, state)[0]
        of_model = {n: meshes.model_spec(axis) for n, axis in axes.items()}
        parameters = jax.device_put(parameters, meshes.shardings(mesh, of_model))
        state = jax.device_put(state, meshes.replicated(mesh))
        run = compiled(task)(parameters, state, {}, placed, jax.random.key(1))
        return jax.tree.map(np.asarray, run)


def slow(batch, kernel, bias):
    """(loss, share of right videos, probabilities [B, C]) of the mean of frames, in float64."""
    losses, right, probabilities = [], 0, np.zeros((B, CLASSES))
    for video in range(B):
        own, of_clips = [], []
        for clip in np.flatnonzero(batch["present"][video]):
            x = (batch["clips"][video, clip].astype(np.float64) - 10) / 2
            scores = np.array([kernel[c] @ x.mean(axis=0) + bias[c] for c in range(CLASSES)])
            share = np.exp(scores) / np.exp(scores).sum()
            of_clips.append(share)
            own.append(-np.log(share[batch["labels"][video]]))
        if own:
            losses.append(np.mean(own))
            probabilities[video] = np.mean(of_clips, axis=0)
            right += probabilities[video].argmax() == batch["labels"][video]
    return np.mean(losses), right / len(losses), probabilities


def test_a_batch_is_what_a_slow_reader_finds(batch):
    parameters, state = started(PLAIN)
    kernel, bias = (np.float64(parameters[f"classes/{n}"]) for n in ("kernel", "bias"))
    loss, share, probabilities = slow(batch, kernel, bias)
    (found, (_, measures)), gradient = stepped(PLAIN, batch)
    assert found == pytest.approx(loss, rel=1e-5)
    assert measures == {"loss": found, "accuracy": pytest.approx(share)}
    assert not gradient["classes/kernel"][CLASSES:].any()  # padding never learns
    arrays = {name: batch[name] for name in ("clips", "present")}
    outputs = PLAIN.outputs
    labels = outputs["labels"].apply(parameters, state, arrays)
    np.testing.assert_allclose(labels, probabilities, atol=1e-5)
    vectors = outputs["video"].apply(parameters, state, arrays)
    first = (batch["clips"][0, 0].astype(np.float64).mean(0) - 10) / 2
    np.testing.assert_allclose(vectors[0], first, atol=1e-5)
    assert not np.any(vectors[1])


@pytest.mark.parametrize("shape", [(8, 1), (4, 2)])
def test_devices_agree(shape, batch):
    one, many = stepped(TUNED, batch), stepped(TUNED, batch, shape)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-5), one, many)
    assert all(array.any() for array in one[1].values())


def test_absent_clips_change_nothing(batch):
    absent = ~batch["present"][:, :, None, None]
    other = batch | {"clips": np.where(absent, 99 - batch["clips"], batch["clips"])}
    one, two = stepped(TUNED, batch), stepped(TUNED, other)
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_frozen_encoder_stays_as_it_is_and_another_learns_more_slowly(batch):
    frozen, slower = replace(TUNED, encoder_rate=0.0), replace(TUNED, encoder_rate=0.25)
    start = started(TUNED)
    (_, (state, _)), gradient = stepped(frozen, batch)
    for name, array in gradient.items():
        assert array.any() == name.startswith("classes/"), name
    known = start[1]["batch_statistics"]
    jax.tree.map(np.testing.assert_array_equal, state["batch_statistics"], known)
    (_, (moved, _)), whole = stepped(TUNED, batch)
    assert np.any(moved["batch_statistics"]["norm/mean"] != known["norm/mean"])
    # Weight decay or a momentum must not move it either.
    for task, factor in ((TUNED, 1), (slower, 0.25), (frozen, 0)):
        updates = task.masked(whole, None)
        for name, array in whole.items():
            scale = factor if name.startswith("encoder/") else 1
            np.testing.assert_array_equal(updates[name], scale * array)


def test_dropout_is_for_training_alone(batch):
    task = replace(PLAIN, dropout=0.5)
    (loss, _), _ = stepped(task, batch)
    (without, _), _ = stepped(PLAIN, batch)
    assert loss != pytest.approx(without, rel=1e-3)
    arrays = {name: batch[name] for name in ("clips", "present")}
    one, two = (each.outputs["labels"].apply(*started(each), arrays) for each in (task, PLAIN))
    np.testing.assert_array_equal(one, two)


def test_a_run_takes_the_encoder_of_another_and_names_what_it_leaves_out():
    shape = jax.ShapeDtypeStruct((2, 2), "float32")
    encoder, mean = "parameters/encoder/dense/kernel", "state/inputs/clips/mean"
    heads = ("parameters/heads/mean/kernel", "parameters/heads/norm/scale")
    others = ("parameters/loss/shift", "state/batches", "optimiser/0/mu/heads/mean/kernel")
    stored = dict.fromkeys((encoder, mean, *heads, *others), shape)
    plan = compare(stored, {encoder: shape, mean: shape}, TUNED)
    assert plan.taken == {encoder: encoder, mean: mean}
    assert plan.differences == ()
    (line,) = left_out(stored, TUNED)
    assert line.endswith("parameters/heads (2), parameters/loss (1)")
    assert left_out([encoder, mean], TUNED) == []
    other = compare(stored | {encoder: jax.ShapeDtypeStruct((2, 3), "float32")}, stored, TUNED)
    assert other.differences[0].startswith(f"{encoder}: float32[2, 3] there, float32[2, 2] here")


@pytest.mark.fault(
    "Runs: classes of clips without clips, without classes, with one class, or with options out of "
    "range",
    "1: what is there, and what is expected",
)
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="learns classes, and the feed gives 1"):
        PLAIN.init(jax.random.key(0), replace(SPEC, classes=1), None)
    with pytest.raises(ValueError, match=r"learns from clips, and the feed gives \['visual'\]"):
        PLAIN.init(jax.random.key(0), replace(SPEC, clip=()), None)
    with pytest.raises(ValueError, match=r"encoder_rate is -1\.0, but must be 0 or more"):
        ClipClasses(encoder_rate=-1.0)
    with pytest.raises(ValueError, match=r"dropout is 1\.0, but must be a share"):
        ClipClasses(dropout=1.0)
