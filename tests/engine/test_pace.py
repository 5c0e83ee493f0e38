import numpy as np

from vidembed.engine import pace as paces
from vidembed.engine.pace import Pace
from vidembed.engine.recipe import Recipe
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.triplets import Triplets


def test_a_pass_is_all_that_is_drawn_from(corpus, clustered):
    related = len(np.unique(corpus.train_graph.rows()))
    edges = Triplets(batch_triplets=100)
    videos = Triplets(batch_triplets=100, anchors="videos")
    labelled = LabelledVideos(batch_videos=100, min_cluster_size=3)
    for recipe, examples, said in (
        (Recipe(feed=edges), corpus.train_graph.matrix().nnz // 2, "train relations"),
        (Recipe(feed=videos), related, "train videos with relations"),
    ):
        pace = Pace(recipe.feed, corpus)
        pace.start()
        assert pace.read(50)["passes"] == 5000 / examples
        number = f"{5000 / examples:.1f}"
        words = f"50 steps of 100 triplets are {number} passes over {examples:,} {said}"
        assert pace.describe(50) == words
    pace = Pace(labelled, clustered)
    sizes = clustered.hierarchy.sizes(1)
    assert pace.describe(10**6).startswith("1,000,000 steps of 100 videos are ")
    assert pace.describe(10**6).endswith(f"{sizes[sizes >= 3].sum():,} labelled videos")


def test_rates_between_two_lines(corpus, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(paces.time, "monotonic", lambda: now[0])
    pace = Pace(Triplets(batch_triplets=400), corpus)
    pace.start(["large_batches"])
    now[0] += 4
    pace.took(0.5)
    pace.took(0.5, ["large_batches"])
    pace.did()
    pace.did()
    rates = pace.read(2)
    assert rates.pop("passes") == 800 / corpus.train_graph.edges
    assert rates == {"triplets_per_second": 200.0, "waiting_share": 0.25, "large_batches": 1}
    now[0] += 2
    pace.took(99)
    rates = pace.read(2)
    assert rates.pop("passes") == 800 / corpus.train_graph.edges
    assert rates == {"triplets_per_second": 0.0, "waiting_share": 1.0, "large_batches": 0}
