"""The loss of a batch against the formula in float64, on 1, 2 and 8 devices; transfers."""

import re
from dataclasses import replace
from functools import lru_cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.class_table import compiled, seconds_a_step, sizes
from vidembed.corpora.watched import CorpusPaths
from vidembed.distributed import mesh as meshes
from vidembed.distributed.exchange import Exchanger
from vidembed.engine.compiled_cost import device_bytes
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.placing import Placer
from vidembed.engine.recipe import Recipe
from vidembed.feeds.labelled import LabelledFeed, LabelledVideos
from vidembed.losses.softmax import FullSoftmax, SampledSoftmax
from vidembed.models.cluster_classifier import KERNEL, CosineClassifier, DotClassifier
from vidembed.models.fusion import LateFusion, Layers, SingleModality
from vidembed.records.rows import resident_rows
from vidembed.records.statistics import train_statistics
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.spec import Spec

pytestmark = pytest.mark.optimised

B, C = 32, 290
MODEL = SingleModality(layers=Layers(hidden=(16,), size=8))
FULL = ClusterLabels(model=MODEL, loss=FullSoftmax(block=3))
UNIFORM = replace(FULL, loss=SampledSoftmax(samples=70, block=3))
LOG_UNIFORM = replace(FULL, loss=SampledSoftmax(samples=70, sampler="log_uniform"))
EVERY = replace(FULL, loss=SampledSoftmax(samples=C))
DOT = replace(UNIFORM, classifier=DotClassifier())
PLAIN = replace(FULL, classifier=CosineClassifier(scale=4.0, learn_scale=False))
SHAPES = [(2, 1), (8, 1), (4, 2), (2, 4)]


@lru_cache
def compiled_loss(task):
    return jax.jit(jax.value_and_grad(task.loss_and_measures, has_aux=True))


@pytest.fixture(scope="module")
def batch(corpus):
    rng = np.random.default_rng(0)
    rows = rng.choice(np.flatnonzero(corpus.is_train), B).astype(np.int32)
    labels = rng.integers(0, C, B).astype(np.int32)
    labels[:4] = [0, 0, C - 1, 255]  # often drawn by log_uniform; the ends of tables and parts
    return {"rows": rows, "labels": labels}


def on_mesh(task, corpus, batch, parameters, state, shape=(1, 1)):
    """(loss, measures, gradient) as laid out on a data × model mesh."""
    devices = jax.devices()[: shape[0] * shape[1]]
    mesh = meshes.make_mesh(meshes.MeshShape(data=shape[0], model=shape[1]), devices)
    with jax.set_mesh(mesh):
        resident = {} if "features" in batch else resident_rows(corpus.table, task.reads)
        constants = jax.tree.map(partial(meshes.place_rows, mesh), resident)
        exchanger = Exchanger.sized([batch["rows"]], videos=len(corpus.table), devices=mesh.size)
        feed = SimpleNamespace(split_axes=LabelledFeed.split_axes, events_of=lambda batch: ())
        placer = Placer(mesh=mesh, feed=feed, exchanger=exchanger)
        placed, _ = placer.place(batch)
        axes, _ = task.layout(parameters, state)
        specs = {name: meshes.model_spec(axis) for name, axis in axes.items()}
        split = jax.device_put(parameters, meshes.shardings(mesh, specs))
        rest = jax.device_put((state, jax.random.key(5)), meshes.replicated(mesh))
        run = compiled_loss(task)
        (loss, (_, measures)), gradient = run(split, rest[0], constants, placed, rest[1])
    return float(loss), jax.device_get(measures), gradient


@pytest.fixture(scope="module")
def begin(corpus):
    """Task → parameters and state."""
    statistics = train_statistics(corpus.table, corpus.is_train)
    spec = Spec(widths=corpus.table.widths, classes=C)
    return lru_cache(lambda task: task.init(jax.random.key(1), spec, statistics))


def embedded(task, corpus, batch, parameters, state):
    features = {"visual": jnp.asarray(corpus.table.features["visual"][batch["rows"]])}
    return np.asarray(task.embed(parameters, state, features, {}), np.float64)


@pytest.mark.parametrize("task", [FULL, PLAIN, EVERY, replace(FULL, classifier=DotClassifier())])
def test_with_every_class_the_loss_is_the_formula(task, corpus, batch, begin):
    parameters, state = begin(task)
    loss, measures, _ = on_mesh(task, corpus, batch, parameters, state)
    table = np.asarray(parameters[KERNEL], np.float64)[:C]
    if isinstance(task.classifier, CosineClassifier):
        table *= task.classifier.scale / np.linalg.norm(table, axis=1, keepdims=True)
    vectors = embedded(task, corpus, batch, parameters, state)
    scores = vectors @ table.T
    own_scores = scores[np.arange(B), batch["labels"]]
    assert loss == pytest.approx(np.mean(np.log(np.exp(scores).sum(1)) - own_scores), rel=1e-5)
    scores[np.arange(B), batch["labels"]] = -np.inf
    assert measures["accuracy"] == pytest.approx(np.mean(own_scores > scores.max(1)))
    assert measures["hits"] == 1
    assert measures["spread"] == pytest.approx(1 - np.sum(vectors.mean(0) ** 2), rel=1e-5)
    assert measures["scale"] == getattr(task.classifier, "scale", 1)


@pytest.fixture(scope="module")
def on_one(corpus, batch, begin):
    """Task → (loss, measures, gradient) on one device."""
    return lru_cache(lambda task: on_mesh(task, corpus, batch, *begin(task)))


@pytest.mark.parametrize("task", [FULL, UNIFORM, LOG_UNIFORM, DOT])
def test_padding_of_the_table_stays_zero(task, begin, on_one):
    """A run that starts from another tells by it which rows are classes."""
    parameters, _ = begin(task)
    _, _, gradient = on_one(task)
    assert len(gradient[KERNEL]) > C
    assert not np.any(parameters[KERNEL][C:])
    assert not np.any(gradient[KERNEL][C:])


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        *((UNIFORM, shape) for shape in SHAPES),
        (FULL, (8, 1)),
        (FULL, (2, 4)),
        *(
            pytest.param(task, (4, 2), marks=pytest.mark.long)
            for task in (FULL, LOG_UNIFORM, EVERY, DOT, PLAIN)
        ),
    ],
)
def test_devices_agree(task, shape, corpus, batch, begin, on_one):
    single = on_one(task)
    sharded = on_mesh(task, corpus, batch, *begin(task), shape=shape)
    assert sharded[0] == pytest.approx(single[0], rel=1e-6)
    for name in single[1]:
        assert sharded[1][name] == pytest.approx(single[1][name], rel=1e-5, abs=1e-6), name
    for name in single[2]:
        np.testing.assert_allclose(sharded[2][name], single[2][name], rtol=1e-4, atol=2e-6)
        assert np.abs(single[2][name]).max() > 0, name
    rows = sharded[2][KERNEL].shape[0]
    assert sharded[2][KERNEL].sharding.shard_shape((rows, 8)) == (rows // shape[1], 8)
    np.testing.assert_array_equal(sharded[2][KERNEL][C:], 0)


def test_losses_are_different(on_one):
    losses = {round(on_one(task)[0], 5) for task in (FULL, UNIFORM, LOG_UNIFORM)}
    assert len(losses) == 3


def test_hits_and_accuracy_of_a_worked_case(corpus, batch, begin):
    """Each video's class vector is its own embedding; half of the classes are drawn."""
    task = replace(UNIFORM, loss=SampledSoftmax(samples=C // 2))
    parameters, state = begin(task)
    rows, first = np.unique(batch["rows"], return_index=True)
    labels = np.searchsorted(rows, batch["rows"]).astype(np.int32)
    vectors = embedded(task, corpus, batch, parameters, state)
    table = np.array(parameters[KERNEL])
    table[: len(rows)] = 5 * vectors[first]
    parameters = parameters | {KERNEL: jnp.asarray(table)}
    known = batch | {"labels": labels}
    loss, measures, _ = on_mesh(task, corpus, known, parameters, state, (4, 2))
    assert measures["accuracy"] == 1
    assert measures["hits"] == pytest.approx(0.5, abs=0.25)
    assert 0 < loss < 1


@pytest.mark.fault("Runs: a label that is no class")
@pytest.mark.parametrize("label", [-1, C, 511, 10**6])
@pytest.mark.parametrize("task", [FULL, UNIFORM])
def test_a_label_that_is_no_class_is_never_trained_on(task, label, corpus, batch, begin):
    """Not even if the padded table has a row for it: the loss is NaN, and the run stops."""
    labels = batch["labels"].copy()
    labels[7] = label
    loss, measures, _ = on_mesh(task, corpus, batch | {"labels": labels}, *begin(task))
    assert np.isnan(loss)
    assert np.isnan(measures["loss"])


def test_fewer_than_two_classes_are_refused(corpus):
    for classes in (0, 1):
        with pytest.raises(ValueError, match=f"with {classes} classes"):
            FULL.init(jax.random.key(0), Spec(widths=corpus.table.widths, classes=classes), {})


def test_host_placement_equals_device_placement(corpus, batch, begin):
    features = {"visual": corpus.table.features["visual"][batch["rows"]]}
    start = begin(UNIFORM)
    results = [
        on_mesh(UNIFORM, corpus, b, *start, (4, 2))[0]
        for b in (batch, batch | {"features": features})
    ]
    assert results[0] == pytest.approx(results[1], rel=1e-6)


def test_missing_modalities_reach_the_loss(corpus, batch, begin):
    """The stored values of a missing modality must not matter."""
    task = replace(UNIFORM, model=LateFusion(layers=Layers(hidden=(), size=8)))
    there = np.arange(300) % 2 == 0
    losses = []
    for noise in (0, 255):
        audio = corpus.table.features["audio"].copy()
        audio[~there] = noise
        features = corpus.table.features | {"audio": audio}
        table = replace(corpus.table, features=features, present={"audio": there}, manifest={})
        gappy = replace(corpus, table=table)
        losses.append(on_mesh(task, gappy, batch, *begin(task), (2, 1))[0])
    assert losses[0] == losses[1]
    assert losses[0] != on_mesh(task, corpus, batch, *begin(task), (2, 1))[0]


def test_the_scales_gradient_by_finite_differences(corpus, batch, begin):
    parameters, state = begin(UNIFORM)
    _, _, gradient = on_mesh(UNIFORM, corpus, batch, parameters, state)
    name, step = "classes/log_scale", 1e-2
    ends = [
        on_mesh(UNIFORM, corpus, batch, parameters | {name: parameters[name] + sign * step}, state)[
            0
        ]
        for sign in (1, -1)
    ]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(gradient[name]), rel=1e-2)


# --- the compiled update

WIDTHS = {"visual": 64}


def recipe(loss, videos=512, size=64, hidden=(), **optimiser):
    layers = Layers(hidden=hidden, size=size)
    task = ClusterLabels(model=SingleModality(layers=layers), loss=loss)
    feed = LabelledVideos(batch_videos=videos)
    return Recipe(corpus=CorpusPaths(), task=task, feed=feed, optimiser=Optimiser(**optimiser))


def mesh_of(data, model):
    devices = jax.devices()[: data * model]
    return meshes.make_mesh(meshes.MeshShape(data=data, model=model), devices)


@pytest.mark.parametrize("loss", [SampledSoftmax(samples=256), FullSoftmax()])
def test_no_device_ever_has_the_whole_table(loss):
    """30,000 classes on 1 × 1 and 2 × 4: no array of full length, and bytes as for the parts."""
    classes, together = 30_000, []
    for data, model in ((1, 1), (2, 4)):
        shapes, program = compiled(recipe(loss), classes, mesh_of(data, model), WIDTHS)
        rows = shapes.state["parameters"][KERNEL].shape[0]
        whole = re.compile(rf"\[{rows},64\]")
        assert bool(whole.search(program.as_text())) == (model == 1)
        bytes_of = sizes(program)
        together.append(bytes_of.arguments + bytes_of.temporaries)
        part = rows // model * 64 * 4
        # The compiler drops unread inputs: row numbers, if a plan says which device sends them.
        unused = device_bytes(shapes.batch["rows"]) if data * model > 1 else 0
        assert bytes_of.arguments == device_bytes(shapes) - unused
        if model > 1:
            # The gradient of the sampled table never travels, not even along the data axis.
            travels = data > 1 and isinstance(loss, FullSoftmax)
            assert (bytes_of.largest_sent >= part) == travels
    assert together[1] < together[0] / 3


def test_updates_learn_alike_on_one_and_eight_devices():
    of = recipe(SampledSoftmax(samples=64), videos=64, learning_rate=0.01)
    runs = []
    for data, model in ((1, 1), (2, 4)):
        mesh = mesh_of(data, model)
        shapes, program = compiled(of, 500, mesh, WIDTHS)
        _, losses = seconds_a_step(of, 500, mesh, shapes, program, rounds=15)
        runs.append(losses)
    assert runs[0][-1] < 0.2 * runs[0][0]
    assert runs[1][0] == pytest.approx(runs[0][0], rel=1e-5)
    np.testing.assert_allclose(runs[1], runs[0], rtol=0.02)


@pytest.mark.long
@pytest.mark.parametrize("model", [8, 4, 2, 1])
def test_a_million_classes_train(model):
    """f32[1,000,192, 256] with Adam: a few updates; bytes a device fall as devices rise. 7 GB."""
    of = recipe(SampledSoftmax(), size=256, hidden=(64,), learning_rate=0.003)
    mesh = mesh_of(1, model)
    shapes, program = compiled(of, 1_000_000, mesh, WIDTHS)
    found = sizes(program)
    assert found.arguments + found.temporaries < 5.3e9 / model
    _, losses = seconds_a_step(of, 1_000_000, mesh, shapes, program, rounds=2)
    assert losses[0] == pytest.approx(np.log(1_000_000), rel=0.1)
    assert losses[-1] < losses[0] - 1
