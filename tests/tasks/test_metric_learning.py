"""The loss of a batch against a plain loop, on 1, 2 and 8 devices, for miners, losses and pools."""

import itertools
from dataclasses import replace
from functools import lru_cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.distributed.exchange import Exchanger
from vidembed.engine.placing import Placer
from vidembed.feeds.triplets import TripletFeed, Triplets
from vidembed.losses.triplet import Exponential, Hinge, Log
from vidembed.mining.miners import Hardest, NoMining, SemiHard, SemiHardRandom
from vidembed.models.fusion import EarlyFusion, LateFusion, Layers, SingleModality
from vidembed.records.rows import resident_rows
from vidembed.records.statistics import train_statistics
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.spec import Spec

pytestmark = pytest.mark.optimised

B = 32
LAYERS = Layers(hidden=(16,), size=8)
TASK = MetricLearning(model=LateFusion(layers=LAYERS))


@pytest.fixture(scope="module")
def feed(corpus):
    config = Triplets(batch_triplets=B)
    return config.open(corpus, seed=3)


@pytest.fixture(scope="module")
def start(corpus):
    statistics = train_statistics(corpus.table, corpus.is_train)
    return TASK.init(jax.random.key(1), Spec(widths=corpus.table.widths), statistics)


@lru_cache
def compiled(task):
    return jax.jit(jax.value_and_grad(task.loss_and_measures, has_aux=True))


def on_mesh(task, corpus, batch, parameters, state, shape=(1, 1)):
    """(loss, measures, gradient) with the table resident on a data × model mesh."""
    devices = jax.devices()[: shape[0] * shape[1]]
    mesh = meshes.make_mesh(meshes.MeshShape(data=shape[0], model=shape[1]), devices)
    with jax.set_mesh(mesh):
        resident = {} if "features" in batch else resident_rows(corpus.table, task.reads)
        constants = jax.tree.map(partial(meshes.place_rows, mesh), resident)
        exchanger = Exchanger.sized([batch["rows"]], videos=len(corpus.table), devices=mesh.size)
        feed = SimpleNamespace(split_axes=TripletFeed.split_axes, events_of=lambda batch: ())
        placer = Placer(mesh=mesh, feed=feed, exchanger=exchanger)
        placed, _ = placer.place(batch)
        everything = jax.device_put((parameters, state), meshes.replicated(mesh))
        key = jax.device_put(jax.random.key(5), meshes.replicated(mesh))
        (loss, (_, measures)), gradient = compiled(task)(*everything, constants, placed, key)
    return jax.device_get((loss, measures, gradient))


def oracle(task, corpus, batch, parameters, state):
    """Loss and counts of a batch by loops over triplets and candidates, in float64."""
    features = {m: jnp.asarray(v[batch["rows"]]) for m, v in corpus.table.features.items()}
    slots = np.asarray(task.embed(parameters, state, features, {}), np.float64)
    groups = {"negatives": 1, "negatives+positives": 2, "all": 3}[task.pool]
    pool_rows = batch["rows"][:groups].reshape(-1)
    pool = slots[:groups].reshape(-1, slots.shape[-1])
    graph = corpus.train_relations
    loss, trained, found_count, survive = 0.0, 0, 0, np.zeros(B, bool)
    for i in range(B):
        negative_row, positive_row, anchor_row = batch["rows"][:, i]
        anchor, positive = slots[2, i], slots[1, i]
        near = graph.neighbours[graph.offsets[anchor_row] : graph.offsets[anchor_row + 1]]
        never = {anchor_row, positive_row, *near}
        to_positive = np.sum((anchor - positive) ** 2)
        distances = [
            (np.sum((anchor - pool[j]) ** 2), j)
            for j in range(len(pool))
            if pool_rows[j] not in never
        ]
        if isinstance(task.miner, Hardest):
            fitting = distances
        elif isinstance(task.miner, NoMining):
            fitting = []
        else:
            fitting = [(d, j) for d, j in distances if d > to_positive]
            if task.miner.inside_margin:
                fitting = [(d, j) for d, j in fitting if d < to_positive + task.loss.margin]
        if fitting:
            to_negative, chosen = min(fitting)
            found_count += 1
            survive[i] = pool_rows[chosen] == negative_row
        elif task.unfound == "keep" and negative_row not in never:
            to_negative = np.sum((anchor - slots[0, i]) ** 2)
        else:
            continue
        trained += 1
        term = to_positive - to_negative + task.loss.margin
        loss += {Hinge: max(0.0, term), Log: np.log1p(np.exp(term)), Exponential: np.exp(term)}[
            type(task.loss)
        ]
    return loss / max(trained, 1), trained / B, found_count / B, survive


CASES = [
    TASK,
    replace(TASK, pool="negatives"),
    replace(TASK, pool="negatives+positives", loss=Log(margin=0.0)),
    replace(TASK, miner=Hardest(), loss=Exponential(margin=0.2)),
    replace(TASK, miner=NoMining(), loss=Hinge(margin=0.5)),
    replace(TASK, miner=SemiHard(inside_margin=True), loss=Hinge(margin=0.02), unfound="drop"),
]


@pytest.mark.fault("Relations and sessions: relations beyond the degree cap")
def test_relations_beyond_the_cap_are_never_negatives(corpus_paths, start):
    """The cap leaves each end two relations, but all are forbidden. Room changes nothing."""
    capped = replace(corpus_paths, max_degree=2).open()
    assert capped.train_graph.edges < capped.train_relations.edges
    batch = Triplets(batch_triplets=B).open(capped, seed=3).at(0)
    roomy = np.pad(batch["forbidden"], ((0, 0), (0, 3000)), constant_values=3 * B)
    for task in (TASK, replace(TASK, miner=Hardest())):
        loss, measures, _ = on_mesh(task, capped, batch, *start)
        expected, trained, found, _ = oracle(task, capped, batch, *start)
        assert loss == pytest.approx(expected, rel=2e-5, abs=1e-7)
        assert measures["mined"] == pytest.approx(found)
        assert measures["trained"] == pytest.approx(trained)
        assert on_mesh(task, capped, batch | {"forbidden": roomy}, *start)[0] == loss


@pytest.mark.parametrize("task", CASES)
def test_loss_equals_loops(task, corpus, feed, start):
    batch = feed.at(0)
    loss, measures, _ = on_mesh(task, corpus, batch, *start)
    expected, trained, found, survive = oracle(task, corpus, batch, *start)
    assert loss == pytest.approx(expected, rel=2e-5, abs=1e-7)
    assert measures["trained"] == pytest.approx(trained)
    assert measures["mined"] == pytest.approx(found)
    assert measures["sampled_survive"] == pytest.approx(survive.mean())


@pytest.mark.parametrize("shape", [(1, 1), (4, 2)])
def test_survival_is_measured_by_the_level_that_negatives_were_drawn_at(shape, corpus, feed, start):
    # The hardest of few negatives: many of the sampled ones are chosen again.
    task = replace(TASK, miner=Hardest(), pool="negatives")
    batch = feed.at(0)
    survive = oracle(task, corpus, batch, *start)[-1]
    drawn_at = np.stack([np.arange(B) < 20, np.zeros(B, bool), np.arange(B) >= 20])
    assert 0 < survive[:20].sum() < 20
    _, measures, _ = on_mesh(task, corpus, batch | {"drawn_at": drawn_at}, *start, shape)
    assert measures["drawn_at/0"] == pytest.approx(20 / B)
    assert measures["drawn_at/1"] == 0
    assert measures["survive_at/0"] == pytest.approx(survive[:20].mean())
    assert np.isnan(measures["survive_at/1"])
    assert measures["survive_at/2"] == pytest.approx(survive[20:].mean())


BOTH = LateFusion(layers=replace(LAYERS, input_dropout=0.3), modality_dropout=0.3)
DROPOUT = replace(TASK, model=BOTH)
RANDOM = replace(TASK, miner=SemiHardRandom(), loss=Hinge(margin=0.5))


MINERS = [
    SemiHard(),
    SemiHard(inside_margin=True),
    SemiHardRandom(),
    Hardest(),
    NoMining(),
]
LOSSES = [Hinge(margin=0.1), Log(margin=0.5), Exponential(margin=0.2)]


@pytest.mark.long
@pytest.mark.parametrize("shape", [(2, 1), (8, 1)])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("miner", MINERS, ids=repr)
def test_devices_agree_for_every_miner_and_loss(miner, loss, shape, corpus, feed, start):
    test_devices_agree(replace(TASK, miner=miner, loss=loss), shape, corpus, feed, start)


@pytest.mark.parametrize(
    ("task", "shape"),
    [(DROPOUT, (2, 1)), (DROPOUT, (8, 1)), (RANDOM, (4, 2)), *((t, (4, 2)) for t in CASES)],
)
def test_devices_agree(task, shape, corpus, feed, start):
    batch = feed.at(1)
    one = on_mesh(task, corpus, batch, *start)
    many = on_mesh(task, corpus, batch, *start, shape=shape)
    assert many[0] == pytest.approx(one[0], rel=1e-5, abs=1e-7)
    for name in one[1]:
        assert many[1][name] == pytest.approx(one[1][name], rel=1e-5, abs=1e-6), name
    for name in one[2]:
        np.testing.assert_allclose(many[2][name], one[2][name], rtol=1e-4, atol=2e-6)


def test_host_placement_equals_device_placement(corpus, start):
    batches = [
        Triplets(batch_triplets=B, placement=placement).open(corpus, seed=3).at(2)
        for placement in ("device", "host")
    ]
    results = [on_mesh(TASK, corpus, b, *start, (4, 2)) for b in batches]
    assert "features" in batches[1]
    assert "features" not in batches[0]
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)


def test_gradient_by_finite_differences(corpus, feed, start):
    task = replace(TASK, miner=Hardest(), loss=Log(margin=0.2))
    batch, (parameters, state) = feed.at(3), start
    _, _, gradient = on_mesh(task, corpus, batch, parameters, state)
    name = "towers/0/layers/1/kernel"
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = rng.normal(size=parameters[name].shape).astype(np.float32)
        step = 1e-3
        ends = [
            on_mesh(
                task,
                corpus,
                batch,
                parameters | {name: parameters[name] + sign * step * direction},
                state,
            )[0]
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(np.sum(gradient[name] * direction), rel=2e-2, abs=1e-4)


def test_a_missing_modality_is_skipped_in_the_product(corpus, start):
    parameters, state = start
    rows = np.arange(4)
    features = {m: jnp.asarray(v[rows]) for m, v in corpus.table.features.items()}
    present = {"audio": jnp.array([True, False, True, False])}
    embedded = TASK.embed(parameters, state, features, present)
    whole = TASK.embed(parameters, state, features, {})
    np.testing.assert_allclose(embedded[::2], whole[::2], rtol=1e-6)
    alone = MetricLearning(model=SingleModality(layers=LAYERS))
    visual = {name: v for name, v in parameters.items() if name.startswith("towers/0")}
    expected = alone.embed(visual, state, features, {})
    np.testing.assert_allclose(embedded[1::2], expected[1::2], rtol=1e-5, atol=1e-6)
    assert not np.allclose(embedded[1::2], whole[1::2], atol=1e-3)


def test_early_fusion_takes_the_mean_for_a_missing_modality(corpus):
    task = MetricLearning(model=EarlyFusion(layers=LAYERS))
    statistics = train_statistics(corpus.table, corpus.is_train)
    parameters, state = task.init(jax.random.key(1), Spec(widths=corpus.table.widths), statistics)
    features = {m: jnp.asarray(v[:4]) for m, v in corpus.table.features.items()}
    embedded = task.embed(parameters, state, features, {"audio": jnp.zeros(4, bool)})
    mean = np.broadcast_to(np.asarray(state["inputs"]["audio"]["mean"]), (4, 4))
    at_mean = task.embed(parameters, state, features | {"audio": jnp.asarray(mean)}, {})
    np.testing.assert_allclose(embedded, at_mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("placement", ["device", "host"])
def test_missing_rows_reach_the_loss_in_both_placements(corpus, start, placement):
    """The values in the row of a missing modality must not matter."""
    there = np.arange(300) % 2 == 0
    losses = []
    for noise in (0, 255):
        audio = corpus.table.features["audio"].copy()
        audio[~there] = noise
        features = corpus.table.features | {"audio": audio}
        table = replace(corpus.table, features=features, present={"audio": there}, manifest={})
        gappy = replace(corpus, table=table)
        feed = Triplets(batch_triplets=B, placement=placement).open(gappy, seed=3)
        losses.append(on_mesh(TASK, gappy, feed.at(0), *start, (4, 2))[0])
    assert losses[0] == losses[1]
    assert np.isfinite(losses[0])


def test_measures_of_a_worked_case(corpus, feed, start):
    _, measures, _ = on_mesh(TASK, corpus, feed.at(0), *start)
    parts = measures["mined"] + measures["fallen_back"]
    assert parts == pytest.approx(measures["trained"])
    assert 0 < measures["active"] <= measures["trained"]
    assert 0 < measures["spread"] < 1
    # Semi-hard: the mined negatives are farther than the positives.
    assert measures["negative_distance"] > measures["positive_distance"]


def test_hinge_without_margin_and_semi_hard_is_refused():
    with pytest.raises(ValueError, match="margin"):
        MetricLearning(miner=SemiHard(), loss=Hinge(margin=0.0))
    MetricLearning(miner=SemiHard(), loss=Log(margin=0.0))


def test_no_mining_with_drop_is_refused():
    with pytest.raises(ValueError, match="nothing would be learnt"):
        MetricLearning(miner=NoMining(), unfound="drop")


@pytest.mark.parametrize(
    "model", [EarlyFusion(layers=LAYERS), SingleModality(layers=LAYERS, modality="audio")]
)
def test_other_networks_train(model, corpus, feed):
    statistics = train_statistics(corpus.table, corpus.is_train)
    task = replace(TASK, model=model)
    start = task.init(jax.random.key(0), Spec(widths=corpus.table.widths), statistics)
    loss, _, gradient = on_mesh(task, corpus, feed.at(0), *start)
    assert np.isfinite(loss)
    assert all(np.abs(g).max() > 0 for n, g in gradient.items() if n.endswith("kernel"))


def test_cases_are_different(corpus, feed, start):
    losses = [on_mesh(t, corpus, feed.at(0), *start)[0] for t in CASES[:5]]
    assert all(abs(a - b) > 1e-6 for a, b in itertools.combinations(losses, 2))
