"""What the compiler says of a small step on simulated devices, against counts by hand."""

import json
from dataclasses import replace

import jax
import pytest

from vidembed.cli.imagined import Imagined, known_data
from vidembed.corpora.watched import CorpusPaths
from vidembed.distributed import mesh as meshes
from vidembed.distributed.mesh import MeshShape
from vidembed.engine.compiled_cost import (
    StepCost,
    compiled_update,
    device_bytes,
    dividing,
    read_cost,
    step_arguments,
    step_cost,
)
from vidembed.engine.compiled_text import Collective
from vidembed.engine.placing import Placer, place_constants
from vidembed.engine.recipe import Recipe
from vidembed.feeds.triplets import Triplets
from vidembed.mining.miners import SemiHard
from vidembed.models.fusion import LateFusion, Layers
from vidembed.tasks.metric_learning import MetricLearning

B, HIDDEN, SIZE, BLOCK, DEVICES = 64, 32, 16, 4, 8
WIDTH = 1024 + 128
PARAMETERS = (WIDTH + 2) * HIDDEN + 2 * (HIDDEN + 1) * SIZE
MODEL = LateFusion(layers=Layers(hidden=(HIDDEN,), size=SIZE))
RECIPE = Recipe(
    corpus=CorpusPaths(),
    task=MetricLearning(model=MODEL, miner=SemiHard(block=BLOCK)),
    feed=Triplets(batch_triplets=B),
)
IMAGINED = Imagined(videos=1000, degree=4)


@pytest.fixture(scope="module")
def data():
    return known_data(RECIPE, IMAGINED).data


@pytest.fixture(scope="module")
def arguments(data):
    return step_arguments(RECIPE, data, meshes.make_mesh(RECIPE.mesh))


@pytest.fixture(scope="module")
def compiled(arguments):
    return compiled_update(RECIPE, arguments, meshes.make_mesh(RECIPE.mesh))


@pytest.fixture(scope="module")
def cost(arguments, compiled):
    return read_cost(RECIPE, arguments, meshes.make_mesh(RECIPE.mesh), compiled, 1.0)


def test_arguments_are_those_of_the_compiler(arguments, compiled, cost):
    memory = compiled.memory_analysis()
    # The compiler drops what is not read: row numbers beside a plan of who sends them.
    unused = device_bytes(arguments.batch["rows"])
    assert sum(cost.arguments.values()) == memory.argument_size_in_bytes + unused
    assert cost.temporaries == memory.temp_size_in_bytes > 0
    # Adam keeps two averages; the table is split over eight devices.
    assert cost.arguments["state"] == pytest.approx(3 * PARAMETERS * 4, rel=0.1)
    assert cost.arguments["constants"] == 1000 // DEVICES * WIDTH
    assert cost.memory == sum(cost.arguments.values()) + memory.temp_size_in_bytes


def test_products_by_hand_with_the_miners_loop(cost):
    """Layers: 3 products each but for the first's input; mining: B/8 anchors against all slots."""
    slots, first, second = 3 * B // DEVICES, WIDTH * HIDDEN, 2 * HIDDEN * SIZE
    layers = 2 * slots * (2 * first + 3 * second)
    mining = 2 * (B // DEVICES) * 3 * B * SIZE
    assert cost.products == {"float32": layers + mining}
    assert layers + mining < cost.operations < 2 * (layers + mining)
    # The windows of forbidden pairs, as many as a block has; no products are in it.
    assert cost.unknown_loops == 1


def test_collectives_by_hand(arguments, cost):
    by_kind = {}
    for each in cost.collectives:
        assert each.devices == DEVICES
        by_kind.setdefault(each.kind, []).append(each)
    pool = 3 * B * SIZE * 4
    assert pool in [each.bytes for each in by_kind["all-gather"]]
    # The chosen negatives' gradients, of all devices.
    assert pool // 3 in [each.bytes for each in by_kind["all-gather"]]
    assert "reduce-scatter" not in by_kind
    # The gradient, and the sums beside it.
    largest = max(by_kind["all-reduce"], key=lambda each: each.bytes)
    assert PARAMETERS * 4 <= largest.bytes <= PARAMETERS * 4 + 256
    assert cost.sent == sum(each.sent for each in cost.collectives)
    # What each device sends to each other one of every modality's features, as stored.
    features = [each for each in cost.collectives if each.operands.startswith("u8[")]
    capacity = arguments.batch["exchange"].send.shape[-1]
    assert {each.kind for each in features} == {"all-to-all"}
    assert sum(each.bytes for each in features) == DEVICES * capacity * WIDTH


@pytest.mark.parametrize("placement", ["device", "host"])
def test_shapes_are_those_of_real_arrays(clustered_paths, clustered, placement):
    recipe = replace(
        RECIPE, corpus=clustered_paths, feed=Triplets(batch_triplets=16, placement=placement)
    )
    mesh = meshes.make_mesh(MeshShape(model=2))
    feed = recipe.feed.open(clustered, seed=recipe.seed, reads=recipe.task.reads)
    placer = Placer.of(feed, mesh, steps=recipe.steps)
    real = place_constants(feed, mesh), placer.place(feed.at(0))[0]
    _, *shapes = step_arguments(recipe, known_data(recipe, IMAGINED).data, mesh)

    def layout(leaf):
        return leaf.shape, leaf.dtype, leaf.sharding

    assert jax.tree.map(layout, real) == jax.tree.map(layout, tuple(shapes))
    assert device_bytes(shapes[0]) == device_bytes(real[0])


def test_a_batch_that_does_not_divide_is_refused_or_exchanged(data):
    odd = replace(RECIPE, feed=Triplets(batch_triplets=60))
    with pytest.raises(ValueError, match="choose 56 or 64"):
        step_arguments(odd, data, meshes.make_mesh(RECIPE.mesh))
    sizes = {(7200, 64): 7168, (7200, 256): 7168, (9600, 256): 9472, (9728, 256): 9728, (3, 8): 8}
    for (examples, devices), nearest in sizes.items():
        recipe = replace(RECIPE, feed=Triplets(batch_triplets=examples))
        assert dividing(recipe, devices).feed.examples == nearest


def test_data_sheet_times_by_hand():
    sent = Collective(
        kind="all-gather", operands="u8[1]", put=10**9, devices=3, times=1,
        asynchronous=False,
    )  # fmt: skip
    cost = StepCost(
        mesh={"data": 3, "model": 1}, device_kind="TPU v5 lite", examples=3,
        arguments={}, temporaries=0, operations=0, traffic=819e9,
        products={"bfloat16": 197e12, "float32": 197e12 / 6}, collectives=(sent,),
        unknown_loops=0, compile_seconds=0,
    )  # fmt: skip
    assert cost.seconds() == pytest.approx({"products": 2, "memory": 1, "links": 2e9 / 200e9})
    assert replace(cost, device_kind="cpu").seconds() == {}
    # Sixteen GPUs are two hosts, and the ring runs at the rate between these.
    gpus = replace(cost, device_kind="NVIDIA H100 80GB HBM3", mesh={"data": 16, "model": 1})
    assert gpus.seconds()["links"] == pytest.approx(2e9 / 50e9)
    assert StepCost.from_json(json.loads(json.dumps(cost.to_json()))) == cost


@pytest.mark.fault(
    "Runs: a step is asked for on a TPU slice without the compiler, on no slice, or where "
    "it does not fit",
)
def test_a_step_that_does_not_fit_is_refused_with_remedies(monkeypatch, arguments):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of 80.1G hbm.\nMore.")

    monkeypatch.setattr("vidembed.engine.compiled_cost.compiled_update", full)
    words = (
        "does not fit on 8 devices: Ran out of 80.1G hbm. Choose a smaller --feed.batch-triplets"
    )
    with pytest.raises(ValueError, match=words):
        step_cost(RECIPE, arguments, meshes.make_mesh(RECIPE.mesh))
