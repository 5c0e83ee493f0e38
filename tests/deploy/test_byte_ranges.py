"""Runs on bytes with a range of their own equal runs on the same values as floats."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import vidembed
from vidembed.corpora.targets import from_modality
from vidembed.deploy.exporting import export
from vidembed.deploy.features import features
from vidembed.distributed.mesh import MeshShape, make_mesh, place_batch
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.evaluators.baselines import raw_features
from vidembed.feeds.triplets import Triplets
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.records.bytecode import Range, dequantise
from vidembed.records.principal import principal_directions
from vidembed.records.rows import read_rows, resident_rows
from vidembed.records.statistics import train_statistics
from vidembed.records.table import FeatureTable
from vidembed.records.vectors_by_id import join
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.workdir.layout import Workdir

RANGES = {"visual": Range(0, 9), "audio": Range(-30, -10)}


@pytest.fixture(scope="module")
def tables(corpus):
    """The same bytes with other ranges, and the same values as floats."""
    own = replace(corpus.table, ranges=RANGES, manifest={})
    floats = {m: own.floats(m) for m in RANGES}
    # Standing-in names of spaces hold the dtype.
    named = {"space": dict.fromkeys(RANGES, "net")}
    return tuple(
        replace(table, manifest=named) for table in (own, replace(own, features=floats, ranges={}))
    )


@pytest.fixture(scope="module")
def trained(corpus, corpus_paths, tables, tmp_path_factory):
    """(path, run) trained on bytes, gathered on two devices, and on floats, by the host."""

    def run(name, table, placement, devices):
        recipe = Recipe(
            corpus=corpus_paths,
            task=MetricLearning(model=LateFusion(layers=Layers(hidden=(16,), size=8))),
            feed=Triplets(
                batch_triplets=32, read_threads=0, prefetch_batches=0, placement=placement
            ),
            optimiser=Optimiser(learning_rate=1e-2),
            checkpoints=Retention(every_steps=3, keep_last=10),
            steps=3,
        )
        made = Workdir(tmp_path_factory.mktemp("ranges") / name)
        with StopFlag() as stop, made.lease() as lease:
            options = {"lease": lease, "stop": stop, "progress": Progress(quiet=True)}
            used = replace(corpus, table=table)
            train(recipe, made, corpus=used, devices=jax.devices()[:devices], **options)
        return str(made), vidembed.load(str(made), step="latest")

    own, floats = tables
    return [
        run("device", own, "device", 2),
        run("floats", floats, "host", 1),
    ]


@pytest.mark.long
def test_training_and_embedding_equal_those_of_floats(trained, tables, corpus):
    own, floats = tables
    (_, device), (_, expected) = trained
    vectors = expected.embed(floats)
    for run in (device, expected):
        for table in (own, floats):
            np.testing.assert_allclose(run.embed(table), vectors, atol=1e-4)
    apart = np.abs(vectors - device.embed(replace(own, ranges={}))).max()
    assert apart > 0.1  # the range matters
    # The same values in bytes of another range: equal but for rounding.
    wide = {m: Range(r.low - 1, r.high + 2) for m, r in RANGES.items()}
    stored = {m: r.quantise(floats.features[m]) for m, r in wide.items()}
    other = replace(own, features=stored, ranges=wide)
    np.testing.assert_allclose(device.embed(other), vectors, atol=0.05)


def test_statistics_and_baselines_equal_those_of_floats(tables, corpus):
    own, _ = tables
    known, expected = (train_statistics(table, corpus.is_train) for table in tables)
    for m in RANGES:
        for name in ("mean", "deviation"):
            np.testing.assert_allclose(known[m][name], expected[m][name], rtol=1e-6)
    means = {m: known[m]["mean"] for m in RANGES}
    directions = [principal_directions(t, corpus.is_train, means)["visual"] for t in tables]
    np.testing.assert_array_equal(directions[0]["variances"], directions[1]["variances"])
    both = [raw_features(table, ("visual", "audio"), known) for table in tables]
    np.testing.assert_array_equal(*both)
    targets = [from_modality("audio", table, corpus.is_train).values for table in tables]
    np.testing.assert_array_equal(*targets)
    every = np.arange(300)
    for stored in (read_rows(own, every, RANGES), resident_rows(own, RANGES)):
        assert {m: a.range for m, a in stored["features"].items()} == RANGES
        assert all(a.array.dtype == np.uint8 for a in stored["features"].values())


@pytest.mark.long
def test_indexes_and_exports_obey_the_range(trained, tables, tmp_path):
    own, floats = tables
    path, run = trained[0]
    vectors = [features(table, ("visual", "audio")).embed(table) for table in tables]
    np.testing.assert_allclose(*vectors, atol=1e-6)
    export(path, tmp_path / "export", "latest")
    exported = vidembed.load(tmp_path / "export")
    np.testing.assert_allclose(exported.embed(own), run.embed(floats), atol=1e-4)


def test_a_table_of_bytes_is_a_file_of_vectors(tables, tmp_path):
    own, floats = tables
    one = replace(own, features={"audio": own.features["audio"]}, ranges={"audio": RANGES["audio"]})
    one.write(tmp_path / "t")
    joined = join(tmp_path / "t", FeatureTable.open(tmp_path / "t"), what="vectors")
    np.testing.assert_array_equal(joined.vectors, floats.features["audio"])


def test_a_batch_of_the_host_carries_the_range_to_the_devices(tables, corpus):
    own, floats = tables
    batches = []
    for table in (own, floats):
        feed = Triplets(batch_triplets=16, placement="host").open(
            replace(corpus, table=table), seed=0, reads=("visual", "audio")
        )
        with jax.set_mesh(mesh := make_mesh(MeshShape(), jax.devices()[:2])):
            placed = place_batch(mesh, feed.at(3), feed.split_axes)
        batches.append(jax.tree.map(np.asarray, placed["features"]))
    for m, values in batches[1].items():
        assert batches[0][m].array.dtype == np.uint8
        np.testing.assert_array_equal(dequantise(batches[0][m]), values)
