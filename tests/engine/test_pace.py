import re
import types
from dataclasses import replace

import numpy as np

from experiments import cdml
from vidembed.engine import pace as paces
from vidembed.engine.pace import Pace
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.triplets import Triplets
from vidembed.tasks.cluster_labels import ClusterLabels


def pace_of(feed, corpus, *, steps=50, **changed):
    recipe = replace(cdml.recipe, feed=feed, steps=steps, **changed)
    return Pace(recipe, [feed.open(corpus, seed=0)])


def test_a_pass_is_all_that_is_drawn_from(corpus, clustered):
    related = len(np.unique(corpus.train_graph.rows()))
    edges = Triplets(batch_triplets=100)
    videos = Triplets(batch_triplets=100, anchors="videos")
    labelled = LabelledVideos(batch_videos=100, min_cluster_size=3)
    for feed, examples, said in (
        (edges, corpus.train_graph.matrix().nnz // 2, "train relations"),
        (videos, related, "train videos with relations"),
    ):
        pace = pace_of(feed, corpus)
        pace.start()
        assert pace.read(50)["passes"] == 5000 / examples
        number = f"{5000 / examples:.1f}"
        words = f"50 steps of 100 triplets are {number} passes over {examples:,} {said}"
        assert pace.describe() == (words,)
    [words] = pace_of(labelled, clustered, steps=10**6, task=ClusterLabels()).describe()
    sizes = clustered.hierarchy.sizes(1)
    assert words.startswith("1,000,000 steps of 100 videos are ")
    assert words.endswith(f"{sizes[sizes >= 3].sum():,} labelled videos")


def test_rates_between_two_lines(corpus, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(paces.time, "monotonic", lambda: now[0])
    pace = pace_of(Triplets(batch_triplets=400), corpus)
    pace.start(["large_batches"])
    now[0] += 4
    pace.took(0.5)
    pace.took(0.5, ["large_batches"])
    pace.did(1)
    pace.did(2)
    rates = pace.read(2)
    assert rates.pop("passes") == 800 / corpus.train_graph.edges
    assert rates == {"triplets_per_second": 200.0, "waiting_share": 0.25, "large_batches": 1}
    now[0] += 2
    pace.took(99)
    rates = pace.read(2)
    assert rates.pop("passes") == 800 / corpus.train_graph.edges
    assert rates == {"triplets_per_second": 0.0, "waiting_share": 1.0, "large_batches": 0}


def test_the_time_of_a_training_is_estimated_once(corpus, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(paces.time, "monotonic", lambda: now[0])
    pace = pace_of(Triplets(batch_triplets=400), corpus, steps=104)
    estimates = []
    for step in range(1, 9):
        now[0] += 60 if step == 1 else 1  # the first step carries the compilation
        estimates.append(pace.estimate(step))
    # After the first one three steps of a second each.
    assert [bool(words) for words in estimates] == [step == 4 for step in range(1, 9)]
    assert estimates[3].startswith("100 more steps of 1 s take about 0:01:40 (")
    assert re.search(r"memory so far: [\d.,]+ [MG]B of this host$", estimates[3])
    # What is nearly done needs no estimate.
    short = pace_of(Triplets(batch_triplets=400), corpus, steps=9)
    assert not any(
        short.estimate(step) for step in range(1, 9) if now.append(now.pop() + 1) is None
    )


def test_the_memory_of_a_device_is_named_where_it_is_known(monkeypatch):
    known = {"peak_bytes_in_use": 2e9, "bytes_limit": 8e9}
    device = types.SimpleNamespace(memory_stats=lambda: known)
    monkeypatch.setattr(paces.jax, "local_devices", lambda: [device])
    assert paces._memory().endswith(" of this host, 2.0 GB of each device (of 8.0 GB)")
