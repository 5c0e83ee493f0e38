"""Every recipe compiled for a TPU slice by libtpu, small; run by `make test-tpu`."""

import importlib.util
from dataclasses import replace

import pytest

from experiments import cdml, gcml
from vidembed.cli.imagined import Imagined, known_data
from vidembed.cli.show import show
from vidembed.distributed import mesh as meshes
from vidembed.engine.compiled_cost import step_arguments, step_cost
from vidembed.engine.slices import EXAMPLES, slice_devices
from vidembed.models.blocks import Blocks
from vidembed.models.fusion import LateFusion, Layers
from vidembed.recipes import annotation, clip_classes, jemc, provico

pytestmark = [
    pytest.mark.tpu,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs pip install -e '.[tpu]'"
    ),
]
MODEL = LateFusion(layers=Layers(hidden=(64,), size=16))
BLOCKS = Blocks(components=16)
IMAGINED = Imagined(videos=20_000, degree=8, classes=500)
FEATURES_TRAVEL_BY = "all-to-all"
"""What the compiler makes of the gather of stored features."""


def small(recipe):
    feed = replace(recipe.feed, **{f"batch_{recipe.feed.unit}": 64})
    model = BLOCKS if recipe == annotation.recipe else MODEL
    return replace(recipe, task=replace(recipe.task, model=model), feed=feed)


@pytest.mark.parametrize(
    "recipe",
    [cdml.recipe, *gcml.RECIPES.values(), annotation.recipe],
    ids=["cdml", *(f"gcml-{n}" for n in gcml.RECIPES), "annotation"],
)
def test_every_recipe_compiles_for_a_slice(recipe):
    recipe = small(recipe)
    mesh = meshes.make_mesh(recipe.mesh, slice_devices("v5e:2x2"))
    cost = step_cost(recipe, step_arguments(recipe, known_data(recipe, IMAGINED).data, mesh), mesh)
    assert cost.device_kind == "TPU v5 lite"
    assert cost.arguments["constants"] == 20_000 // 4 * (1024 + 128)
    assert cost.temporaries > 0
    # What is read from the text is within what the compiler counts.
    assert 0.5 * cost.operations < sum(cost.products.values()) < cost.operations
    # The miner's windows of forbidden pairs, as many as a block has.
    assert cost.unknown_loops == (1 if recipe.feed.unit == "triplets" else 0)
    assert all(each.devices == 4 for each in cost.collectives)
    features = [c for c in cost.collectives if c.operands.startswith(("u8", "u32"))]
    assert {each.kind for each in features} == {FEATURES_TRAVEL_BY}
    assert set(cost.seconds()) == {"products", "memory", "links"}


def test_videos_and_captions_compile_for_a_slice():
    text = replace(jemc.recipe.task.model.text, units=32, embedding=16)
    model = replace(jemc.recipe.task.model, text=text)
    recipe = replace(jemc.recipe, task=replace(jemc.recipe.task, model=model))
    mesh = meshes.make_mesh(recipe.mesh, slice_devices("v5e:2x2"))
    data = known_data(recipe, Imagined(videos=20_000)).data
    cost = step_cost(recipe, step_arguments(recipe, data, mesh), mesh)
    assert cost.device_kind == "TPU v5 lite"
    assert cost.arguments["constants"] == 20_000 // 4 * (2048 + 2 * 1024) * 4
    assert cost.unknown_loops == 0
    assert 0.5 * cost.operations < sum(cost.products.values()) < cost.operations
    assert all(each.devices == 4 for each in cost.collectives)


@pytest.mark.parametrize(
    "recipe", [provico.recipe, clip_classes.recipe], ids=["provico", "classes"]
)
def test_windows_compile_for_a_slice(recipe):
    recipe = replace(recipe, feed=replace(recipe.feed, batch_videos=16))
    mesh = meshes.make_mesh(recipe.mesh, slice_devices("v5e:2x2"))
    data = known_data(recipe, Imagined(videos=1_000)).data
    cost = step_cost(recipe, step_arguments(recipe, data, mesh), mesh)
    assert cost.device_kind == "TPU v5 lite"
    assert cost.arguments["batch"] >= 16 // 4 * 4 * 16 * 1280 * 4  # windows of frames of features
    assert 0.5 * cost.operations < sum(cost.products.values()) < 1.5 * cost.operations
    assert all(each.devices == 4 for each in cost.collectives)


@pytest.mark.fault(
    "Runs: a step is asked for on a TPU slice without the compiler, on no slice, or where "
    "it does not fit",
)
def test_slices_by_name():
    chips = {"v5e:2x2": 4, "v5e:8x8": 64, "v5p:4x4x4": 64, "v6e:4x4": 16}
    for name, number in chips.items():
        assert name in EXAMPLES
        assert len(slice_devices(name)) == number
    for name in ("v5e:3x3", "v9x:2x2", "nonsense"):
        with pytest.raises(ValueError, match=f"{name} is not a TPU slice: .* v5e:8x8"):
            slice_devices(name)


def test_what_does_not_fit_is_refused_with_remedies():
    recipe = small(cdml.recipe)
    data = known_data(recipe, Imagined(videos=278e6)).data
    mesh = meshes.make_mesh(recipe.mesh, slice_devices("v5e:2x2"))
    with pytest.raises(ValueError, match=r"does not fit on 4 devices: .*--feed\.placement host"):
        step_cost(recipe, step_arguments(recipe, data, mesh), mesh)


def test_show_prints_a_slice(capsys):
    show(small(cdml.recipe), ("v5e:2x2",), IMAGINED)
    text = capsys.readouterr().out
    assert " of 16.0 GB" in text
    assert "from the data sheet, at peak rates; not measured" in text
    assert "v5e:2x2: all-reduce of f32[1024,64] and " in text
