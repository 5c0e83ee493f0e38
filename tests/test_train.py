"""The loop: resumed equals uninterrupted, stops and faults lose nothing, one device or eight."""

import json
import os
import signal
import threading
from dataclasses import replace

import jax
import numpy as np
import pytest

from vidembed.checkpoint import Checkpoints
from vidembed.feeds.triplets import Triplets
from vidembed.losses.triplet import Exponential
from vidembed.mesh import MeshShape, make_mesh
from vidembed.mining.none import NoMining
from vidembed.models.fusion import LateFusion, Layers
from vidembed.optimiser import Optimiser, Sgd
from vidembed.progress import Progress
from vidembed.recipe import Recipe, Retention
from vidembed.step import state_shape
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.train import NonFiniteLoss, train
from vidembed.workdir import RecipeChangedError, Workdir

LAYERS = Layers(hidden=(16,), size=8, input_dropout=0.2)
QUIET = Progress(quiet=True)
ONE = [jax.devices()[0]]


@pytest.fixture
def recipe(corpus_paths):
    return Recipe(
        corpus=corpus_paths,
        task=MetricLearning(model=LateFusion(layers=LAYERS)),
        feed=Triplets(batch_triplets=32, read_threads=0, prefetch_batches=0),
        optimiser=Optimiser(learning_rate=1e-2, average_decay=0.9),
        checkpoints=Retention(every_steps=3, keep_last=10),
        steps=7,
        log_every=1,
    )


def run(recipe, path, corpus, devices=ONE, evaluate=None):
    workdir = Workdir(path)
    with workdir.lease() as lease:
        return train(
            recipe,
            workdir,
            lease=lease,
            corpus=corpus,
            progress=QUIET,
            devices=devices,
            evaluate=evaluate,
        )


def stored(recipe, path, corpus, step, devices=ONE):
    mesh = make_mesh(MeshShape(), devices)
    shape = state_shape(recipe, corpus.table.widths, mesh)
    return jax.device_get(
        Checkpoints(Workdir(path).checkpoints, read_only=True).restore(step, shape)
    )


def losses(path):
    lines = Workdir(path).metrics_file.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {r["step"]: r["loss"] for r in records if r["kind"] == "train"}


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        np.testing.assert_array_equal(a, b)


def test_resumed_equals_uninterrupted_bit_for_bit(recipe, corpus, tmp_path):
    assert run(recipe, tmp_path / "whole", corpus) == 7
    assert run(replace(recipe, steps=4), tmp_path / "parts", corpus) == 4
    assert Workdir(tmp_path / "parts").done() == 4
    assert run(recipe, tmp_path / "parts", corpus) == 7
    assert_same(
        stored(recipe, tmp_path / "whole", corpus, 7), stored(recipe, tmp_path / "parts", corpus, 7)
    )
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert list(losses(tmp_path / "parts")) == [1, 2, 3, 4, 5, 6, 7]
    # Another seed gives another run.
    run(replace(recipe, seed=1), tmp_path / "other", corpus)
    assert losses(tmp_path / "other") != losses(tmp_path / "whole")


def test_running_again_does_nothing(recipe, corpus, tmp_path):
    run(recipe, tmp_path, corpus)
    before = Workdir(tmp_path).metrics_file.read_text()
    assert run(recipe, tmp_path, corpus) == 7
    assert Workdir(tmp_path).metrics_file.read_text() == before
    assert Workdir(tmp_path).done() == 7


def test_the_loss_falls_and_the_average_lags(recipe, corpus, tmp_path):
    # With the sampled negatives: mined ones get harder as fast as the embedding gets better.
    task = replace(recipe.task, miner=NoMining())
    longer = replace(recipe, task=task, steps=60, checkpoints=Retention(every_steps=60))
    run(longer, tmp_path, corpus)
    curve = losses(tmp_path)
    assert np.mean([curve[s] for s in range(51, 61)]) < 0.5 * np.mean([curve[s] for s in (1, 2, 3)])
    state = stored(longer, tmp_path, corpus, 60)
    name = "towers/0/layers/0/kernel"
    assert not np.allclose(state["average"][name], state["parameters"][name], atol=1e-4)


def test_other_device_count_goes_on(recipe, corpus, tmp_path):
    smooth = replace(
        recipe, optimiser=Optimiser(rule=Sgd(momentum=0.0), learning_rate=1e-2, average_decay=0.9)
    )
    run(smooth, tmp_path / "one", corpus)
    run(replace(smooth, steps=3), tmp_path / "many", corpus, devices=jax.devices())
    run(replace(smooth, steps=4), tmp_path / "many", corpus, devices=jax.devices()[:4])
    run(smooth, tmp_path / "many", corpus, devices=ONE)
    one, many = losses(tmp_path / "one"), losses(tmp_path / "many")
    assert list(one) == list(many)
    # The same batches and nearly the same weights: near-ties may pick other negatives.
    np.testing.assert_allclose(list(one.values()), list(many.values()), rtol=2e-3)


def test_retention_keeps_first_asked_and_pinned(recipe, corpus, tmp_path):
    short = replace(recipe, checkpoints=Retention(every_steps=1, keep_last=2, keep_every=4))
    run(short, tmp_path, corpus)
    assert Checkpoints(Workdir(tmp_path).checkpoints, read_only=True).steps() == [0, 4, 6, 7]


def test_evaluate_is_called_at_durable_checkpoints(recipe, corpus, tmp_path):
    asked = replace(recipe, evaluate_every=3)
    seen = []

    def evaluate(step):
        seen.append((step, Checkpoints(Workdir(tmp_path).checkpoints, read_only=True).latest()))

    run(asked, tmp_path, corpus, evaluate=evaluate)
    assert seen == [(3, 3), (6, 6)]


def test_non_finite_loss_names_step_and_videos_and_keeps_the_last_good(recipe, corpus, tmp_path):
    burning = replace(
        recipe,
        task=replace(recipe.task, loss=Exponential(margin=4.0)),
        optimiser=Optimiser(rule=Sgd(momentum=0.0), learning_rate=1e38),
        steps=20,
    )
    with pytest.raises(NonFiniteLoss, match=r"loss of step \d+ is not finite; .* videos v\d{4}"):
        run(burning, tmp_path, corpus)
    steps = Checkpoints(Workdir(tmp_path).checkpoints, read_only=True).steps()
    good = stored(burning, tmp_path, corpus, steps[-1])
    assert all(np.isfinite(leaf).all() for leaf in good["parameters"].values())
    assert Workdir(tmp_path).done() is None


def test_sigterm_saves_and_the_run_goes_on(recipe, corpus, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    long = replace(recipe, steps=30, checkpoints=Retention(every_steps=10, keep_last=10))
    run(long, whole, corpus)

    def stop_soon():
        while not losses_or_none(parts):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=stop_soon)
    killer.start()
    reached = run(long, parts, corpus)
    killer.join()
    assert 0 < reached < 30
    assert Checkpoints(Workdir(parts).checkpoints, read_only=True).latest() == reached
    assert Workdir(parts).done() is None
    assert run(long, parts, corpus) == 30
    assert losses(whole) == losses(parts)


def losses_or_none(path):
    try:
        return losses(path)
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def test_changed_recipe_or_data_is_refused(recipe, corpus, tmp_path):
    run(replace(recipe, steps=3), tmp_path, corpus)
    with pytest.raises(RecipeChangedError, match=r"(?s)seed: 0 -> 5"):
        run(replace(recipe, seed=5), tmp_path, corpus)
    with pytest.raises(RecipeChangedError, match="corpus"):
        run(recipe, tmp_path, replace(corpus, relations=corpus.train_graph))
    assert run(replace(recipe, log_every=2), tmp_path, corpus) == 7


def test_uneven_batch_is_refused_before_anything(recipe, corpus, tmp_path):
    odd = replace(recipe, feed=replace(recipe.feed, batch_triplets=30))
    with pytest.raises(ValueError, match=r"30 does not divide over 8 devices; choose 24 or 32"):
        run(odd, tmp_path, corpus, devices=jax.devices())


def test_host_placement_trains_the_same(recipe, corpus, tmp_path):
    run(replace(recipe, steps=3), tmp_path / "device", corpus)
    hosted = replace(recipe, feed=replace(recipe.feed, placement="host"), steps=3)
    run(hosted, tmp_path / "host", corpus)
    one, other = losses(tmp_path / "device"), losses(tmp_path / "host")
    np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=1e-5)
