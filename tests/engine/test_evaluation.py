"""An evaluation is a file beside the recipe; a model is of the work directory alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.evaluation import Evaluation, evaluation_of, recipe_of, store_evaluation
from vidembed.engine.init_from import resolve, warnings_of
from vidembed.engine.measured import values_of_all
from vidembed.engine.model import Model, load_model
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.triplets import Triplets
from vidembed.losses.softmax import SampledSoftmax
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.records.table import FeatureTable
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.spec import Spec
from vidembed.workdir.checkpoints.store import CheckpointError, Checkpoints
from vidembed.workdir.layout import Workdir

OLD = Path(__file__).parents[1] / "recorded" / "old_recipe.json"
"""recipe.json as it was stored when an evaluator was a field of the recipe."""
QUIET = Progress(quiet=True)
ONE = jax.devices()[:1]
MODEL = LateFusion(layers=Layers(hidden=(16,), size=8))
USUAL, DEEP = RelatedVideos(), RelatedVideos(ks=(3, 20))


def small(corpus_paths):
    """What `OLD` says."""
    return Recipe(
        corpus=corpus_paths,
        task=MetricLearning(model=MODEL),
        feed=Triplets(batch_triplets=32, read_threads=0, prefetch_batches=0),
        optimiser=Optimiser(learning_rate=1e-2),
        checkpoints=Retention(every_steps=3, keep_last=10),
        steps=3,
    )


def run(recipe, path, corpus=None, evaluation=None):
    workdir = Workdir(path)
    with StopFlag() as stop, workdir.lease() as lease:
        options = {"lease": lease, "stop": stop, "progress": QUIET, "devices": ONE}
        train(recipe, workdir, corpus=corpus, evaluation=evaluation, **options)
    return workdir


def job_of(workdir, *evaluators, corpus=None, recipe=None, select=0):
    return EvaluationJob(
        recipe or recipe_of(workdir),
        Evaluation(evaluators=evaluators, select=select),
        workdir,
        corpus=corpus,
        mesh=make_mesh(MeshShape(), ONE),
        progress=QUIET,
    )


@pytest.fixture(scope="module")
def once(tmp_path_factory, corpus_paths, corpus):
    evaluation = Evaluation(evaluators=(USUAL,))
    path = tmp_path_factory.mktemp("run") / "run"
    return run(small(corpus_paths), path, corpus, evaluation)


@pytest.fixture
def trained(once, tmp_path):
    return Workdir(shutil.copytree(once.path, tmp_path / "run"))


def test_another_evaluator_is_added_and_takes_nothing_away(trained, corpus):
    assert evaluation_of(trained) == Evaluation(evaluators=(USUAL,))
    assert "evaluator" not in trained.read_recipe()["recipe"]
    [usual] = job_of(trained, USUAL, corpus=corpus).measure(3)
    recipe = trained.recipe_file.read_bytes()
    both = Evaluation(evaluators=(USUAL, DEEP), select=1)
    store_evaluation(trained, both)
    assert evaluation_of(trained) == both
    job = job_of(trained, *both.evaluators, corpus=corpus, select=1)
    first, second = job.measure(3)
    assert first == json.loads(json.dumps(usual))
    assert "eval_to_train/ndcg@20" in second["scores"]
    assert "eval_to_train/ndcg@20" not in first["scores"]
    assert len(trained.all_measurements()) == 2
    assert trained.recipe_file.read_bytes() == recipe
    # Its number compares the checkpoints; the journal has the scores of both.
    assert job.selecting.measurements.best()["metric"].startswith("mean of ndcg@3 over")
    values = values_of_all([first, second])
    assert values.keys() == first["scores"].keys() | second["scores"].keys()


def test_two_are_measured_at_once_and_the_first_that_is_asked_for_selects(trained, corpus):
    job = job_of(trained, USUAL, DEEP, corpus=corpus)
    with pytest.raises(CheckpointError, match="measured nothing yet"):
        job.step_named("best")
    seen = []
    assert job.follow(lambda results: seen.append([r["step"] for r in results])) == []
    assert seen == [[0, 0], [3, 3]]
    assert [one.measurements.steps() for one in job.each] == [{0, 3}, {0, 3}]
    assert job.each[1].best() is None
    assert trained.pinned() == {job.step_named("best")}
    with pytest.raises(ValueError, match="select 2 is not an index of the 2 evaluators"):
        Evaluation(evaluators=(USUAL, DEEP), select=2)


def test_a_model_is_loaded_where_the_data_are_no_more(corpus_paths, corpus, tmp_path):
    tables = [shutil.copytree(corpus_paths.table, tmp_path / name) for name in ("table", "new")]
    paths = replace(corpus_paths, table=str(tables[0]))
    workdir = run(small(paths), tmp_path / "run")
    expected = job_of(workdir, USUAL).model(3)["video"](corpus.table)
    shutil.rmtree(tables[0])
    model = load_model(workdir, "latest", mesh=make_mesh(MeshShape(), ONE))
    assert (list(model), model.step) == (["video"], 3)
    vectors = model["video"](FeatureTable.open(str(tables[1])))
    np.testing.assert_array_equal(vectors, expected)
    rows = np.array([7, 0, 299])
    np.testing.assert_allclose(model["video"](corpus.table, rows), expected[rows], atol=1e-6)
    with pytest.raises(CheckpointError, match="nothing is evaluated yet, so no step is the best"):
        load_model(workdir)


def test_cluster_labels_are_measured_without_clusters_and_their_table_of_classes_is_not_read(
    clustered_paths, tmp_path, monkeypatch
):
    hierarchy = Path(shutil.copy(clustered_paths.hierarchy, tmp_path / "h.parquet"))
    task = ClusterLabels(model=MODEL, loss=SampledSoftmax(samples=8))
    paths = replace(clustered_paths, hierarchy=str(hierarchy))
    feed = LabelledVideos(batch_videos=32)
    recipe = replace(small(paths), task=task, feed=feed)
    workdir = run(recipe, tmp_path / "run")
    hierarchy.unlink()
    read = []
    restore = Checkpoints.restore

    def watched(self, step, like, *, only=None):
        read.extend(like)
        assert only is not None
        return restore(self, step, like, only=only)

    monkeypatch.setattr(Checkpoints, "restore", watched)
    without = recipe
    [result] = job_of(workdir, USUAL, recipe=without).measure(3)
    assert result["scores"]["eval_to_train/ndcg@10"]["value"] > 0
    assert read
    assert all(name.startswith(("parameters/towers/", "state/inputs/")) for name in read)


def as_before(trained, corpus_paths):
    """The work directory as the version that stored `OLD` would have left it."""
    stored, old = trained.read_recipe(), json.loads(OLD.read_text())
    old["recipe"]["corpus"] |= {"table": corpus_paths.table, "edges": corpus_paths.edges}
    trained.recipe_file.write_text(json.dumps(old | {"fingerprints": stored["fingerprints"]}))
    trained.evaluation_file.unlink()
    return trained


def test_an_old_run_is_read_measured_and_goes_on(trained, corpus_paths, corpus, tmp_path):
    old = as_before(trained, corpus_paths)
    recipe = recipe_of(old)
    assert recipe == small(corpus_paths)
    assert evaluation_of(old) == Evaluation(evaluators=(USUAL,))
    with pytest.raises(ValueError, match=r"did not store the sizes .*\(--steps\)"):
        load_model(old, "latest")
    [result] = job_of(old, USUAL, corpus=corpus).measure(3)
    assert old.measurements(USUAL.identity()).best()["step"] == 3
    assert result["scores"]["eval_to_train/ndcg@10"]["value"] > 0
    longer = replace(recipe, steps=6)
    run(longer, old.path, corpus)
    run(longer, tmp_path / "whole", corpus)
    # What it was measured by is kept, and the sizes are stored now.
    assert evaluation_of(old) == Evaluation(evaluators=(USUAL,))
    assert old.read_recipe()["history"][0]["changes"] == ["steps: 3 -> 6"]
    vectors = [
        load_model(w, "latest")["video"](corpus.table) for w in (old, Workdir(tmp_path / "whole"))
    ]
    np.testing.assert_array_equal(*vectors)


def test_a_run_that_goes_on_unchanged_stores_its_sizes_too(trained, corpus_paths, corpus):
    old = as_before(trained, corpus_paths)
    run(recipe_of(old), old.path, corpus)
    assert load_model(old, "latest").step == 3
    assert old.read_recipe()["history"][0]["changes"] == []


def test_vectors_of_other_data_or_steps_are_of_other_spaces(trained, corpus, monkeypatch):
    job, stored = job_of(trained, USUAL, corpus=corpus), trained.read_recipe()
    [result] = job.measure(3)
    known = result["spaces"]
    assert known["inputs"] == dict(corpus.space)
    assert job.model(0).space("video", corpus.space) != known["video"]
    recipe, mesh = recipe_of(trained), make_mesh(MeshShape(), ONE)
    spaces = []
    for change in ({}, {"fingerprints": {"corpus": "others"}}, {"init_from": "run@3"}):
        model = Model(recipe, Spec(widths=corpus.table.widths), mesh, stored=stored | change)
        model.step = 3
        spaces.append(model.space("video", corpus.space))
    assert spaces[0] == known["video"]
    assert len(set(spaces)) == 3
    # A field that a later version adds to recipes changes no space.
    added = recipe.to_json() | {"added": 1}
    monkeypatch.setattr(Recipe, "to_json", lambda _: added)
    assert model.space("video", corpus.space) == spaces[-1]


def test_a_source_that_does_not_fit_is_refused_before_the_run_is_begun(
    once, corpus_paths, tmp_path
):
    wider = MetricLearning(model=LateFusion(layers=Layers(hidden=(24,), size=8)))
    recipe = replace(small(corpus_paths), task=wider, init_from=str(once.path))
    with pytest.raises(ValueError, match=r"(?s)\[8, 16\] there, .* here, .*Give --init-partial"):
        run(recipe, tmp_path / "new")
    assert Workdir(tmp_path / "new").read_recipe() is None
    admitted = run(replace(recipe, init_partial=True), tmp_path / "new")
    assert admitted.read_recipe()["init_from"] == f"{once.path}@3"
    # Another split may have trained on what is for testing here.
    source = resolve(str(once.path))
    moved = replace(recipe, corpus=replace(corpus_paths, split_seed=9))
    [warning] = warnings_of(moved, source)
    assert "used another split (split_seed)" in warning
    assert warnings_of(recipe, source) == []
