"""The loop: resumed equals uninterrupted, stops and faults lose nothing, one device or eight."""

import json
import os
import signal
import threading
from dataclasses import replace

import jax
import numpy as np
import pytest

from vidembed.distributed.agree import HostsDifferError
from vidembed.distributed.mesh import MeshShape, make_mesh, place_batch
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.optimiser import Optimiser, Sgd
from vidembed.engine.placing import place_constants
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.step import compile_update, new_state, state_shape
from vidembed.engine.train import NonFiniteLoss, train
from vidembed.engine.typed_json import changed_fields
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.forbidden import Capacities
from vidembed.feeds.negatives import SiblingNegatives
from vidembed.feeds.triplets import TripletFeed, Triplets
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.relation import LeakError
from vidembed.losses.triplet import Exponential
from vidembed.mining.miners import NoMining
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.records.bytecode import dequantise
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.spec import Spec
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import RecipeChangedError, Workdir

LAYERS = Layers(hidden=(16,), size=8, input_dropout=0.2)
EVALUATION = Evaluation(evaluators=(RelatedVideos(),))
QUIET = Progress(quiet=True)
ONE = [jax.devices()[0]]


@pytest.fixture
def recipe(corpus_paths):
    return Recipe(
        corpus=corpus_paths,
        task=MetricLearning(model=LateFusion(layers=LAYERS, modality_dropout=0.2)),
        feed=Triplets(batch_triplets=32, read_threads=0, prefetch_batches=0),
        optimiser=Optimiser(learning_rate=1e-2, average_decay=0.9),
        checkpoints=Retention(every_steps=3, keep_last=10),
        steps=7,
        log_every=1,
    )


def run(recipe, path, corpus, devices=ONE, evaluate=None, progress=QUIET):
    workdir = Workdir(path)
    with StopFlag() as stop, workdir.lease() as lease:
        return train(
            recipe,
            workdir,
            lease=lease,
            stop=stop,
            corpus=corpus,
            progress=progress,
            devices=devices,
            evaluation=EVALUATION,
            evaluate=evaluate,
        )


def stored(recipe, path, corpus, step, devices=ONE):
    mesh = make_mesh(MeshShape(), devices)
    shape = state_shape(recipe, Spec(widths=corpus.table.widths), mesh)
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


def test_a_cosine_resumes_bit_for_bit_and_fixes_the_number_of_steps(recipe, corpus, tmp_path):
    cosine = replace(recipe.optimiser, schedule="cosine", warmup_steps=2)
    recipe = replace(recipe, optimiser=cosine)
    run(recipe, tmp_path / "whole", corpus)

    def killed(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(replace(recipe, evaluate_every=3), tmp_path / "parts", corpus, evaluate=killed)
    assert run(recipe, tmp_path / "parts", corpus) == 7
    assert_same(
        stored(recipe, tmp_path / "whole", corpus, 7), stored(recipe, tmp_path / "parts", corpus, 7)
    )
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    with pytest.raises(RecipeChangedError, match=r"--steps: stored 7, given 9"):
        run(replace(recipe, steps=9), tmp_path / "parts", corpus)


def test_a_recipe_stored_before_there_were_schedules_goes_on(recipe, corpus, tmp_path):
    run(replace(recipe, steps=3), tmp_path, corpus)
    file = Workdir(tmp_path).recipe_file
    record = json.loads(file.read_text())
    del record["recipe"]["optimiser"]["schedule"]
    file.write_text(json.dumps(record))
    assert run(recipe, tmp_path, corpus) == 7
    assert "schedule" not in changed_fields(recipe.optimiser)


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


@pytest.mark.fault("Runs: resumed on other devices")
@pytest.mark.long
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


def test_retention_keeps_newest_asked_and_pinned(recipe, corpus, tmp_path):
    short = replace(recipe, checkpoints=Retention(every_steps=1, keep_last=2, keep_every=4))
    workdir = Workdir(tmp_path)
    workdir.create()
    workdir.measurements(RelatedVideos().identity()).pin(1, "score", 0.5)
    run(short, tmp_path, corpus)
    assert steps_of(tmp_path) == [0, 1, 4, 6, 7]


def steps_of(path):
    return Checkpoints(Workdir(path).checkpoints, read_only=True).steps()


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_run_goes_on(recipe, corpus, tmp_path):
    run(recipe, tmp_path / "whole", corpus)
    run(replace(recipe, steps=6), tmp_path / "hurt", corpus)
    folder = tmp_path / "hurt" / "checkpoints" / "6" / "arrays" / "d"
    for file in folder.iterdir():
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    assert run(recipe, tmp_path / "hurt", corpus) == 7
    assert (tmp_path / "hurt" / "checkpoints" / "6.damaged").exists()
    assert steps_of(tmp_path / "hurt") == [0, 3, 6, 7]
    assert losses(tmp_path / "hurt") == losses(tmp_path / "whole")


def test_fewer_steps_than_done_are_refused_and_the_end_stays_marked(recipe, corpus, tmp_path):
    run(recipe, tmp_path, corpus)
    with pytest.raises(ValueError, match="has applied 7 updates already, --steps is 3"):
        run(replace(recipe, steps=3), tmp_path, corpus)
    assert Workdir(tmp_path).done() == 7


def test_the_end_is_unmarked_while_training_goes_on(recipe, corpus, tmp_path):
    run(replace(recipe, steps=3), tmp_path, corpus)
    seen = []

    def evaluate(step):
        seen.append(Workdir(tmp_path).done())
        return {}

    run(replace(recipe, evaluate_every=6), tmp_path, corpus, evaluate=evaluate)
    assert seen == [None, None]
    assert Workdir(tmp_path).done() == 7


def test_a_checkpoint_that_was_not_measured_before_a_kill_is_measured_on_resume(
    recipe, corpus, tmp_path
):
    asked = replace(recipe, evaluate_every=3)
    dies_at, seen = [3, 7], []

    def evaluate(step):
        if step in dies_at:
            dies_at.remove(step)
            raise KeyboardInterrupt
        seen.append(step)
        return {"score": float(step)}

    for before in ([], [3, 6]):
        with pytest.raises(KeyboardInterrupt):
            run(asked, tmp_path, corpus, evaluate=evaluate)
        assert seen == before
        assert Workdir(tmp_path).done() is None
    run(asked, tmp_path, corpus, evaluate=evaluate)
    assert seen == [3, 6, 7]
    lines = Workdir(tmp_path).metrics_file.read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    scores = [(r["step"], r["score"]) for r in logged if r["kind"] == "evaluation"]
    assert scores == [(3, 3), (6, 6), (7, 7)]


@pytest.mark.fault("Records: non-finite loss or parameters")
def test_parameters_that_are_not_finite_are_never_saved(recipe, corpus, tmp_path):
    """The loss of the step that breaks them is still finite."""
    breaking = replace(
        recipe,
        optimiser=Optimiser(rule=Sgd(momentum=0.0), learning_rate=3.4e38),
        checkpoints=Retention(every_steps=1, keep_last=9),
    )
    with pytest.raises(NonFiniteLoss, match="step 1"):
        run(breaking, tmp_path, corpus)
    assert steps_of(tmp_path) == [0]


def test_every_step_drops_other_inputs(recipe, corpus, tmp_path):
    """With a learning rate of nothing, steps over the same batch differ by dropout alone."""
    still = replace(
        recipe,
        task=replace(recipe.task, miner=NoMining()),
        optimiser=Optimiser(rule=Sgd(momentum=0.0), learning_rate=1e-30),
    )
    mesh = make_mesh(MeshShape(), ONE)
    feed = still.feed.open(corpus, seed=0, reads=still.task.reads)
    update = compile_update(still, state_shape(still, feed.spec, mesh), mesh)
    with jax.set_mesh(mesh):
        state = new_state(still, feed.spec, feed.statistics())
        constants = place_constants(feed, mesh)
        batch = place_batch(mesh, feed.at(0), feed.split_axes)
        values = []
        for _ in range(3):
            state, measures = update(state, constants, batch)
            values.append(float(measures["loss"]))
    assert len(set(values)) == 3


def test_inputs_are_standardised_by_the_train_split_alone(recipe, corpus, tmp_path):
    run(replace(recipe, steps=1), tmp_path, corpus)
    state = stored(recipe, tmp_path, corpus, 1)["state"]["inputs"]["visual"]
    rows = dequantise(corpus.table.features["visual"][corpus.is_train])
    np.testing.assert_allclose(state["mean"], rows.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(1 / state["scale"], rows.std(0), rtol=1e-4)
    everyone = dequantise(corpus.table.features["visual"])
    assert not np.allclose(state["mean"], everyone.mean(0), atol=1e-4)


def test_a_batch_with_eval_videos_fails_the_run(recipe, corpus, tmp_path, monkeypatch):
    honest = TripletFeed.at

    def leaking(self, step, part=(0, 1)):
        batch = honest(self, step, part)
        rows = batch["rows"].copy()
        rows[0, 0] = np.flatnonzero(~corpus.is_train)[0]
        return batch | {"rows": rows}

    monkeypatch.setattr(TripletFeed, "at", leaking)
    with pytest.raises(LeakError, match="1 videos of the eval partition are in a training batch"):
        run(recipe, tmp_path, corpus)


def test_unknown_edges_and_changed_options_are_said(recipe, corpus, tmp_path, capsys):
    run(replace(recipe, steps=1), tmp_path, corpus)
    report = {"unknown_edges": 3, "unknown_ids": 2, "unknown": ["zz", "yy"]}
    report["notes"] = ["e.parquet: its column kept is not used"]
    workdir = Workdir(tmp_path)
    with StopFlag() as stop, workdir.lease() as lease:
        train(
            replace(recipe, steps=2),
            workdir,
            lease=lease,
            stop=stop,
            corpus=replace(corpus, edges_report=report),
            devices=ONE,
        )
    said = capsys.readouterr().out
    assert (
        "3 edges name one of 2 videos that are not in the table, and are left out: zz, yy" in said
    )
    assert "its column kept is not used" in said
    assert "a batch has room for" in said
    assert "steps: 1 -> 2" in said


@pytest.mark.fault(
    "Relations and sessions: a graph with hubs",
    "the large capacity, counted in `large_forbidden`; 1 at the start, with the options "
    "that help, where that could be too little; 1 with the step if a batch exceeds it all "
    "the same",
)
def test_batches_beyond_the_ordinary_capacity_are_counted_and_trained_on_alike(
    recipe, corpus, tmp_path, monkeypatch
):
    """As if the first batches had been lucky: about half of the others need the large one."""
    recipe = replace(recipe, feed=replace(recipe.feed, batch_triplets=64), log_every=3)
    run(recipe, tmp_path / "one", corpus)
    feed = recipe.feed.open(corpus, seed=recipe.seed)
    counts = [int((feed.at(step)["forbidden"][0] < 64).sum()) for step in range(recipe.steps)]
    of = Capacities.of
    monkeypatch.setattr(
        Capacities,
        "of",
        lambda *arguments, **options: replace(
            of(*arguments, **options), ordinary=int(np.median(counts))
        ),
    )
    run(recipe, tmp_path / "two", corpus)
    assert losses(tmp_path / "two") == losses(tmp_path / "one")
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    counted = [record["large_forbidden"] for record in map(json.loads, lines)]
    assert sum(counted) == sum(count > np.median(counts) for count in counts) > 1


def test_durable_checkpoints_and_the_last_one_are_measured(recipe, corpus, tmp_path):
    seen = []

    def evaluate(step):
        seen.append((step, steps_of(tmp_path)[-1]))
        return {"score": float(step)}

    run(replace(recipe, evaluate_every=3), tmp_path, corpus, evaluate=evaluate)
    assert seen == [(3, 3), (6, 6), (7, 7)]


@pytest.mark.fault(
    "Scores: no relation to measure by",
    "1 before anything is compiled: counts, and what to change; a warning where only a "
    "job would measure",
)
def test_what_nobody_can_measure_is_said_before_anything_is_compiled(
    recipe, corpus, tmp_path, monkeypatch, capsys
):
    alone = replace(corpus, relations=corpus.train_graph)
    words = "eval_to_train: none of .*relations: 0 between it and train, 0 within"
    with monkeypatch.context() as patch:
        patch.setattr("vidembed.engine.train.state_shape", lambda *_: pytest.fail("too late"))
        with pytest.raises(ValueError, match=words):
            run(replace(recipe, evaluate_every=3), tmp_path, alone, evaluate=pytest.fail)
    assert not Workdir(tmp_path).recipe_file.exists()
    # Without evaluations of its own the run is of use, and the job that cannot measure says so.
    workdir = Workdir(tmp_path)
    short = replace(recipe, steps=1)
    with StopFlag() as stop, workdir.lease() as lease:
        options = {"lease": lease, "stop": stop, "devices": ONE}
        train(short, workdir, corpus=alone, evaluation=EVALUATION, **options)
    assert (
        "WARNING: an evaluation job has nothing to measure here: eval_to" in capsys.readouterr().out
    )
    mesh = make_mesh(MeshShape(), ONE)
    job = EvaluationJob(short, EVALUATION, workdir, corpus=alone, mesh=mesh, progress=QUIET)
    monkeypatch.setattr(job, "model", lambda step: pytest.fail("too late"))
    with pytest.raises(ValueError, match=words):
        job.measure(1)
    monkeypatch.setattr(job, "measure", lambda step: pytest.fail("too late"))
    with pytest.raises(ValueError, match=words):
        job.follow(pytest.fail)


@pytest.mark.fault(
    "Runs: hosts with other options, data or clusters",
    "1 on all: the fields, and who has which; nothing is begun",
)
def test_hosts_compare_their_batches_before_anything_is_written(
    recipe, clustered, tmp_path, monkeypatch
):
    """Clusters are no part of the corpus's fingerprint, yet batches are drawn by them."""
    compared = []

    def differ(mine):
        compared.append(mine)
        raise HostsDifferError("other batches")

    monkeypatch.setattr("vidembed.engine.train.agree", differ)
    smart = replace(recipe, feed=replace(recipe.feed, negatives=SiblingNegatives()))
    others = affinity_clusters(clustered.train_graph, clustered.is_train, linkage="max", max_size=6)
    for corpus in (clustered, replace(clustered, hierarchy=others)):
        with pytest.raises(HostsDifferError):
            run(smart, tmp_path, corpus)
    differences = [name for name in compared[0] if compared[0][name] != compared[1][name]]
    assert "batches (the feed, and the clusters that it draws by)" in differences
    assert "videos, relations and split" not in differences
    assert steps_of(tmp_path) == []
    assert not Workdir(tmp_path).recipe_file.exists()


def test_the_average_is_the_weighted_mean_of_what_updates_made(recipe, corpus, tmp_path):
    """Written out, sum over i of 0.9 ** (k - i) times the parameters after update i: no weight is
    left to the parameters that the run began with."""
    each = replace(recipe, steps=4, checkpoints=Retention(every_steps=1, keep_last=10))
    run(each, tmp_path, corpus)
    states = [stored(each, tmp_path, corpus, step) for step in range(5)]
    for k in (1, 2, 4):
        weights = np.array([0.9 ** (k - i) for i in range(1, k + 1)])
        for name, average in states[k]["average"].items():
            made = np.stack([state["parameters"][name] for state in states[1 : k + 1]])
            slow = np.tensordot(weights / weights.sum(), made.astype(np.float64), 1)
            np.testing.assert_allclose(average, slow, atol=1e-6)
    assert_same(states[0]["average"], states[0]["parameters"])


@pytest.mark.fault(
    "Records: non-finite loss or parameters",
    "1: step and videos; the last good checkpoint stays",
)
def test_non_finite_loss_names_step_and_videos_and_keeps_the_last_good(recipe, corpus, tmp_path):
    burning = replace(
        recipe,
        task=replace(recipe.task, loss=Exponential(margin=4.0)),
        optimiser=Optimiser(rule=Sgd(momentum=0.0), learning_rate=1e38),
        steps=20,
    )
    with pytest.raises(NonFiniteLoss, match=r"loss of step \d+.* is not finite; .* videos v\d{4}"):
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


def test_a_refused_run_leaves_the_recipe_as_it_is(recipe, corpus, tmp_path):
    wanting = replace(
        recipe, task=replace(recipe.task, model=LateFusion(modalities=("visual", "text")))
    )
    with pytest.raises(ValueError, match=r"the data has \['audio', 'visual'\]: no 'text'"):
        run(wanting, tmp_path, corpus)
    assert Workdir(tmp_path).read_recipe() is None
    run(replace(recipe, steps=3), tmp_path, corpus)
    with pytest.raises(ValueError, match="has applied 3 updates"):
        run(replace(recipe, steps=2), tmp_path, corpus)
    assert Workdir(tmp_path).read_recipe()["recipe"]["steps"] == 3


def test_the_first_and_the_last_step_are_logged_and_the_rest_is_estimated(
    recipe, corpus, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("vidembed.engine.pace.TIMED_SECONDS", 0.0)
    monkeypatch.setattr("vidembed.engine.pace.SHORT_SECONDS", 0.0)
    run(replace(recipe, log_every=4), tmp_path, corpus, progress=Progress())
    assert list(losses(tmp_path)) == [1, 4, 7]
    assert capsys.readouterr().out.count("memory so far") == 1


@pytest.mark.long
def test_a_trace_is_written_where_asked(recipe, corpus, tmp_path, capsys):
    run(replace(recipe, steps=13, profile_steps=2), tmp_path, corpus)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert "trace of 2 steps" in capsys.readouterr().out
    run(replace(recipe, steps=5, profile_steps=2), tmp_path / "short", corpus)
    assert "no trace: it starts after 10 steps, this run had 5" in capsys.readouterr().out


def test_changed_recipe_or_data_is_refused(recipe, corpus, tmp_path):
    run(replace(recipe, steps=3), tmp_path, corpus)
    with pytest.raises(RecipeChangedError, match=r"(?s)--seed: stored 0, given 5"):
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
