"""A ridge as a run: equal to scikit-learn's on any devices and with any targets, and in use."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import Ridge as Oracle

import vidembed
from tests.jobs import data
from tests.tasks.test_closed_form import cosines, refused, run
from vidembed.cli.launch import main
from vidembed.evaluators import baselines
from vidembed.feeds.target_pass import TargetPass
from vidembed.graph.factors import log_factors
from vidembed.models.fusion import EarlyFusion, LateFusion, Layers, SingleModality
from vidembed.recipes import ridge
from vidembed.records.statistics import train_statistics
from vidembed.records.vectors import read_vector_file
from vidembed.tasks.ridge import Ridge

PARTS, SIZE = 3, 5
FEED = TargetPass(parts=PARTS, batch_targets=8, read_threads=0, prefetch_batches=0, factors=SIZE)
TASK = Ridge(model=EarlyFusion(layers=Layers(hidden=(), size=SIZE)))
SMALL = replace(ridge.recipe, task=TASK, feed=FEED, steps=PARTS, log_every=1)
CLOSE = 2e-5
"""Tolerance of a cosine for float32 and another order of summation. Observed: 1e-6."""


def written(path, ids, vectors):
    """Foreign vectors: lists of doubles, without vidembed's metadata."""
    vectors = pa.array(list(map(list, vectors)), pa.list_(pa.float64()))
    pq.write_table(pa.table({"video_id": ids, "vector": vectors}), path)
    return str(path)


@pytest.fixture(scope="module")
def given(corpus, tmp_path_factory):
    """Targets far from zero for some videos and two unknown ids: file, rows, values."""
    rng = np.random.default_rng(2)
    rows = np.sort(rng.choice(len(corpus.table), 200, replace=False))
    features = standardised(corpus)[rows]
    values = features[:, :SIZE] @ rng.normal(size=(SIZE, SIZE)) + rng.normal(size=(200, SIZE)) + 4
    order = rng.permutation(202)
    ids = np.array([*corpus.table.ids[rows].astype(str), "nobody", "none"], object)[order]
    both = np.concatenate([values, np.zeros((2, SIZE))])[order]
    path = tmp_path_factory.mktemp("targets") / "targets.parquet"
    return written(path, ids, both), rows, values


def standardised(corpus):
    statistics = train_statistics(corpus.table, corpus.is_train)
    features = baselines.raw_features(corpus.table, ("visual", "audio"), statistics)
    return features.astype(np.float64)


def dense(corpus, rows, values, *, ridge=1.0, intercept=False):
    """Cosines of scikit-learn's vectors for all videos, learned from the train rows."""
    features, train = standardised(corpus), corpus.is_train[rows]
    known = features[rows[train]]
    penalty = ridge * np.square(known - known.mean(axis=0)).sum() / known.shape[1]
    oracle = Oracle(alpha=penalty).fit(known, values[train])
    vectors = oracle.predict(features) - (0 if intercept else values[train].mean(axis=0))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.fault(
    "Runs: targets with ids that the table lacks, or for some of the train videos",
    "these are left out, counted and said",
)
@pytest.mark.parametrize(("devices", "intercept"), [(1, False), (8, True)])
def test_a_run_onto_given_vectors_equals_scikit_learns(corpus, given, tmp_path, devices, intercept):
    path, rows, values = given
    recipe = replace(
        SMALL,
        feed=replace(FEED, targets=path, placement="host" if intercept else "device"),
        task=replace(TASK, intercept=intercept),
        mesh=replace(SMALL.mesh, model=min(2, devices)),
    )
    said = run(recipe, tmp_path / "run", corpus, devices=devices)
    expected = dense(corpus, rows, values, intercept=intercept)
    np.testing.assert_allclose(cosines(tmp_path / "run", corpus.table), expected, atol=CLOSE)
    assert any("2 of 202 targets have ids that the table lacks" in line for line in said)
    lacking = int(corpus.is_train.sum() - corpus.is_train[rows].sum())
    assert any(
        f"{lacking} of {corpus.is_train.sum()} train videos have no" in line for line in said
    )


def test_relations_and_modalities_are_targets(corpus, tmp_path):
    run(SMALL, tmp_path / "factors", corpus)
    rows = np.flatnonzero(corpus.train_graph.degrees() > 0)
    near = corpus.train_graph.matrix().toarray()[np.ix_(rows, rows)].astype(np.float64)
    values, vectors = np.linalg.eigh(np.log1p(near))
    vectors = vectors[:, -SIZE:] * np.sqrt(values[-SIZE:])
    length = np.linalg.norm(vectors, axis=1)
    reached = length > 1e-6  # the other groups have smaller eigenvalues
    assert 0 < reached.sum() < len(rows)
    expected = dense(corpus, rows[reached], vectors[reached] / length[reached, None])
    np.testing.assert_allclose(cosines(tmp_path / "factors", corpus.table), expected, atol=CLOSE)
    assert not log_factors(corpus.train_graph.matrix(), 999)[:, 300:].any()
    # The target modality, which the map does not read.
    task = replace(TASK, model=SingleModality(layers=Layers(hidden=(), size=4), modality="visual"))
    feed = replace(FEED, modality="audio")
    run(replace(SMALL, task=task, feed=feed), tmp_path / "audio", corpus)
    found = vidembed.load(tmp_path / "audio", step="latest").embed(corpus.table)
    x, y = (corpus.table.features[m].astype(np.float64) for m in ("visual", "audio"))
    deviation = x[corpus.is_train].std(axis=0)
    x = (x - x[corpus.is_train].mean(axis=0)) / deviation
    oracle = Oracle(alpha=float(corpus.is_train.sum())).fit(x[corpus.is_train], y[corpus.is_train])
    expected = oracle.predict(x) - y[corpus.is_train].mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=CLOSE)


@pytest.mark.long
def test_the_commands_on_a_run(corpus_paths, given, tmp_path, capsys):
    """train, evaluate, show and export on the command line."""
    workdir = str(tmp_path / "run")
    options = [
        *data(corpus_paths), "--feed.batch-targets", "8", "--task.model.layers.size", str(SIZE),
        "--feed.targets", given[0], "--feed.parts", "2", "--steps", "2",
    ]  # fmt: skip
    assert main(None, ["train", "--workdir", workdir, *options], name="ridge") == 0
    words = ["evaluate", "--workdir", workdir, "--no-baselines"]
    assert main(None, [*words, "--evaluator.directions", "eval_to_eval"], name="ridge") == 0
    assert main(None, ["show", "--workdir", workdir], name="ridge") == 0
    said = capsys.readouterr().out
    assert "NDCG@10, new → new" in said
    assert "2 steps of 8 targets are 1.0 passes over 16 shares of" in said
    assert f"parameters: {12 * SIZE + SIZE}" in said


def test_vectors_of_any_origin_are_read(tmp_path):
    vectors = np.arange(6, dtype=np.float64).reshape(3, 2)
    np.save(tmp_path / "x.npy", vectors)
    (tmp_path / "x.ids.txt").write_bytes(b"a\r\nb\r\nc")  # of Windows, without an end
    ids, read = read_vector_file(tmp_path / "x.npy")
    assert ids.tolist() == [b"a", b"b", b"c"]
    np.testing.assert_array_equal(read, vectors)
    pq.write_table(
        pa.table({"video_id": [1, 2, 3], "vector": list(vectors)}), tmp_path / "x.parquet"
    )
    ids, read = read_vector_file(tmp_path / "x.parquet")
    assert ids.tolist() == [b"1", b"2", b"3"]
    np.testing.assert_array_equal(read, vectors)


@pytest.mark.fault(
    "Runs: targets with NaN, of different widths, of another width than the map, that occur twice, "
    "are equal for all, or that no train video has; more factors than videos with relations",
    "refused: which videos, what there is, and what to change",
)
def test_targets_that_cannot_be_learnt_are_refused(corpus, given, tmp_path):
    ids, values = corpus.table.ids.astype(str), np.ones((len(corpus.table), SIZE))
    values[:, 0] = np.arange(len(values))

    def of(name, ids, vectors):
        path = written(tmp_path / f"{name}.parquet", ids, vectors)
        return replace(SMALL, feed=replace(FEED, targets=path))

    broken = values.copy()
    broken[7, 2] = np.nan
    refused(of("a", ids, broken), tmp_path / "w", corpus, rf"1 of 300 .*NaN.*\({ids[7]}\): leave")
    ragged = [*values[:-1], values[0, :3]]
    refused(
        of("b", ids, ragged),
        tmp_path / "w",
        corpus,
        "3 to 5 numbers: give all of them the same length",
    )
    wide = of("c", ids, np.arange(600.0).reshape(300, 2))
    refused(wide, tmp_path / "w", corpus, "targets have size 2.*--task.model.layers.size 2")
    twice = of("d", [*ids[:-1], ids[0]], values)
    refused(twice, tmp_path / "w", corpus, f"1 ids occur more than once, such as {ids[0]}")
    refused(of("e", ids, 0 * values), tmp_path / "w", corpus, "all .* train videos are equal")
    test = ~corpus.is_train
    nobody = of("f", ids[test], values[test])
    refused(nobody, tmp_path / "w", corpus, "none of the .* train videos has a target")
    few = replace(SMALL, feed=replace(FEED, factors=299))
    refused(few, tmp_path / "w", corpus, "train videos have relations: give at most")
    same = replace(SMALL, feed=replace(FEED, modality="audio"))
    refused(same, tmp_path / "w", corpus, "the network reads audio, which is also its target")
    none = replace(SMALL, feed=replace(FEED, modality="text"))
    refused(none, tmp_path / "w", corpus, "no modality 'text'.*it has audio, visual")
    refused(of("g", ids, [[]] * 300), tmp_path / "w", corpus, "vector")
    (tmp_path / "h.npy").write_bytes(b"no array")
    (tmp_path / "h.ids.txt").write_text("v0000\n")
    torn = replace(SMALL, feed=replace(FEED, targets=str(tmp_path / "h.npy")))
    refused(torn, tmp_path / "w", corpus, "is truncated, or not a NumPy array")
    with pytest.raises(ValueError, match="give one of them"):
        TargetPass(targets="x", modality="audio")
    with pytest.raises(ValueError, match="Ridge is a linear map"):
        Ridge(model=LateFusion())
