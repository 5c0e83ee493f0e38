import numpy as np

from vidembed.engine.passes import Passes
from vidembed.engine.recipe import Recipe
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.triplets import Triplets
from vidembed.tasks.cluster_labels import ClusterLabels


def test_a_pass_is_all_that_is_drawn_from(corpus, clustered):
    related = len(np.unique(corpus.train_graph.rows()))
    edges = Triplets(batch_triplets=100)
    videos = Triplets(batch_triplets=100, anchors="videos")
    labelled = LabelledVideos(batch_videos=100, min_cluster_size=3)
    for recipe, examples, said in (
        (Recipe(feed=edges), corpus.train_graph.matrix().nnz // 2, "train relations"),
        (Recipe(feed=videos), related, "train videos with relations"),
    ):
        passes = Passes.of(recipe, corpus)
        assert passes.at(50) == 5000 / examples
        number = f"{5000 / examples:.1f}"
        words = f"50 steps of 100 triplets are {number} passes over {examples:,} {said}"
        assert passes.describe(50) == words
    passes = Passes.of(Recipe(task=ClusterLabels(), feed=labelled), clustered)
    sizes = clustered.hierarchy.sizes(1)
    assert passes.examples == sizes[sizes >= 3].sum()
    assert passes.describe(10**6).startswith("1,000,000 steps of 100 videos are ")
    assert passes.describe(10**6).endswith("labelled videos")
