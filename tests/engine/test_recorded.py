"""CDML and GCML draw exactly the batches that are recorded, and lose on them what is recorded.

What is recorded lies in tests/recorded/batches.json and is written anew by

    python -m tests.engine.test_recorded --write

only where other batches are what a change intends: every run that was started before then refuses
to go on, so that its sequence number (`SEQUENCE` of the feed) changes too, and the text of the
commit says why. A change of the engine, of names or of files is no such reason.
"""

import json
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
import xxhash

from vidembed.corpora.watched import Corpus
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.recipe import Retention
from vidembed.engine.train import train
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.relation import RelationGraph
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.recipes import cdml, gcml
from vidembed.records.split import train_rows
from vidembed.records.table import FeatureTable
from vidembed.workdir.layout import Workdir

RECORDED = Path(__file__).parents[1] / "recorded" / "batches.json"
BATCHES, STEPS = 20, 3
RECIPES = {
    "cdml cdml": (cdml.RECIPES["cdml"], {"batch_triplets": 32}),
    "gcml gcml": (gcml.RECIPES["gcml"], {"batch_triplets": 32}),
    "gcml gcl": (gcml.RECIPES["gcl"], {"batch_videos": 96}),
}


def small(name):
    """The recipe that the command line takes by this name, with a small batch and network."""
    recipe, batch = RECIPES[name]
    return replace(
        recipe,
        feed=replace(recipe.feed, **batch),
        task=replace(recipe.task, model=LateFusion(layers=Layers(hidden=(16,), size=8))),
        checkpoints=Retention(every_steps=STEPS),
        steps=STEPS,
        log_every=1,
    )


@cache
def corpus():
    """240 videos of 16 groups with edges within them, split and clustered; made from a seed."""
    rng, videos, groups = np.random.default_rng(0), 240, 16
    group = np.arange(videos) % groups
    ids = np.array([f"v{i:03d}" for i in range(videos)], "S4")
    shown = 128 + 8 * rng.integers(-8, 8, (groups, 12))[group] + rng.integers(-40, 40, (videos, 12))
    table = FeatureTable(
        ids=ids,
        features={"visual": shown[:, :8].astype(np.uint8), "audio": shown[:, 8:].astype(np.uint8)},
        label_offsets=np.zeros(videos + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    one, other = np.triu_indices(videos, 1)
    related = (group[one] == group[other]) & (rng.integers(0, 2, len(one)) == 0)
    weight = rng.integers(2, 9, related.sum()).astype(np.float64)
    relations = RelationGraph.from_edges(one[related], other[related], weight, nodes=videos)
    is_train = train_rows(ids, seed=0, train_share=0.7)
    train_graph = relations.within(is_train).capped(4)
    return Corpus(
        table=table,
        is_train=is_train,
        relations=relations,
        train_graph=train_graph,
        simulated=True,
        hierarchy=affinity_clusters(train_graph, is_train, rounds=3, max_size=6),
    )


def batches_of(recipe):
    """The first batches of a run of `recipe`."""
    feed = recipe.feed.open(corpus(), seed=recipe.seed)
    return [feed.at(step) for step in range(BATCHES)]


def losses_of(recipe, path):
    """The losses of a run's first steps, on one device."""
    workdir = Workdir(path)
    with StopFlag() as stop, workdir.lease() as lease:
        train(
            recipe,
            workdir,
            lease=lease,
            stop=stop,
            corpus=corpus(),
            progress=Progress(quiet=True),
            devices=jax.devices()[:1],
        )
    lines = map(json.loads, workdir.metrics_file.read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "train"]


def digest(array):
    """xxh3 of an array's dtype, shape and bytes."""
    array = np.ascontiguousarray(array)
    return xxhash.xxh3_64_hexdigest(f"{array.dtype} {array.shape} ".encode() + array.tobytes())


def digests_of(batches):
    """Name of an array → its digest in each batch."""
    assert all(batch.keys() == batches[0].keys() for batch in batches)
    return {name: [digest(batch[name]) for batch in batches] for name in sorted(batches[0])}


def digests_of_data():
    """What batches are drawn from: where it differs, that is why they do."""
    graph, hierarchy = corpus().train_graph, corpus().hierarchy
    arrays = {
        **corpus().table.features,
        "is_train": corpus().is_train,
        "related": graph.neighbours,
        "clusters": np.stack([hierarchy.level(k + 1) for k in range(hierarchy.levels)]),
    }
    return {name: digest(array) for name, array in arrays.items()}


def test_data_are_those_that_were_recorded():
    assert digests_of_data() == json.loads(RECORDED.read_text())["data"]


@pytest.mark.parametrize("name", RECIPES)
def test_batches_are_those_that_were_recorded(name):
    recorded = json.loads(RECORDED.read_text())["systems"][name]["batches"]
    assert digests_of(batches_of(small(name))) == recorded


@pytest.mark.parametrize("name", RECIPES)
def test_losses_are_those_that_were_recorded(name, tmp_path):
    recorded = json.loads(RECORDED.read_text())["systems"][name]["losses"]
    assert len(recorded) == STEPS
    np.testing.assert_allclose(losses_of(small(name), tmp_path), recorded, rtol=1e-4)


def write():
    """Records what this version does."""
    systems = {}
    for name in RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            losses = losses_of(small(name), folder)
        systems[name] = {"losses": losses, "batches": digests_of(batches_of(small(name)))}
    recorded = {"data": digests_of_data(), "systems": systems}
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
