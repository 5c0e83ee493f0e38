"""Clusters that do not fit, and labels that are no class: what a run of GCML says and keeps."""

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import gcml
from tests.jobs import SYSTEMS, data
from vidembed.__main__ import main
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.phases import open_feeds
from vidembed.engine.recipe import Retention
from vidembed.engine.step import state_shape
from vidembed.engine.train import NonFiniteLoss, train
from vidembed.feeds.labelled import LabelledFeed
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.hierarchy import Hierarchy, first_seen, write_hierarchy
from vidembed.losses.softmax import FullSoftmax, SampledSoftmax
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.workdir.checkpoints.store import Checkpoints
from vidembed.workdir.layout import RecipeChangedError, Workdir


def contents(workdir):
    files = (path for path in Path(workdir).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if not path.name.endswith(".lock")}


def refused(system, paths, workdir, capsys):
    """The one message of a command that ends with code 1, and begins nothing."""
    options = [*data(paths), *SYSTEMS[system][1], "--steps", "3"]
    assert main(["train", "gcml", system, "--workdir", str(workdir), *options]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not Workdir(workdir).recipe_file.exists()
    return said


# ---- clusters that nothing can be learnt from


def levels_of(corpus, *labels):
    """A hierarchy with these labels i[N] of the train videos, level by level; -1 for the others."""
    clusters = np.full((len(labels), len(corpus.is_train)), -1, np.int32)
    for level, label in zip(clusters, labels, strict=True):
        inside = np.unique(label[corpus.is_train], return_inverse=True)[1]
        level[corpus.is_train] = first_seen(inside)
    return Hierarchy(clusters=clusters, graph_fingerprint=corpus.train_graph.fingerprint)


def one_giant(corpus):
    return levels_of(corpus, *np.zeros((2, len(corpus.is_train)), int))


def all_alone(corpus):
    return levels_of(corpus, *np.tile(np.arange(len(corpus.is_train)), (2, 1)))


def out_of_range(corpus):
    hierarchy = levels_of(corpus, np.arange(len(corpus.is_train)) // 5)
    hierarchy.clusters[0, np.argmax(corpus.is_train)] = 10**6
    return hierarchy


def of_another_graph(corpus):
    return replace(levels_of(corpus, np.arange(len(corpus.is_train)) // 5), graph_fingerprint="o")


@pytest.mark.fault("Relations and sessions: one giant cluster, or no cluster of two videos")
@pytest.mark.fault(
    "Relations and sessions: cluster numbers out of range, levels not nested, eval videos inside",
)
@pytest.mark.fault(
    "Relations and sessions: a hierarchy of other videos, of another graph, not a hierarchy file",
)
@pytest.mark.parametrize(
    ("make", "system", "found", "remedy"),
    [
        (one_giant, "gcml", "A cluster that holds nearly all", "or a max_size"),
        (one_giant, "gcl", "need at least 2 classes, found 1 clusters", "cluster again with"),
        (all_alone, "gcml", "no anchor has a sibling at level 0", "more rounds or a lower min"),
        (all_alone, "gcl", "need at least 2 classes, found 0 clusters", "cluster again with"),
        (out_of_range, "gcml", "out of range at level 1, the first 1000000", "-m vidembed cluster"),
        (out_of_range, "gcl", "out of range at level 1, the first 1000000", "-m vidembed cluster"),
        (of_another_graph, "gcml", "made from the train graph o, not", "--split-seed"),
        (of_another_graph, "gcl", "made from the train graph o, not", "--split-seed"),
    ],
)
def test_clusters_that_do_not_fit_are_refused_before_a_run_begins(
    make, system, found, remedy, corpus, corpus_paths, tmp_path, capsys
):
    path = tmp_path / "h.parquet"
    write_hierarchy(make(corpus), path, corpus.table.ids)
    paths = replace(corpus_paths, hierarchy=str(path))
    said = refused(system, paths, tmp_path / "run", capsys)
    assert found in said
    assert remedy in said


@pytest.mark.fault(
    "Relations and sessions: a hierarchy damaged on the way to a run",
    "1: the file, and the command that makes it; nothing is begun",
)
def test_a_damaged_hierarchy_is_refused_by_name(clustered_paths, tmp_path, capsys):
    path = Path(shutil.copy(clustered_paths.hierarchy, tmp_path / "h.parquet"))
    good = path.read_bytes()
    flipped = good[:200] + bytes([good[200] ^ 1]) + good[201:]
    paths = replace(clustered_paths, hierarchy=str(path))
    for hurt in (flipped, good[:-9], b""):
        path.write_bytes(hurt)
        said = refused("gcl", paths, tmp_path / "run", capsys)
        assert f"{path}: " in said
        assert "python -m vidembed cluster" in said


@pytest.mark.fault(
    "Runs: a task and a feed that do not fit",
    "2: what each takes and gives, and the pairs that fit",
)
def test_a_task_and_a_feed_that_do_not_fit_are_a_mistake_in_the_command(tmp_path, capsys):
    for system, part in (("gcl", "feed:triplets"), ("gcml", "task:cluster-labels")):
        with pytest.raises(SystemExit) as ended:
            main(["train", "gcml", system, "--workdir", str(tmp_path / "run"), part])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert "ClusterLabels learns from videos, feed Triplets gives triplets" in said
        assert "choose a feed of videos, or another task" in said
    assert not (tmp_path / "run").exists()


# ---- runs that began


def recipe_of(system, paths, batch):
    recipe = gcml.RECIPES[system]
    return replace(
        recipe,
        corpus=paths,
        task=replace(recipe.task, model=LateFusion(layers=Layers(hidden=(16,), size=8))),
        feed=replace(recipe.feed, **batch, read_threads=0, prefetch_batches=0),
        checkpoints=Retention(every_steps=3, keep_last=9),
        steps=7,
        log_every=1,
    )


def run(recipe, path, devices=1):
    """Opens what the recipe names; the last step."""
    workdir, quiet = Workdir(path), Progress(quiet=True)
    with StopFlag() as stop, workdir.lease() as lease:
        devices = jax.devices()[:devices]
        return train(recipe, workdir, lease=lease, stop=stop, progress=quiet, devices=devices)


def losses(workdir):
    lines = map(json.loads, Workdir(workdir).metrics_file.read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


@pytest.mark.fault("Runs: resumed with other clusters")
@pytest.mark.long
def test_a_run_goes_on_with_its_clusters_alone_wherever_they_lie(
    clustered_paths, clustered, tmp_path
):
    recipe, workdir = recipe_of("gcml", clustered_paths, {"batch_triplets": 32}), tmp_path / "run"
    run(replace(recipe, steps=3), workdir)
    before = contents(workdir)
    other = affinity_clusters(clustered.train_graph, clustered.is_train, rounds=3, max_size=5)
    moved = replace(clustered_paths, hierarchy=str(tmp_path / "h.parquet"))
    write_hierarchy(other, moved.hierarchy, clustered.table.ids)
    with pytest.raises(
        RecipeChangedError, match=r"(?s)data, feed: stored \w+, given \w+\n.*another --workdir"
    ):
        run(replace(recipe, corpus=moved), workdir)
    assert contents(workdir) == before
    write_hierarchy(clustered.hierarchy, moved.hierarchy, clustered.table.ids)
    assert run(replace(recipe, corpus=moved), workdir) == 7


@pytest.mark.fault(
    "Runs: a label that is no class",
    "1: step and videos, as for any loss that is not finite; the last checkpoint stays, "
    "and with sound labels the same command goes on",
)
@pytest.mark.parametrize(
    ("label", "loss", "model"),
    [
        # Rows of the table from there on are padding: scored like a class it would go unnoticed.
        pytest.param(lambda classes: classes, SampledSoftmax(samples=16), 1, id="padding"),
        pytest.param(lambda classes: -1, FullSoftmax(), 2, marks=pytest.mark.long, id="below"),
        pytest.param(
            lambda classes: 2**31 - 1, FullSoftmax(), 1, marks=pytest.mark.long, id="beyond"
        ),
    ],
)
def test_a_label_out_of_range_ends_the_run_with_step_and_videos(
    label, loss, model, clustered_paths, clustered, tmp_path, monkeypatch
):
    """The feed is tampered with; the loop, the task and the checkpoints are real."""
    recipe = recipe_of("gcl", clustered_paths, {"batch_videos": 32})
    recipe = replace(
        recipe, task=replace(recipe.task, loss=loss), mesh=MeshShape(data=1, model=model)
    )
    honest, classes = LabelledFeed.batches, len(recipe.feed.labels(clustered).sizes)

    def tampered(self, *steps_and_part):
        with closing(honest(self, *steps_and_part)) as batches:
            for step, batch, waited in batches:
                labels = batch["labels"].copy()
                if step == 5:
                    labels[17] = label(classes)
                yield step, batch | {"labels": labels}, waited

    monkeypatch.setattr(LabelledFeed, "batches", tampered)
    videos = recipe.feed.open(clustered, seed=0).ids_at(5)[:9]
    says = rf"the loss of step 6,.* has videos {', '.join(map(bytes.decode, videos))} \.\.\. .*"
    with pytest.raises(NonFiniteLoss, match=says + "The last checkpoint is good"):
        run(recipe, tmp_path, model)
    checkpoints = Checkpoints(Workdir(tmp_path).checkpoints, read_only=True)
    assert checkpoints.steps() == [0, 3]
    assert Workdir(tmp_path).done() is None
    before = losses(tmp_path)
    assert list(before) == [1, 2, 3, 4, 5]
    mesh = make_mesh(MeshShape(), jax.devices()[:1])
    good = checkpoints.restore(3, state_shape(recipe, open_feeds(recipe, clustered)[0].spec, mesh))
    for name, value in good["parameters"].items():
        assert np.isfinite(value).all(), name

    monkeypatch.setattr(LabelledFeed, "batches", honest)
    assert run(recipe, tmp_path, model) == 7
    after = losses(tmp_path)
    assert list(after) == [1, 2, 3, 4, 5, 6, 7]
    assert {step: after[step] for step in before} == before
    assert np.isfinite(list(after.values())).all()
