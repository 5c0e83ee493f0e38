"""The evaluation job: beside the trainer, on another mesh, restarted, and never twice."""

import errno
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from unittest.mock import ANY, Mock

import jax
import numpy as np
import pytest

from vidembed import files
from vidembed.cli.run_report import evaluations_of, other_evaluators
from vidembed.cli.scoreboard import Scoreboard
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.distributed.stopping import StopFlag
from vidembed.engine import measured as measuring
from vidembed.engine import model as models
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.evaluation import Evaluation, recipe_of
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.step import state_shape
from vidembed.engine.train import train
from vidembed.engine.watching import TrainerGoneError, await_run
from vidembed.evaluators.baselines import STANDARDISED, raw_features
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.triplets import Triplets
from vidembed.graph.affinity import affinity_clusters
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.records.scores_file import read_scores
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.spec import Spec
from vidembed.workdir.checkpoints.store import CheckpointError
from vidembed.workdir.layout import RecipeChangedError, Workdir
from vidembed.workdir.lease import this_process
from vidembed.workdir.measurements import Measurements

QUIET = Progress(quiet=True)
NDCG = "eval_to_train/ndcg@10"
EVALUATION = Evaluation(evaluators=(RelatedVideos(),))
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
        options = {"lease": lease, "stop": stop, "progress": QUIET, "devices": ONE}
        train(recipe, workdir, corpus=corpus, evaluation=EVALUATION, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, corpus_paths, corpus):
    workdir = Workdir(tmp_path_factory.mktemp("trained"))
    run(small_recipe(corpus_paths), workdir, corpus)
    return workdir


def job_of(workdir, corpus, devices=ONE, **evaluator):
    mesh = make_mesh(MeshShape(), devices)
    evaluation = Evaluation(evaluators=(RelatedVideos(**evaluator),))
    recipe = recipe_of(workdir)
    return EvaluationJob(recipe, evaluation, workdir, corpus=corpus, mesh=mesh, progress=QUIET)


def measure(job, step):
    [result] = job.measure(step)
    return result


def mean_ndcg(result):
    """The selection number, by hand."""
    scores = result["scores"]
    return (scores[NDCG]["value"] + scores["train_to_eval/ndcg@10"]["value"]) / 2


def measured(workdir):
    return workdir.measurements(RelatedVideos().identity())


def test_embeddings_are_the_same_in_blocks_and_on_any_mesh(trained, corpus, monkeypatch):
    whole = job_of(trained, corpus).model(10)["video"](corpus.table)
    assert whole.shape == (300, 8)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-5)
    eight = job_of(trained, corpus, jax.devices())
    np.testing.assert_allclose(eight.model(10)["video"](corpus.table), whole, atol=1e-6)
    monkeypatch.setattr(models, "BLOCK_ROWS", 64)
    blocks = job_of(trained, corpus).model(10)["video"](corpus.table)
    np.testing.assert_allclose(blocks, whole, atol=1e-6)


def test_rows_of_like_length_are_embedded_together(trained, corpus, monkeypatch):
    model = job_of(trained, corpus).model(10)
    whole = model["video"](corpus.table)
    lengths = np.random.default_rng(0).integers(1, 9, 300)
    output, read = model._outputs["video"], []

    def read_and_noted(source, rows):
        read.append(lengths[rows])
        return output.read(source, rows)

    ragged = replace(output, read=read_and_noted, lengths=lambda source, rows: lengths[rows])
    monkeypatch.setattr(models, "SORTED_ROWS", 64)
    monkeypatch.setitem(model._outputs, "video", ragged)
    some = np.random.default_rng(1).permutation(300)[:200]
    np.testing.assert_allclose(model["video"](corpus.table, some), whole[some], atol=1e-6)
    in_blocks = np.concatenate(read[1:])  # the first reads one row, for its size
    assert len(in_blocks) == 256
    assert (np.diff(in_blocks) <= 0).all()


def test_a_result_names_what_made_it_and_the_best_is_pinned(trained, corpus):
    evaluation = job_of(trained, corpus)
    results = {step: measure(evaluation, step) for step in (0, 10)}
    stored = json.loads((measured(trained).folder / "10.json").read_text())
    assert stored == json.loads(json.dumps(results[10]))
    assert stored["fingerprints"]["corpus"] == corpus.rows
    assert stored["versions"]["jax"] == jax.__version__
    assert stored["recipe"] == json.loads(json.dumps(recipe_of(trained).to_json()))
    assert {"eval_to_train/ndcg@10", "train_to_eval/map"} <= stored["scores"].keys()
    best = max(results, key=lambda step: results[step]["selection"]["value"])
    assert measured(trained).best() == {
        "step": best,
        "metric": "mean of ndcg@10 over eval_to_train, train_to_eval",
        "value": pytest.approx(mean_ndcg(results[best])),
    }
    assert evaluation.step_named("best") == best
    assert trained.pinned() == {best}


def test_what_is_measured_is_not_measured_again(trained, corpus, monkeypatch):
    measure(job_of(trained, corpus), 10)
    again = job_of(trained, corpus)
    monkeypatch.setattr(again, "model", lambda step: pytest.fail("measured again"))
    measure(again, 10)


def test_another_evaluator_measures_for_itself(trained, corpus, monkeypatch):
    usual = job_of(trained, corpus)
    results = {step: measure(usual, step) for step in (0, 10)}
    other = job_of(trained, corpus, ks=(3, 20))
    with pytest.raises(CheckpointError, match="this evaluator has measured nothing yet"):
        other.step_named("best")
    worse = measure(other, min(results, key=lambda step: mean_ndcg(results[step])))
    assert {"eval_to_train/ndcg@3", "eval_to_train/ndcg@20"} <= worse["scores"].keys()
    assert NDCG not in worse["scores"]
    # Each finds its own best, of what it has measured, and both are pinned.
    assert usual.step_named("best") == measured(trained).best()["step"] != worse["step"]
    assert other.step_named("best") == worse["step"]
    assert other.selecting.measurements.best()["metric"].startswith("mean of ndcg@3 over")
    assert trained.pinned() == {usual.step_named("best"), worse["step"]}
    # Both results are there, and neither is measured again.
    assert measured(trained).read(worse["step"])["scores"].keys() >= {NDCG}
    again = job_of(trained, corpus, ks=(3, 20))
    monkeypatch.setattr(again, "model", lambda step: pytest.fail("measured again"))
    assert measure(again, worse["step"]) == json.loads(json.dumps(worse))


def test_reports_read_one_evaluator_and_name_the_others(trained, corpus):
    usual, other = job_of(trained, corpus), job_of(trained, corpus, ks=(4,))
    for evaluation, step in ((usual, 0), (usual, 10), (other, 5)):
        measure(evaluation, step)
    assert {0, 10} <= {result["step"] for result in evaluations_of(trained, RelatedVideos())}
    assert all(NDCG in result["scores"] for result in evaluations_of(trained, RelatedVideos()))
    [only] = evaluations_of(trained, other.selecting.evaluator)
    assert only["step"] == 5
    assert "eval_to_train/ndcg@4" in only["scores"]
    [line] = [line for line in other_evaluators(usual) if "ks [4]" in line]
    assert line.startswith("not in the report: 1 steps")
    assert str(other.selecting.measurements.folder) in line
    assert not any("ks [4]" in line for line in other_evaluators(other))
    assert any("ks [10]" in line for line in other_evaluators(other))


def test_a_record_of_before_there_were_directions_had_the_usual_ones(trained, corpus):
    new = ("eval_to_eval", "train_to_eval")
    usual, other = job_of(trained, corpus), job_of(trained, corpus, directions=new)
    measure(usual, 10)
    scores = measure(other, 10)["scores"]
    assert next(iter(scores)) == "eval_to_eval/ndcg@10"
    metric = other.selecting.measurements.best()["metric"]
    assert metric == "mean of ndcg@10 over eval_to_eval, train_to_eval"
    stored = usual.selecting.measurements.read(10)
    del stored["evaluator"]["directions"]
    usual.selecting.measurements.write(
        10, stored, {"trained": usual.selecting.measurements.read_per_query(10)}
    )
    own = [
        line for line in other_evaluators(other) if str(usual.selecting.measurements.folder) in line
    ]
    assert "(directions ['eval_to_train', 'train_to_eval'])" in own[0]


@pytest.mark.parametrize("change", [{"seed": 9}, {"steps": 3}, {"log_every": 7}])
def test_a_recipe_that_was_not_trained_is_refused(change, trained, corpus):
    """What may change when a run goes on is not for its evaluation to change."""
    recipe = recipe_of(trained)
    [(name, value)] = change.items()
    words = f"--{name.replace('_', '-')}: stored {getattr(recipe, name)}, given {value}"
    with pytest.raises(RecipeChangedError, match=words):
        EvaluationJob(replace(recipe, **change), EVALUATION, trained, corpus=corpus, progress=QUIET)


def test_the_queries_of_a_block_make_no_other_evaluator(trained, corpus, monkeypatch):
    usual = job_of(trained, corpus)
    result = json.loads(json.dumps(measure(usual, 10)))
    other = job_of(trained, corpus, block=7)
    assert other.selecting.evaluator != usual.selecting.evaluator
    monkeypatch.setattr(other, "model", lambda step: pytest.fail("measured again"))
    assert measure(other, 10) == result


def test_queries_are_counted(trained, corpus):
    asked = measure(job_of(trained, corpus), 10)["queries"]
    related = corpus.relations.matrix().toarray() > 0
    for direction, side in (
        ("eval_to_train", ~corpus.is_train),
        ("train_to_eval", corpus.is_train),
    ):
        having = related[side][:, ~side].any(axis=1)
        assert asked[direction] == {
            "queries": int(having.sum()),
            "left_out": int((~having).sum()),
        }


def test_steps_have_names(trained, corpus):
    evaluation = job_of(trained, corpus)
    assert evaluation.step_named("latest") == 10
    assert evaluation.step_named("5") == 5
    for wrong in ("7", "lates"):
        with pytest.raises(CheckpointError, match=r"choose latest, best or one of \[0, 5, 10\]"):
            evaluation.step_named(wrong)


def test_other_data_is_refused(trained, corpus):
    other = replace(corpus, is_train=~corpus.is_train)
    with pytest.raises(ValueError, match=r"have changed since .* was trained"):
        job_of(trained, other)


@pytest.mark.fault("Runs: hosts with other options, data or clusters")
def test_hosts_that_measure_compare_data_and_classes(
    clustered_paths, clustered, tmp_path, monkeypatch
):
    compared = []
    monkeypatch.setattr("vidembed.engine.evaluate.agree", compared.append)
    recipe = replace(
        small_recipe(clustered_paths), task=ClusterLabels(), feed=LabelledVideos(batch_videos=32)
    )
    other = affinity_clusters(clustered.train_graph, clustered.is_train, max_size=3)
    for corpus in (clustered, replace(clustered, hierarchy=other)):
        EvaluationJob(recipe, EVALUATION, Workdir(tmp_path), corpus=corpus, progress=QUIET)
    data, sizes, *others = compared
    assert others == [data, ANY]
    assert clustered.rows in data.values()
    [name] = sizes
    assert "classes of --corpus.hierarchy" in name
    assert sizes[name] | {"classes": 0} == others[1][name] | {"classes": 0} != sizes[name]


def test_a_restart_pins_what_was_measured_but_not_pinned(trained, corpus):
    evaluation = job_of(trained, corpus)
    results = [measure(evaluation, step) for step in (0, 5, 10)]
    best = max(results, key=mean_ndcg)["step"]
    measured(trained).folder.joinpath("best.json").unlink()
    again = job_of(trained, corpus)
    for step in (0, 5, 10):
        measure(again, step)
    assert measured(trained).best()["step"] == best


@pytest.mark.fault(
    "Runs: `best.json` of an older version, by another metric",
    "compared anew, of all measured checkpoints that are still there",
)
def test_a_best_by_another_metric_is_not_compared_with_the_selection_number(trained, corpus):
    """As an older version left it, by the first direction alone: all that is there is compared."""
    evaluation = job_of(trained, corpus)
    results = [measure(evaluation, step) for step in (0, 5, 10)]
    best = max(results, key=mean_ndcg)
    for step in (0, 5, 10):
        measured(trained).pin(step, NDCG, 0.99)
        # What is measured anyway is enough to see it, whichever it is.
        measure(job_of(trained, corpus), 0)
        assert measured(trained).best() == {
            "step": best["step"],
            "metric": best["selection"]["name"],
            "value": best["selection"]["value"],
        }
    # One whose checkpoint is gone cannot be the best that is kept.
    measured(trained).pin(0, NDCG, 0.99)
    gone = job_of(trained, corpus)
    gone.checkpoints.steps = lambda: [step for step in (0, 5, 10) if step != best["step"]]
    measure(gone, 0)
    assert measured(trained).best()["step"] in {0, 5, 10} - {best["step"]}


def test_every_query_is_kept_with_the_id_of_its_video(trained, corpus):
    evaluation = job_of(trained, corpus)
    result = measure(evaluation, 10)
    kept = measured(trained).read_per_query(10)
    assert list(kept) == list(result["queries"])
    for direction, found in kept.items():
        asking = corpus.is_train if direction == "train_to_eval" else ~corpus.is_train
        having = asking & (corpus.relevance.degrees() > 0)
        assert found.ids.tolist() == corpus.table.ids[having].tolist()
        for metric, values in found.values.items():
            assert values.mean() == result["scores"][f"{direction}/{metric}"]["value"]
    assert measured(trained).read_per_query(7) is None


def test_a_step_counts_as_measured_only_with_its_queries(trained, corpus, monkeypatch):
    evaluation = job_of(trained, corpus, ks=(2,))
    write = files.write_bytes

    def full_for_queries(path, data):
        if str(path).endswith(".parquet"):
            raise OSError(28, "No space left on device", str(path))
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", full_for_queries)
        with pytest.raises(OSError, match="No space"):
            measure(evaluation, 10)
    assert evaluation.selecting.measurements.steps() == set()
    measure(evaluation, 10)
    assert evaluation.selecting.measurements.steps() == {10}
    assert evaluation.selecting.measurements.read_per_query(10)


def test_baselines_are_measured_once_for_all_steps(trained, corpus, monkeypatch):
    evaluation = job_of(trained, corpus)
    record = evaluation.selecting.baselines()
    raw_visual = {"video": lambda table: raw_features(table, ("visual",))}
    visual = RelatedVideos().run(raw_visual, corpus, mesh=evaluation.mesh)
    assert record["systems"]["visual"] == measuring._scores(visual)
    raw = {"visual", "audio", "concatenated"}
    features = raw | {name + STANDARDISED for name in raw}
    assert record["systems"].keys() == features | {"closed_form", "popularity", "random"}
    per_query = read_scores(evaluation.selecting.measurements.folder / "baselines.parquet")
    values = per_query["popularity"]["train_to_eval"].values["map"]
    assert values.mean() == record["systems"]["popularity"]["train_to_eval/map"]["value"]
    again = job_of(trained, corpus)

    def forbid(*_, **__):
        pytest.fail("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(RelatedVideos, "baselines", forbid)
        assert again.selecting.baselines() == json.loads(json.dumps(record))
    # Of other data they are measured anew.
    stored = record | {"fingerprints": {"corpus": "other"}, "systems": {}}
    evaluation.selecting.measurements.write("baselines", stored, per_query)
    assert job_of(trained, corpus).selecting.baselines()["systems"] == record["systems"]


def test_the_average_is_what_is_evaluated(corpus_paths, corpus, tmp_path):
    recipe = small_recipe(corpus_paths)
    recipe = replace(recipe, optimiser=replace(recipe.optimiser, average_decay=0.5))
    workdir = Workdir(tmp_path)
    run(recipe, workdir, corpus)
    evaluation = job_of(workdir, corpus)
    shape = state_shape(recipe, Spec(widths=corpus.table.widths), evaluation.mesh)
    stored = evaluation.checkpoints.restore(10, shape)
    parts = evaluation.model(10).arrays("video")
    name = "towers/0/layers/0/kernel"
    np.testing.assert_array_equal(parts["parameters"][name], stored["average"][name])
    assert not np.allclose(stored["average"][name], stored["parameters"][name], atol=1e-4)


def test_missing_modalities_reach_the_network(trained, corpus):
    """A video without audio is embedded by its picture alone, whatever stands in its row."""
    embed = job_of(trained, corpus).model(10)["video"]
    there = np.arange(300) % 3 != 0
    embedded = []
    for noise in (0, 255):
        audio = corpus.table.features["audio"].copy()
        audio[~there] = noise
        features = corpus.table.features | {"audio": audio}
        table = replace(corpus.table, features=features, present={"audio": there}, manifest={})
        embedded.append(embed(table))
    np.testing.assert_array_equal(*embedded)
    whole = embed(corpus.table)
    np.testing.assert_allclose(embedded[0][there], whole[there], atol=1e-6)
    assert not np.allclose(embedded[0][~there], whole[~there], atol=1e-3)


def test_an_empty_workdir_is_refused(tmp_path, corpus_paths, corpus):
    with pytest.raises(ValueError, match=r"no recipe.json"):
        recipe_of(Workdir(tmp_path))
    recipe = small_recipe(corpus_paths)
    evaluation = EvaluationJob(recipe, EVALUATION, Workdir(tmp_path), corpus=corpus)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        evaluation.step_named("latest")


@pytest.mark.fault(
    "Runs: a run extended while a follower starts",
    "the follower goes on to the new end; no step is deleted unmeasured",
)
def test_a_follower_of_an_extended_run_goes_on_to_its_new_end(tmp_path, corpus_paths, corpus):
    """It starts while the trainer that goes on still reads its data, and DONE is of the end before.
    The trainer keeps one checkpoint only, and yet none is deleted before it is measured."""
    workdir = Workdir(tmp_path)
    short = replace(
        small_recipe(corpus_paths), checkpoints=Retention(every_steps=5, keep_last=1), steps=5
    )
    run(short, workdir, corpus)
    leased, followed, seen = threading.Event(), threading.Event(), []

    def extend():
        with workdir.lease() as lease:
            leased.set()
            followed.wait(60)  # as long as reading takes
            train(
                replace(short, steps=20),
                workdir,
                lease=lease,
                stop=StopFlag(),
                corpus=corpus,
                progress=QUIET,
                devices=ONE,
            )

    trainer = threading.Thread(target=extend)
    trainer.start()
    try:
        assert leased.wait(60)
        assert workdir.done() == 5
        stop = StopFlag()
        stop.sleep = lambda seconds: followed.set() or time.sleep(0.05)
        evaluation = job_of(workdir, corpus)
        evaluation.follow(lambda results: seen.append(results[0]["step"]), stop)
    finally:
        followed.set()
        trainer.join(90)
    assert not trainer.is_alive()
    assert seen == [5, 10, 15, 20]
    # It was opened on a run of 5 steps.
    assert evaluation.last_step() == 20
    assert measured(workdir).read(20)["recipe"]["steps"] == 20


@pytest.mark.parametrize("known", [True, False])
def test_all_hosts_list_the_checkpoints_alike(trained, corpus, known, monkeypatch):
    """That is done together, so that a host which lists once more waits for the others for ever;
    also where a best of another metric is replaced, which the first host does."""
    calls = []
    for first in (True, False):
        evaluation = job_of(trained, corpus)
        measured(trained).pin(10, NDCG, 0.99)
        monkeypatch.setattr(measuring, "is_first_host", lambda first=first: first)
        if not known:
            monkeypatch.setattr(evaluation.selecting.measurements, "read", lambda step: None)
        steps = Mock(wraps=evaluation.checkpoints.steps)
        monkeypatch.setattr(evaluation.checkpoints, "steps", steps)
        measure(evaluation, 10)
        calls.append(steps.call_count)
    assert calls[0] == calls[1] > 0


@pytest.mark.long
def test_the_job_runs_in_another_process_and_resumes(trained, corpus):
    command = [sys.executable, "-m", "experiments.cdml", "evaluate"]
    done = subprocess.run(
        [*command, "--workdir", str(trained), "--follow"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert measured(trained).steps() == {0, 5, 10}
    assert "NDCG@10, new → known" in done.stdout


def test_a_damaged_checkpoint_is_said_and_the_others_are_measured(tmp_path, corpus_paths, corpus):
    workdir = Workdir(tmp_path)
    run(small_recipe(corpus_paths), workdir, corpus)
    record = workdir.checkpoints / "5" / "meta" / "metadata"
    record.write_text(record.read_text().replace('"step": 5', '"step": 6'))
    seen = []
    damaged = job_of(workdir, corpus).follow(lambda results: seen.append(results[0]["step"]))
    assert damaged == [5]
    assert seen == [0, 10]


def test_a_follower_says_once_that_it_waits(tmp_path, corpus_paths, corpus, capsys):
    workdir = Workdir(tmp_path)
    run(small_recipe(corpus_paths), workdir, corpus)
    workdir.clear_done()  # as while training goes on
    job = job_of(workdir, corpus)
    job.progress = Progress()
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            workdir.mark_done(10)

    stop = StopFlag()
    stop.sleep = nap
    seen = []
    job.follow(lambda results: seen.append(results[0]["step"]), stop)
    assert seen == [0, 5, 10]
    assert len(naps) == 3
    assert capsys.readouterr().out.count(f"waiting for checkpoints of {workdir}") == 1


@pytest.mark.fault(
    "Runs: the trainer of a follower is gone",
    "a WARNING at once; after `--patience-seconds` 1: who was last there, and what to start",
)
def test_a_follower_notices_that_its_trainer_is_gone(tmp_path, corpus_paths, corpus, capsys):
    """Says so at once, waits for it to come back, and ends."""
    workdir = Workdir(tmp_path)
    run(small_recipe(corpus_paths), workdir, corpus)
    workdir.clear_done()
    owner = this_process() | {"token": "", "beat": time.time()}
    files.write_json(workdir.lease_file, owner | {"started": "before"})
    job, seen, stop = job_of(workdir, corpus), [], StopFlag()
    job.progress, stop.sleep = Progress(), lambda seconds: time.sleep(0.02)
    with pytest.raises(
        TrainerGoneError, match=r"no training was active there for 0 s: process .* is gone"
    ):
        job.follow(lambda results: seen.append(results[0]["step"]), stop, patience_seconds=0.1)
    assert seen == [0, 5, 10]
    assert capsys.readouterr().out.count("WARNING: no training is active in") == 1
    assert not list(workdir.evaluation.glob("*/follower.json"))


@pytest.mark.fault(
    "Runs: a follower started before its training",
    "it says that it waits, and takes up the recipe of the training",
)
def test_a_follower_may_be_started_before_its_trainer(tmp_path, corpus_paths, corpus, capsys):
    workdir, naps = Workdir(tmp_path), []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            workdir.claim_recipe(small_recipe(corpus_paths).to_json(), {})

    await_run(workdir, Progress().say, nap, patience_seconds=60)
    assert len(naps) == 3
    await_run(workdir, pytest.fail, pytest.fail, patience_seconds=60)
    assert capsys.readouterr().out.count("waiting 60 s for a training to begin in") == 1
    nowhere = Workdir(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no training has begun in .*nowhere within 0 s"):
        await_run(nowhere, Progress().say, time.sleep, patience_seconds=0)


@pytest.mark.fault(
    "Runs: what was measured cannot be written",
    "it is printed before, scores and baselines",
)
def test_what_was_computed_is_printed_before_it_is_written(trained, corpus, monkeypatch, capsys):
    """A disk that is full takes no score away."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "file")

    monkeypatch.setattr(Measurements, "write", full)
    job = job_of(trained, corpus, ks=(2, 10))
    job.progress = Progress()
    board = Scoreboard(job)
    with pytest.raises(OSError, match="No space left"):
        board.show(job.measure(10))
    assert "NDCG@2, new → known " in capsys.readouterr().out
    with pytest.raises(OSError, match="No space left"):
        board._show(job.selecting, job_of(trained, corpus).measure(10)[0])
    assert "raw visual" in capsys.readouterr().out


def test_a_run_that_is_done_without_checkpoints_is_no_success(tmp_path, corpus_paths, corpus):
    workdir = Workdir(tmp_path)
    workdir.claim_recipe(small_recipe(corpus_paths).to_json(), {})
    workdir.create()
    workdir.mark_done(10)
    with pytest.raises(CheckpointError, match="holds no checkpoint: train first"):
        job_of(workdir, corpus).follow(pytest.fail)
