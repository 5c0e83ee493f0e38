"""GCML's recipes from the command line to a measured checkpoint, and its sweeps."""

import json
import shutil
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from experiments import gcml, gcml_batches, gcml_labels, gcml_levels, gcml_mining
from experiments.gcml_systems import NETWORK, base, labels, smart
from experiments.sweep import varied
from vidembed.__main__ import main
from vidembed.cli import launch
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.phases import open_feeds
from vidembed.engine.recipe import Retention
from vidembed.engine.step import state_shape
from vidembed.engine.train import train
from vidembed.feeds.labelled import LabelledVideos
from vidembed.graph.affinity import affinity_clusters
from vidembed.progress import Progress
from vidembed.recipes import gcml as gcml_recipes
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import RecipeChangedError, Workdir

ONE = [jax.devices()[0]]

SWEEPS = [gcml_batches.sweep, gcml_labels.sweep, gcml_levels.sweep, gcml_mining.sweep]
SMALL = ["--task.model.layers.hidden", "16", "--task.model.layers.size", "8", "--steps", "6"]
SMALL += ["--checkpoints.every-steps", "3", "--log-every", "1", "--evaluator.resamples", "40"]
BATCH = {
    "gcml": "--feed.batch-triplets",
    "gcl": "--feed.batch-videos",
    "cdml": "--feed.batch-triplets",
}


def data(paths):
    options = ["--corpus.table", paths.table, "--corpus.edges", paths.edges]
    return [*options, "--corpus.hierarchy", paths.hierarchy]


def embedded_videos(recipe):
    each = {"triplets": 3, "videos": 1}[recipe.feed.unit]
    return each * recipe.feed.examples


@pytest.mark.parametrize("system", ["gcml", "gcl", pytest.param("cdml", marks=pytest.mark.long)])
def test_a_system_trains_and_is_measured(system, clustered_paths, tmp_path, capfd):
    options = [*SMALL, *data(clustered_paths), BATCH[system], "32", "--evaluate-every", "3"]
    workdir = str(tmp_path / "run")
    assert main(["train", "gcml", system, "--workdir", workdir, *options]) == 0
    output = capfd.readouterr()
    notes = {"gcml": "sibling clusters at level 0", "gcl": "classes", "cdml": "videos"}
    assert notes[system] in output.out + output.err
    diary = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in diary]
    last = [line for line in lines if line["kind"] == "train"][-1]
    assert last["step"] == 6
    assert np.isfinite(last["loss"])
    shown = {"gcml": "survive_at/0", "gcl": "accuracy", "cdml": "sampled_survive"}
    assert shown[system] in last
    assert ("videos" if system == "gcl" else "triplets") + "_per_second" in last
    measured = [line for line in lines if line["kind"] == "evaluation"][-1]
    assert {"eval_to_eval/ndcg@60", "eval_to_eval/map", "eval_to_train/ndcg@10"} <= measured.keys()
    # Another job measures the best checkpoint, using only the work directory.
    assert main(["evaluate", "gcml", system, "--workdir", workdir, "--step", "best"]) == 0


def trained(recipe, path, corpus, *, steps):
    recipe = replace(recipe, steps=steps)
    workdir = Workdir(path)
    with StopFlag() as stop, workdir.lease() as lease:
        train(
            recipe,
            workdir,
            lease=lease,
            stop=stop,
            corpus=corpus,
            progress=Progress(quiet=True),
            devices=ONE,
        )
    shape = state_shape(recipe, open_feeds(recipe, corpus)[0].spec, make_mesh(MeshShape(), ONE))
    return Checkpoints(workdir.checkpoints, read_only=True).restore(steps, shape)


def tiny(system, paths):
    control = base(6, 32)
    recipe = smart(control) if system == "gcml" else labels(control)
    layers = replace(NETWORK.layers, hidden=(16,), size=8)
    recipe = varied(recipe, task={"model": replace(NETWORK, layers=layers)})
    return replace(recipe, corpus=paths, checkpoints=Retention(every_steps=3))


@pytest.mark.long
@pytest.mark.parametrize("system", ["gcml", "gcl"])
def test_resumed_equals_uninterrupted(system, clustered_paths, clustered, tmp_path):
    recipe = tiny(system, clustered_paths)
    whole = trained(recipe, tmp_path / "whole", clustered, steps=6)
    trained(recipe, tmp_path / "halves", clustered, steps=3)
    again = trained(recipe, tmp_path / "halves", clustered, steps=6)
    jax.tree.map(np.testing.assert_array_equal, whole, again)


@pytest.mark.fault(
    "Runs: resumed with other clusters",
    "1: the feed's digests; the same clusters at another path resume",
)
def test_a_run_resumes_only_with_the_same_clusters(clustered_paths, clustered, tmp_path):
    recipe = tiny("gcl", clustered_paths)
    trained(recipe, tmp_path / "run", clustered, steps=3)
    # Their path does not matter, neither for a run nor for its evaluation.
    moved = str(shutil.copy(clustered_paths.hierarchy, tmp_path / "moved.parquet"))
    elsewhere = replace(recipe, corpus=replace(clustered_paths, hierarchy=moved))
    trained(elsewhere, tmp_path / "run", clustered, steps=4)
    EvaluationJob(
        replace(recipe, steps=4),
        Evaluation(evaluators=(gcml.EVALUATOR,)),
        Workdir(tmp_path / "run"),
        corpus=clustered,
    )
    other_clusters = affinity_clusters(clustered.train_graph, clustered.is_train, rounds=3)
    assert other_clusters.fingerprint != clustered.hierarchy.fingerprint
    with pytest.raises(RecipeChangedError, match=r"data, feed: .*\n.*--corpus\.hierarchy"):
        trained(recipe, tmp_path / "run", replace(clustered, hierarchy=other_clusters), steps=6)


@pytest.mark.fault(
    "Relations and sessions: a level that does not exist, of clusters or of siblings",
)
@pytest.mark.fault(
    "Relations and sessions: a hierarchy of other videos, of another graph, not a hierarchy file",
)
@pytest.mark.parametrize(
    ("system", "given", "words"),
    [
        ("gcml", [], "set --corpus.hierarchy PATH, made by `python -m vidembed cluster`"),
        ("gcl", [], "set --corpus.hierarchy PATH, made by `python -m vidembed cluster`"),
        ("gcl", ["--corpus.split-seed", "5"], "was made from the train graph"),
        ("gcl", ["--feed.level", "4"], "1 to 3"),
        ("gcml", ["--feed.negatives.level", "9"], "level"),
        ("gcl", ["--feed.min-cluster-size", "1000"], "2 classes"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    system, given, words, clustered_paths, tmp_path, capfd
):
    # A case without its own fault is about missing clusters.
    paths = clustered_paths if given else replace(clustered_paths, hierarchy="")
    options = [*SMALL, *data(paths), BATCH[system], "32", *given]
    assert main(["train", "gcml", system, "--workdir", str(tmp_path / "run"), *options]) == 1
    assert words in capfd.readouterr().err
    assert not (tmp_path / "run" / "recipe.json").exists()


@pytest.mark.fault("Runs: a task and a feed that do not fit")
def test_a_task_is_refused_a_feed_that_it_cannot_learn_from():
    with pytest.raises(ValueError, match="ClusterLabels learns from videos, feed Triplets gives"):
        replace(gcml.cdml, task=ClusterLabels())
    with pytest.raises(ValueError, match="MetricLearning learns from triplets, feed Labelled"):
        replace(gcml.cdml, feed=LabelledVideos())


def test_the_first_word_must_be_a_system(capsys):
    for run in (main, partial(launch.main, name="gcml")):
        before = ["train", "gcml"] if run is main else []
        with pytest.raises(SystemExit) as ended:
            run(arguments=[*before, "gmcl", "train"])
        assert ended.value.code == 2
        assert "did you mean gcl?" in capsys.readouterr().err
        with pytest.raises(SystemExit) as ended:
            run(arguments=[*before, "--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert all(f"  {system}  " in text for system in gcml.RECIPES)


def test_the_presets_embed_as_many_videos_and_are_those_of_the_notes():
    assert [embedded_videos(recipe) for recipe in gcml.RECIPES.values()] == [3 * 9_600] * 3
    preset = gcml.gcml
    assert preset.task.loss.margin == 0.5
    assert preset.task.miner.inside_margin
    assert preset.optimiser.rate(300_000) == pytest.approx(0.1 * 0.98)
    assert gcml.EVALUATOR.directions[0] == "eval_to_eval"
    assert 60 in gcml.EVALUATOR.ks
    assert gcml_recipes.EVALUATION.evaluators == (gcml.EVALUATOR,)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_points_of_a_sweep_see_as_many_videos_and_differ_in_what_they_say(sweep):
    for steps, triplets in sweep.sizes.values():
        control = sweep.base(steps, triplets)
        points = sweep.points(control)
        assert points[sweep.reference] == control
        seen = {name: recipe.steps * embedded_videos(recipe) for name, recipe in points.items()}
        assert set(np.array(list(seen.values())) / seen[sweep.reference]) == {1.0}, seen
        assert len({repr(recipe) for recipe in points.values()}) == len(points)
        assert sweep.evaluator == gcml.EVALUATOR
        compared = {name for one in sweep.comparisons for name in one[:2]}
        assert compared | set(sweep.permuted) <= points.keys()


@pytest.mark.parametrize("triplets", [32, 128, 2048])
def test_a_base_with_the_size_of_a_point_compares_existing_points(triplets):
    control = gcml_batches.sweep.base(400, triplets)
    points = gcml_batches.sweep.points(control)
    comparisons = [set(comparison[:2]) for comparison in gcml_batches.sweep.compared(control)]
    assert f"cdml-{triplets}" not in points
    assert all(names <= points.keys() for names in comparisons)
    assert {"gcml", "cdml"} in comparisons


def test_a_name_means_one_recipe_in_all_sweeps():
    points = [sweep.points(sweep.base(400, 512)) for sweep in SWEEPS]
    for first in points:
        for second in points:
            assert all(first[name] == second[name] for name in first.keys() & second.keys())
