"""Systems that the engine was not written for train, go on, and are measured, on any devices.

They know no relation and no table; what they are made of is given from Python, and no file of
vidembed names it.
"""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import jobs
from tests.toys import captions, clips, phases
from tests.toys.job import STEPS, TOYS, losses, measured, trained
from tests.toys.rows import Rows
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.engine.model import load_model
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.step import state_shape
from vidembed.workdir.checkpoints.step_folder import StepFolder
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import Workdir

ONE, EIGHT = jax.devices()[:1], jax.devices()
ONE_VIDEO = 1 / 32
"""By so much a score may differ where a near-tie goes the other way."""
WITHIN = 27
"""A step within a phase, and within an update from a whole split."""
PARTS = (captions.Captions, captions.TwoTowers, clips.Clips, clips.Kinds, clips.Sizes)
PARTS += (phases.Ratings, phases.Regression, phases.InTurn, Rows)
jobs.SYSTEMS |= {name: (["tests.toys.job", name], []) for name in TOYS}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Name → work directory of its run on one device; not to be written to but by evaluations."""
    known = {}

    def alone(name):
        if name not in known:
            known[name] = tmp_path_factory.mktemp(name) / "run"
            trained(TOYS[name][0], known[name], ONE)
        return known[name]

    return alone


def entries(path, step=STEPS):
    """Name → shape, dtype and digest of each array of a checkpoint."""
    return StepFolder(Workdir(path).checkpoints).record(step)["entries"]


def state(recipe, path, step):
    feed = recipe.feed.open(recipe.corpus.open(), seed=recipe.seed, reads=recipe.task.reads)
    shape = state_shape(recipe, feed.spec, make_mesh(MeshShape(), ONE))
    return Checkpoints(Workdir(path).checkpoints, read_only=True).restore(step, shape)


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_is_small(name):
    lines = (Path(__file__).parent / f"{name}.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) < 80


@pytest.mark.parametrize("name", TOYS)
def test_it_learns_and_eight_devices_train_and_measure_as_one(name, alone, tmp_path):
    recipe, evaluator = TOYS[name]
    one = losses(alone(name))
    many = trained(recipe, tmp_path / "run", EIGHT)
    assert list(one) == list(many) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(many.values()), list(one.values()), rtol=1e-3)
    scores = measured(recipe, evaluator, alone(name), ONE)
    untrained = measured(recipe, evaluator, alone(name), ONE, step=0)
    assert all(scores[metric] > untrained[metric] + 0.3 for metric in untrained)
    eight = measured(recipe, evaluator, tmp_path / "run", EIGHT)
    assert eight == pytest.approx(scores, rel=1e-3, abs=ONE_VIDEO)


@pytest.mark.parametrize("name", TOYS)
def test_resumed_equals_uninterrupted_bit_for_bit(name, alone, tmp_path):
    recipe = TOYS[name][0]
    trained(replace(recipe, steps=WITHIN), tmp_path / "run", ONE)
    trained(recipe, tmp_path / "run", ONE)
    assert entries(tmp_path / "run") == entries(alone(name))
    assert losses(tmp_path / "run") == losses(alone(name))


@pytest.mark.long
@pytest.mark.parametrize("name", TOYS)
def test_two_processes_train_and_measure_as_one(name, alone, tmp_path):
    recipe, evaluator = TOYS[name]
    codes, outputs = jobs.ends(jobs.start("train", tmp_path / "run", [], processes=2, system=name))
    assert set(codes) == {0}, outputs
    two = losses(tmp_path / "run")
    np.testing.assert_allclose(list(two.values()), list(losses(alone(name)).values()), rtol=1e-3)
    # What the two have measured is read; the run of one is measured here.
    scores = measured(recipe, evaluator, alone(name), ONE)
    stored = measured(recipe, evaluator, tmp_path / "run", ONE)
    assert stored == pytest.approx(scores, rel=1e-3, abs=ONE_VIDEO)


@pytest.mark.parametrize("name", TOYS)
def test_a_recipe_of_other_peoples_classes_is_stored_and_built_again(name):
    recipe = TOYS[name][0]
    stored = json.loads(json.dumps(recipe.to_json()))
    with pytest.raises(ValueError, match=r"tests\.toys"):
        Recipe.from_json(stored)
    assert Recipe.from_json(stored, classes=PARTS) == recipe


def test_captions_are_padded_by_the_host_that_has_them():
    recipe = TOYS["captions"][0]
    feed = recipe.feed.open(recipe.corpus.open(), seed=0, reads=recipe.task.reads)
    whole, parts = feed.at(3), [feed.at(3, (number, 4)) for number in range(4)]
    for name, array in whole.items():
        np.testing.assert_array_equal(array, np.concatenate([part[name] for part in parts]))
    assert not whole["said"].all()


def test_a_model_is_loaded_from_the_work_directory_alone(alone):
    recipe = TOYS["captions"][0]
    text = load_model(Workdir(alone("captions")), "latest", outputs=("text",), classes=PARTS)
    assert list(text) == ["text"]
    parameters = state(recipe, alone("captions"), STEPS)["parameters"]
    corpus = recipe.corpus.open()
    expected = recipe.task.text(parameters, {}, corpus.captions(np.arange(len(corpus))))
    np.testing.assert_allclose(text["text"](corpus), expected, atol=1e-6)


def test_batch_statistics_are_of_the_whole_batch_and_averaged_with_the_parameters(tmp_path):
    """On eight devices, each with four clips, as numpy says of all 32."""
    recipe = replace(TOYS["clips"][0], steps=1, checkpoints=Retention(every_steps=1))
    trained(recipe, tmp_path, EIGHT)
    before, after = (state(recipe, tmp_path, step) for step in (0, 1))
    feed = recipe.feed.open(recipe.corpus.open(), seed=recipe.seed, reads=recipe.task.reads)
    hidden = feed.at(0)["clip"] @ np.asarray(before["parameters"]["frames"])
    known = after["state"]["batch_statistics"]
    new = 1 - clips.MOMENTUM
    np.testing.assert_allclose(known["mean"], new * hidden.mean((0, 1)), rtol=1e-4, atol=1e-5)
    variance = clips.MOMENTUM + new * hidden.var((0, 1))
    np.testing.assert_allclose(known["variance"], variance, rtol=1e-4)
    # The mean of one update is that update.
    jax.tree.map(np.testing.assert_array_equal, after["average_statistics"], known)


def test_each_phase_learns_its_own_and_parts_make_the_gradient_of_the_whole(tmp_path):
    recipe = TOYS["phases"][0]
    recipe = replace(recipe, steps=10, checkpoints=Retention(every_steps=1, keep_last=20))
    trained(recipe, tmp_path, ONE)
    encoder, head = recipe.phases
    start, between, end = (
        state(recipe, tmp_path, step)["parameters"]
        for step in (0, encoder.steps, encoder.steps + head.steps)
    )
    np.testing.assert_array_equal(start["head"], between["head"])
    np.testing.assert_array_equal(between["encoder"], end["encoder"])
    assert np.abs(start["encoder"] - between["encoder"]).max() > 0
    corpus = recipe.corpus.open()
    batch = jax.tree.map(jnp.asarray, corpus.read(np.flatnonzero(corpus.is_train)))

    def loss(parameters):
        return recipe.task.loss_and_measures(parameters, {}, {}, batch, None)[0]

    expected = between["head"] - head.optimiser.learning_rate * jax.grad(loss)(between)["head"]
    np.testing.assert_allclose(end["head"], expected, rtol=1e-5, atol=1e-6)
    assert len(batch["shown"]) % phases.WHOLE.batch_videos > 0
