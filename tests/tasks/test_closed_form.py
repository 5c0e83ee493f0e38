"""A closed form as a run: equal to NumPy in float64, on any devices, resumed, and in use."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import scipy.linalg

import vidembed
from tests.jobs import data, ends, start
from vidembed.cli.launch import main
from vidembed.corpora.watched import Corpus
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.evaluators import baselines
from vidembed.evaluators.closed_form import closed_form
from vidembed.feeds.triplets import Triplets
from vidembed.feeds.whole_pass import WholePass
from vidembed.graph.relation import RelationGraph
from vidembed.models.fusion import EarlyFusion, LateFusion, Layers, SingleModality
from vidembed.progress import Progress
from vidembed.recipes import linear
from vidembed.records.statistics import train_statistics
from vidembed.records.table import FeatureTable
from vidembed.tasks.closed_form import ClosedForm
from vidembed.workdir.layout import Workdir

PARTS, SIZE = 3, 6
MODEL = EarlyFusion(layers=Layers(hidden=(), size=SIZE))
FEED = WholePass(parts=PARTS, batch_shares=8, read_threads=0, prefetch_batches=0)
SMALL = replace(
    linear.recipe,
    task=ClosedForm(model=MODEL),
    feed=FEED,
    steps=PARTS,
    checkpoints=Retention(every_steps=1, keep_last=9),
    log_every=1,
)
CLOSE = 2e-5
"""Tolerance of a cosine for float32 and another order of summation. Observed: 7e-7 with the default
options, 6e-6 with little ridge and power 1."""


def run(recipe, path, corpus, *, devices=1, stop_after=None):
    """Train in a work directory; return the output."""

    class Stop(StopFlag):
        def reached(self):
            return (
                stop_after is not None
                and Workdir(path).metrics_file.exists()
                and (len(Workdir(path).metrics_file.read_text().splitlines()) >= stop_after)
            )

    said = []
    progress = Progress(quiet=True)
    progress.say = said.append
    workdir = Workdir(path)
    with Stop() as stop, workdir.lease() as lease:
        train(
            recipe, workdir, lease=lease, stop=stop, corpus=corpus,
            progress=progress, devices=jax.devices()[:devices],
        )  # fmt: skip
    return said


def cosines(path, table):
    vectors = vidembed.load(path, step="latest").embed(table)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    return vectors @ vectors.T


def dense(corpus, *, weigh=lambda weight: 1.0 + 0 * weight, by_degree=True, ridge=1.0, power=0.5):
    """Cosines of the closed form, by loops and dense matrices in float64."""
    table, train_rows = corpus.table, np.flatnonzero(corpus.is_train)
    features = baselines.raw_features(
        table, ("visual", "audio"), train_statistics(table, corpus.is_train)
    ).astype(np.float64)
    affinity = np.zeros((len(table), len(table)))
    graph = corpus.train_graph
    for row in range(len(table)):
        for place in range(graph.offsets[row], graph.offsets[row + 1]):
            affinity[row, graph.neighbours[place]] = weigh(graph.weights[place])
    if by_degree:
        degree = np.maximum(affinity.sum(axis=1), affinity[affinity > 0].min())
        affinity = affinity / np.sqrt(degree[:, None] * degree[None])
    square = features[train_rows].T @ features[train_rows]
    regularised = square + ridge * np.linalg.eigvalsh(square).mean() * np.eye(len(square))
    values, vectors = scipy.linalg.eigh(features.T @ affinity @ features, regularised)
    first = np.argsort(-values)[:SIZE]
    vectors = features @ vectors[:, first] * np.maximum(values[first], 0) ** power
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.fixture(scope="module")
def lacking(corpus):
    """The small corpus, with a fifth of the videos lacking audio."""
    there = np.random.default_rng(1).random(len(corpus.table)) < 0.8
    return replace(corpus, table=replace(corpus.table, present={"audio": there}))


@pytest.fixture(scope="module")
def made(lacking, tmp_path_factory):
    path = tmp_path_factory.mktemp("linear") / "run"
    return path, run(SMALL, path, lacking)


def test_a_run_is_the_dense_closed_form(made, lacking):
    path, said = made
    np.testing.assert_allclose(cosines(path, lacking.table), dense(lacking), atol=CLOSE)
    lost = int((lacking.is_train & ~lacking.table.present["audio"]).sum())
    assert any(f"{lost} of {lacking.is_train.sum()} train videos lack audio" in s for s in said)
    # The baseline computes the same in another way.
    features = baselines.raw_features(
        lacking.table, ("visual", "audio"), train_statistics(lacking.table, lacking.is_train)
    )
    vectors = closed_form(lacking, features, size=SIZE)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors @ vectors.T, dense(lacking), atol=CLOSE)


def test_every_option_of_the_matrices_counts(lacking, tmp_path):
    feed = replace(FEED, weigh="log", by_degree=False, placement="host")
    task = ClosedForm(model=MODEL, ridge=0.2, power=1.0)
    run(replace(SMALL, feed=feed, task=task), tmp_path / "run", lacking)
    expected = dense(lacking, weigh=np.log1p, by_degree=False, ridge=0.2, power=1.0)
    np.testing.assert_allclose(cosines(tmp_path / "run", lacking.table), expected, atol=CLOSE)


def test_eight_devices_give_the_same(made, lacking, tmp_path):
    recipe = replace(SMALL, mesh=replace(SMALL.mesh, model=2))
    run(recipe, tmp_path / "run", lacking, devices=8)
    found, expected = (cosines(p, lacking.table) for p in (tmp_path / "run", made[0]))
    np.testing.assert_allclose(found, expected, atol=CLOSE)


def test_a_run_stopped_within_the_pass_resumes_exactly(made, lacking, tmp_path):
    path = tmp_path / "run"
    run(SMALL, path, lacking, stop_after=2)
    assert not Workdir(path).path.joinpath("DONE").exists()
    assert "going on from step 2" in run(SMALL, path, lacking)
    found, expected = (cosines(p, lacking.table) for p in (path, made[0]))
    assert np.array_equal(found, expected)


def test_the_commands_on_a_run(corpus_paths, tmp_path, capsys):
    """train, evaluate, show and export on the command line."""
    workdir = str(tmp_path / "run")
    options = [
        *data(corpus_paths), "--feed.batch-shares", "8", "--task.model.layers.size", "6",
        "--feed.parts", "2", "--steps", "2",
    ]  # fmt: skip
    assert main(None, ["train", "--workdir", workdir, *options], name="linear") == 0
    words = ["evaluate", "--workdir", workdir, "--no-baselines"]
    assert main(None, [*words, "--evaluator.directions", "eval_to_eval"], name="linear") == 0
    said = capsys.readouterr().out
    assert "2 steps of 8 shares are 1.0 passes over 16 shares of" in said
    assert "NDCG@10, new → new" in said
    assert main(None, ["show", "--workdir", workdir], name="linear") == 0
    table = FeatureTable.open(corpus_paths.table)
    loaded = vidembed.load(workdir)
    index = loaded.index(table)
    assert len(index.search(ids=[table.ids[0].decode()], k=3).ids) == 3


@pytest.mark.long
def test_two_processes_give_the_same(corpus_paths, corpus, tmp_path, monkeypatch):
    from tests import jobs

    small = [
        "--feed.batch-shares", "8", "--task.model.layers.size", "6", "--feed.parts", "2",
        "--steps", "2",
    ]  # fmt: skip
    monkeypatch.setitem(jobs.SYSTEMS, "linear", (["experiments.linear"], small))
    for processes in (1, 2):
        options = [*data(corpus_paths), *small]
        codes, outputs = ends(
            start("train", tmp_path / str(processes), options, processes=processes, system="linear")
        )
        assert set(codes) == {0}, outputs
    found, expected = (cosines(tmp_path / name, corpus.table) for name in ("2", "1"))
    np.testing.assert_allclose(found, expected, atol=CLOSE)


def refused(recipe, path, corpus, words):
    with pytest.raises(ValueError, match=words):
        run(recipe, path, corpus)
    assert not Workdir(path).path.joinpath("DONE").exists()


@pytest.mark.fault(
    "Runs: a closed form of more directions than features, of values that are not finite, of "
    "constant or collinear features, without a relation between train videos, or an impossible "
    "ridge or power",
)
def test_data_without_a_closed_form_are_refused(lacking, tmp_path):
    nobody = RelationGraph.from_edges([], [], [], nodes=len(lacking.table))
    alone = replace(lacking, train_graph=nobody)
    refused(SMALL, tmp_path / "a", alone, "no relation between the 2")
    wide = ClosedForm(model=EarlyFusion(layers=Layers(hidden=(), size=13)))
    refused(replace(SMALL, task=wide), tmp_path / "b", lacking, "12 here: .*size 13 is more")
    visual = lacking.table.features["visual"].astype(np.float32)
    visual[:, 2] = 1
    flat = _with_visual(lacking, visual)
    said = run(SMALL, tmp_path / "c", flat)
    assert any("1 features of visual are constant" in s and s.endswith(": 2") for s in said)
    unregularised = replace(SMALL, task=replace(SMALL.task, ridge=0.0))
    refused(unregularised, tmp_path / "d", flat, "constant or collinear are visual 2. Give a ridge")
    visual[np.flatnonzero(lacking.is_train)[0], 5] = np.nan
    refused(SMALL, tmp_path / "e", _with_visual(lacking, visual), "visual .* in the features 5")


def _with_visual(corpus: Corpus, visual: np.ndarray) -> Corpus:
    features = {**corpus.table.features, "visual": visual}
    return replace(corpus, table=replace(corpus.table, features=features))


@pytest.mark.fault(
    "Runs: a closed form with another number of steps than its pass has, with hidden layers, or "
    "with batches of triplets",
    "refused, with the option to change",
)
def test_a_torn_pass_and_a_network_that_is_not_linear_are_refused(lacking, tmp_path):
    refused(replace(SMALL, steps=2), tmp_path / "a", lacking, "one pass of 3 steps.*--steps 3")
    for model in (LateFusion(), SingleModality(), EarlyFusion()):
        with pytest.raises(ValueError, match="linear map"):
            ClosedForm(model=model)
    with pytest.raises(ValueError, match="learns from shares"):
        Recipe(corpus=SMALL.corpus, task=ClosedForm(), feed=Triplets())
    with pytest.raises(ValueError, match="parts 0"):
        WholePass(parts=0)
