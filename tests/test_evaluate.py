"""The evaluation job: beside the trainer, on another mesh, restarted, and never twice."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import jax
import numpy as np
import pytest

from vidembed.checkpoint import CheckpointError
from vidembed.embedding import embed_table
from vidembed.evaluate import Evaluation, recipe_of
from vidembed.feeds.triplets import Triplets
from vidembed.mesh import MeshShape, make_mesh
from vidembed.models.fusion import LateFusion, Layers
from vidembed.optimiser import Optimiser
from vidembed.progress import Progress
from vidembed.recipe import Recipe, Retention
from vidembed.step import state_shape
from vidembed.stopping import StopFlag
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.train import train
from vidembed.workdir import Workdir

QUIET = Progress(quiet=True)
ONE = [jax.devices()[0]]


def small_recipe(corpus_paths):
    return Recipe(
        corpus=corpus_paths,
        task=MetricLearning(model=LateFusion(layers=Layers(hidden=(16,), size=8))),
        feed=Triplets(batch_triplets=32, read_threads=0, prefetch_batches=0),
        optimiser=Optimiser(learning_rate=1e-2),
        checkpoints=Retention(every_steps=5, keep_last=10),
        steps=10,
    )


def run(recipe, workdir, corpus):
    with StopFlag() as stop, workdir.lease() as lease:
        train(recipe, workdir, lease=lease, stop=stop, corpus=corpus, progress=QUIET, devices=ONE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, corpus_paths, corpus):
    workdir = Workdir(tmp_path_factory.mktemp("trained"))
    run(small_recipe(corpus_paths), workdir, corpus)
    return workdir


def evaluation_of(workdir, corpus, devices=ONE):
    mesh = make_mesh(MeshShape(), devices)
    return Evaluation(recipe_of(workdir), workdir, corpus=corpus, mesh=mesh, progress=QUIET)


def test_embeddings_are_the_same_in_blocks_and_on_any_mesh(trained, corpus):
    one = evaluation_of(trained, corpus)
    state = one.restore(10)
    whole = one.embed(state)
    assert whole.shape == (300, 8)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-5)
    task = recipe_of(trained).task
    with jax.set_mesh(one.mesh):
        blocks = embed_table(
            jax.jit(task.embed),
            *state.values(),
            corpus.table,
            task.model.modalities,
            mesh=one.mesh,
            block_rows=64,
        )
    np.testing.assert_allclose(blocks, whole, atol=1e-6)
    eight = evaluation_of(trained, corpus, jax.devices())
    np.testing.assert_allclose(eight.embed(eight.restore(10)), whole, atol=1e-6)


def test_a_result_names_what_made_it_and_the_best_is_pinned(trained, corpus):
    evaluation = evaluation_of(trained, corpus)
    results = {step: evaluation.measure(step) for step in (0, 10)}
    stored = json.loads(trained.evaluation_file(10).read_text())
    assert stored == json.loads(json.dumps(results[10]))
    assert stored["fingerprints"]["corpus"] == corpus.fingerprint
    assert stored["versions"]["jax"] == jax.__version__
    assert stored["recipe"] == json.loads(json.dumps(recipe_of(trained).to_json()))
    assert {"eval_to_train/ndcg@10", "train_to_eval/map"} <= stored["scores"].keys()
    name = "eval_to_train/ndcg@10"
    best = max(results, key=lambda step: results[step]["scores"][name]["value"])
    assert trained.best()[name]["step"] == best
    assert evaluation.step_named("best") == best
    assert trained.pinned() == {best}


def test_what_is_measured_is_not_measured_again(trained, corpus, monkeypatch):
    evaluation_of(trained, corpus).measure(10)
    again = evaluation_of(trained, corpus)
    monkeypatch.setattr(again, "restore", lambda step: pytest.fail("measured again"))
    again.measure(10)


def test_steps_have_names(trained, corpus):
    evaluation = evaluation_of(trained, corpus)
    assert evaluation.step_named("latest") == 10
    assert evaluation.step_named("5") == 5
    for wrong in ("7", "lates"):
        with pytest.raises(CheckpointError, match=r"choose latest, best or one of \[0, 5, 10\]"):
            evaluation.step_named(wrong)


def test_other_data_is_refused(trained, corpus):
    other = replace(corpus, is_train=~corpus.is_train)
    with pytest.raises(ValueError, match="was trained on data"):
        evaluation_of(trained, other)


def test_a_restart_pins_what_was_measured_but_not_pinned(trained, corpus):
    evaluation = evaluation_of(trained, corpus)
    results = [evaluation.measure(step) for step in (0, 5, 10)]
    name = "eval_to_train/ndcg@10"
    best = max(results, key=lambda result: result["scores"][name]["value"])["step"]
    trained.evaluation.joinpath("best.json").unlink()
    again = evaluation_of(trained, corpus)
    for step in (0, 5, 10):
        again.measure(step)
    assert trained.best()[name]["step"] == best


def test_the_average_is_what_is_evaluated(corpus_paths, corpus, tmp_path):
    recipe = small_recipe(corpus_paths)
    recipe = replace(recipe, optimiser=replace(recipe.optimiser, average_decay=0.5))
    workdir = Workdir(tmp_path)
    run(recipe, workdir, corpus)
    evaluation = evaluation_of(workdir, corpus)
    shape = state_shape(recipe, corpus.table.widths, evaluation.mesh)
    stored = evaluation.checkpoints.restore(10, shape)
    restored = evaluation.restore(10)["parameters"]
    name = "towers/0/layers/0/kernel"
    np.testing.assert_array_equal(restored[name], stored["average"][name])
    assert not np.allclose(stored["average"][name], stored["parameters"][name], atol=1e-4)


def test_missing_modalities_reach_the_network(trained, corpus):
    """A video without audio is embedded by its picture alone, whatever stands in its row."""
    evaluation = evaluation_of(trained, corpus)
    state = evaluation.restore(10)
    there = np.arange(300) % 3 != 0
    embedded = []
    for noise in (0, 255):
        audio = corpus.table.features["audio"].copy()
        audio[~there] = noise
        features = corpus.table.features | {"audio": audio}
        table = replace(corpus.table, features=features, present={"audio": there}, manifest={})
        evaluation.corpus = replace(corpus, table=table)
        embedded.append(evaluation.embed(state))
    np.testing.assert_array_equal(*embedded)
    evaluation.corpus = corpus
    whole = evaluation.embed(state)
    np.testing.assert_allclose(embedded[0][there], whole[there], atol=1e-6)
    assert not np.allclose(embedded[0][~there], whole[~there], atol=1e-3)


def test_an_empty_workdir_is_refused(tmp_path, corpus_paths, corpus):
    with pytest.raises(ValueError, match=r"no recipe.json"):
        recipe_of(Workdir(tmp_path))
    evaluation = Evaluation(small_recipe(corpus_paths), Workdir(tmp_path), corpus=corpus)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        evaluation.step_named("latest")


def test_follower_measures_every_checkpoint_until_done(tmp_path, corpus_paths, corpus):
    """The trainer keeps one checkpoint only, and yet none is deleted before it is measured."""
    workdir = Workdir(tmp_path)
    recipe = replace(
        small_recipe(corpus_paths), checkpoints=Retention(every_steps=2, keep_last=1), steps=8
    )
    workdir.create()
    measured = []

    def follow():
        while workdir.read_recipe() is None:
            time.sleep(0.05)
        evaluation_of(workdir, corpus).follow(lambda result: measured.append(result["step"]))

    with workdir.attach_follower():
        job = threading.Thread(target=follow)
        job.start()
        run(recipe, workdir, corpus)
        job.join(90)
    assert not job.is_alive()
    assert sorted(measured) == [0, 2, 4, 6, 8]
    assert workdir.measured_steps() == {0, 2, 4, 6, 8}


def test_the_job_runs_in_another_process_and_resumes(trained, corpus):
    command = [sys.executable, "-m", "experiments.cdml", "evaluate"]
    done = subprocess.run(
        [*command, "--workdir", str(trained), "--follow"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert trained.measured_steps() == {0, 5, 10}
    assert "eval_to_train/ndcg@10" in done.stdout


def test_a_damaged_checkpoint_is_said_and_the_others_are_measured(tmp_path, corpus_paths, corpus):
    workdir = Workdir(tmp_path)
    run(small_recipe(corpus_paths), workdir, corpus)
    record = workdir.checkpoints / "5" / "meta" / "metadata"
    record.write_text(record.read_text().replace('"step": 5', '"step": 6'))
    seen = []
    damaged = evaluation_of(workdir, corpus).follow(lambda result: seen.append(result["step"]))
    assert damaged == [5]
    assert seen == [0, 10]
