"""Batches on the devices, with a plan of how their rows travel and without one."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from vidembed.corpora.watched import CorpusPaths
from vidembed.distributed import mesh as meshes
from vidembed.distributed.exchange import Exchanger
from vidembed.distributed.mesh import MeshShape
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.placing import Placer, place_constants
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.step import state_shape
from vidembed.engine.train import train
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.triplets import Triplets
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.tasks import video
from vidembed.tasks.cluster_labels import ClusterLabels
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import Workdir

pytestmark = pytest.mark.optimised

MODEL = LateFusion(layers=Layers(hidden=(16,), size=8))
TRIPLETS = Recipe(
    corpus=CorpusPaths(),
    task=MetricLearning(model=MODEL),
    feed=Triplets(batch_triplets=32),
    checkpoints=Retention(every_steps=4),
    steps=4,
    log_every=1,
)
LABELS = replace(
    TRIPLETS, task=ClusterLabels(model=MODEL), feed=LabelledVideos(batch_videos=64), steps=20
)


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [(TRIPLETS, (2, 1)), (TRIPLETS, (4, 2)), (LABELS, (8, 1))],
    ids=["triplets on 2", "triplets on 4 x 2", "labels on 8"],
)
def test_a_task_gets_the_features_of_its_rows(recipe, shape, clustered):
    """With a plan and without; and who has them, where some videos lack a modality."""
    has_audio = np.random.default_rng(0).random(len(clustered.table)) < 0.7
    table = replace(clustered.table, present={"audio": has_audio})
    corpus = replace(clustered, table=table)
    mesh = meshes.make_mesh(MeshShape(model=shape[1]), jax.devices()[: shape[0] * shape[1]])
    feed = recipe.feed.open(corpus, seed=0, reads=recipe.task.reads)
    placer = Placer.of(feed, mesh, steps=recipe.steps)
    batch, gather = feed.at(0), jax.jit(video.batch_features)
    with jax.set_mesh(mesh):
        constants = place_constants(feed, mesh)
        for used in (placer, replace(placer, exchanger=None)):
            placed, events = used.place(batch)
            assert events == ()
            assert ("exchange" in placed) == (used is placer)
            features, present = gather(constants, placed)
            for name, stored in table.features.items():
                np.testing.assert_array_equal(features[name], stored[batch["rows"]])
            np.testing.assert_array_equal(present["audio"], has_audio[batch["rows"]])
            assert present["audio"].dtype == bool


@pytest.mark.parametrize(
    ("placement", "devices"), [("device", 1), ("host", 8)], ids=["one device", "host placement"]
)
def test_nothing_is_planned_where_rows_do_not_travel(placement, devices, corpus):
    recipe = replace(TRIPLETS, feed=replace(TRIPLETS.feed, placement=placement))
    feed = recipe.feed.open(corpus, seed=0, reads=recipe.task.reads)
    mesh = meshes.make_mesh(MeshShape(), jax.devices()[:devices])
    placer = Placer.of(feed, mesh, steps=recipe.steps)
    assert placer.exchanger is None
    assert placer.events == tuple(feed.events)
    placed, events = placer.place(feed.at(0))
    assert "exchange" not in placed
    assert events == ()


@pytest.mark.fault(
    "Runs: a batch that needs more rows of one device than the exchange has room for",
    "trained with equal results by a second compiled step; counted as `gather_overflow`",
)
def test_batches_beyond_the_capacity_train_alike_and_are_counted(
    corpus_paths, corpus, tmp_path, monkeypatch
):
    recipe = replace(TRIPLETS, corpus=corpus_paths)
    feed = recipe.feed.open(corpus, seed=recipe.seed)
    batches = [feed.at(step)["rows"] for step in range(recipe.steps)]
    sized = Exchanger.sized(batches, videos=len(corpus.table), devices=2)
    # The least capacity that is enough for one of the batches.
    small = next(
        exchanger
        for capacity in range(1, sized.capacity)
        for exchanger in [replace(sized, capacity=capacity)]
        if any(exchanger.plan(rows) for rows in batches)
    )
    overflows = [int(small.plan(rows) is None) for rows in batches]
    assert 0 < sum(overflows) < len(overflows)
    enough, state = trained(recipe, tmp_path / "enough", corpus)
    monkeypatch.setattr(Exchanger, "sized", lambda *_, **__: small)
    counts, other = trained(recipe, tmp_path / "small", corpus)
    assert enough == 0
    assert counts == sum(overflows)
    jax.tree.map(np.testing.assert_array_equal, state, other)


def trained(recipe, path, corpus):
    """(overflows in the journal, last state) of a run on two devices."""
    two = jax.devices()[:2]
    workdir = Workdir(path)
    with StopFlag() as stop, workdir.lease() as lease:
        quiet = Progress(quiet=True)
        train(recipe, workdir, lease=lease, stop=stop, corpus=corpus, progress=quiet, devices=two)
    lines = map(json.loads, workdir.metrics_file.read_text().splitlines())
    spec = recipe.feed.open(corpus, seed=recipe.seed).spec
    shape = state_shape(recipe, spec, meshes.make_mesh(MeshShape(), two))
    state = Checkpoints(workdir.checkpoints, read_only=True).restore(recipe.steps, shape)
    return sum(line["gather_overflow"] for line in lines), jax.device_get(state)
