"""The calculator against the compiler: shapes alone are compiled, nothing is run."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.compiled_step import WIDTHS, collectives, compiled, computed
from vidembed import mesh as meshes
from vidembed.feeds.triplets import Triplets
from vidembed.mesh import MeshShape
from vidembed.models.fusion import EarlyFusion, LateFusion, Layers
from vidembed.recipe import Recipe
from vidembed.step import place_constants
from vidembed.step_cost import device_bytes, imagined_rows, memory, messages, step_shapes
from vidembed.tasks.arithmetic import Message, layers
from vidembed.tasks.metric_learning import MetricLearning

MEASURES_BYTES = 1024


def check_memory(shapes, arithmetic, program, low, high):
    analysis = program.memory_analysis()
    unused = 0 if shapes.constants else device_bytes(shapes.batch["rows"])
    assert analysis.argument_size_in_bytes == device_bytes(shapes) - unused
    state = device_bytes(shapes.state)
    assert state <= analysis.output_size_in_bytes <= state + MEASURES_BYTES
    assert analysis.alias_size_in_bytes == state  # updated in place
    temporaries = sum(memory(shapes, arithmetic).values()) - device_bytes(shapes)
    assert low < analysis.temp_size_in_bytes / temporaries < high


def recipe(model=LateFusion(), *, pool="all", mesh=MeshShape(), **feed):  # noqa: B008
    return Recipe(task=MetricLearning(model=model, pool=pool), feed=Triplets(**feed), mesh=mesh)


def test_the_papers_step_on_eight_devices_is_as_computed():
    shapes, arithmetic, program = compiled(recipe(), 8)
    check_memory(shapes, arithmetic, program, 0.9, 1.25)
    assert collectives(program.as_text()) == computed(shapes, arithmetic)
    # A quarter of the table's rows or of the activations would show here.
    flop = arithmetic.products["products"].flop / 8
    assert program.cost_analysis()["flops"] == pytest.approx(flop, rel=0.05)


def test_the_papers_step_on_one_device_is_as_computed():
    shapes, arithmetic, program = compiled(recipe(), 1)
    check_memory(shapes, arithmetic, program, 0.9, 1.25)
    assert sum(message.sent for message in messages(shapes, arithmetic).values()) == 0


@pytest.mark.long
@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize(
    "of",
    [
        recipe(placement="host"),
        recipe(EarlyFusion()),
        recipe(pool="negatives"),
        recipe(LateFusion(layers=Layers(hidden=(4000, 512)))),
        recipe(batch_triplets=57_600),
    ],
    ids=["host", "early", "negatives", "deeper", "57,600"],
)
def test_other_steps_are_as_computed(of, devices):
    shapes, arithmetic, program = compiled(of, devices)
    check_memory(shapes, arithmetic, program, 0.9, 1.25)
    assert collectives(program.as_text()) == computed(shapes, arithmetic)


@pytest.mark.long
def test_a_model_axis_gathers_parameters_for_the_step():
    shapes, arithmetic, program = compiled(recipe(mesh=MeshShape(model=2)), 8)
    check_memory(shapes, arithmetic, program, 0.9, 1.25)
    found = collectives(program.as_text())
    for kind, wanted in computed(shapes, arithmetic).items():
        assert found[kind] == pytest.approx(wanted, rel=1e-3), kind


def test_shapes_are_those_of_real_arrays(corpus):
    for placement in ("device", "host"):
        of = recipe(
            LateFusion(layers=Layers(hidden=(16,), size=8)), batch_triplets=16, placement=placement
        )
        mesh = meshes.make_mesh(of.mesh)
        feed = of.feed.open(corpus, seed=0)
        batch = feed.at(0)
        batch["forbidden"] = batch["forbidden"][:, : 16 * 4]
        shapes = step_shapes(of, corpus.table, mesh, forbidden=4)
        real = (
            place_constants(of, corpus, mesh),
            meshes.place_batch(mesh, batch, feed.split_axes),
        )
        wanted = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), real)
        assert wanted == jax.tree.map(
            lambda x: (x.shape, x.dtype, x.sharding), (shapes.constants, shapes.batch)
        )


def test_imagined_devices_give_the_shapes_of_real_ones():
    of = recipe(mesh=MeshShape(model=2))
    rows = imagined_rows(WIDTHS, 1001)
    real = step_shapes(of, rows, meshes.make_mesh(of.mesh), forbidden=48)
    imagined = step_shapes(of, rows, meshes.imagined_mesh(of.mesh, 8), forbidden=48)
    for one, other in zip(jax.tree.leaves(real), jax.tree.leaves(imagined), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert device_bytes(one) == device_bytes(other)


def test_rings_by_hand():
    # Eight devices, 800 bytes: seven hops of 100 bytes gather, seven more sum.
    assert Message(kind="all-gather", bytes=800, devices=8).sent == 700
    assert Message(kind="reduce-scatter", bytes=800, devices=8).sent == 700
    assert Message(kind="all-reduce", bytes=800, devices=8).sent == 1400
    assert Message(kind="all-reduce", bytes=800, devices=1).sent == 0


def test_a_tower_by_hand():
    shapes = {
        "towers/0/layers/0/kernel": np.empty((5, 4)),
        "towers/0/layers/0/bias": np.empty(4),
        "towers/0/layers/1/kernel": np.empty((4, 3)),
    }
    flop, kept, backward = layers(shapes, 10, "float32")
    # Forward 20 + 12 multiplications a row, the same for the kernels' gradient, 12 for dx.
    assert flop == 2 * 10 * (32 + 32 + 12)
    assert list(kept.values()) == [10 * 5 * 4, 10 * 4 * 8, 10 * (3 + 3) * 4]
    assert backward == 10 * 4 * 4
    _, narrow, _ = layers(shapes, 10, "bfloat16")
    assert list(narrow.values()) == [10 * 5 * 2, 10 * 4 * 6, 10 * (3 + 3) * 4]


def test_a_batch_that_does_not_divide_is_refused_with_those_that_do():
    of = replace(recipe(), feed=Triplets(batch_triplets=7200))
    with pytest.raises(ValueError, match="choose 7168 or 7232"):
        step_shapes(of, imagined_rows(WIDTHS, 10), meshes.imagined_mesh(of.mesh, 64), forbidden=48)
