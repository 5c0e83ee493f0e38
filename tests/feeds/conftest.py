"""A small corpus with clusters, in memory, for the feeds that need a hierarchy."""

from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from vidembed.corpora.caption_rows import Captions
from vidembed.corpora.captions import CaptionCorpus
from vidembed.corpora.labels import Labels
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.relation import RelationGraph
from vidembed.records.table import FeatureTable
from vidembed.records.vocabulary import Vocabulary

VIDEOS = 400


@pytest.fixture(scope="session")
def clustered():
    """400 videos, 7 in 10 for training; most relations join videos of the same group of twenty."""
    rng = np.random.default_rng(0)
    table = FeatureTable(
        ids=np.array([b"v%05d" % row for row in range(VIDEOS)]),
        features={
            "visual": rng.integers(0, 256, (VIDEOS, 6), np.uint8),
            "audio": rng.normal(size=(VIDEOS, 3)).astype(ml_dtypes.bfloat16),
        },
        present={"audio": rng.random(VIDEOS) < 0.8},
        label_offsets=np.zeros(VIDEOS + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    is_train = rng.random(VIDEOS) < 0.7
    source = rng.integers(0, VIDEOS, 1500)
    near = (source // 20 * 20 + rng.integers(0, 20, 1500)) % VIDEOS
    target = np.where(rng.random(1500) < 0.8, near, rng.integers(0, VIDEOS, 1500))
    real = source != target
    weight = rng.integers(1, 9, 1500)[real]
    whole = RelationGraph.from_edges(source[real], target[real], weight, nodes=VIDEOS)
    graph = whole.within(is_train)
    hierarchy = affinity_clusters(graph, is_train, rounds=3, max_size=60)
    per_row = rng.integers(0, 4, VIDEOS)
    values = [np.sort(rng.permutation(9)[:count]) for count in per_row]
    labels = Labels(
        offsets=np.concatenate([[0], np.cumsum(per_row)]),
        values=np.concatenate(values).astype(np.int32),
        names=tuple("abcdefghi"),
    )
    sizes = rng.integers(0, 4, VIDEOS)
    texts = tuple(
        " ".join(rng.choice(list("abcdefgh"), rng.integers(1, 9))) for _ in range(sizes.sum())
    )
    captioned = CaptionCorpus(
        table=table,
        is_train=is_train,
        is_validation=np.zeros(0, bool),
        captions=Captions(texts=texts, offsets=np.concatenate([[0], np.cumsum(sizes)])),
        vocabulary=Vocabulary.of(texts),
        longest=9,
    )
    return SimpleNamespace(
        labels=labels,
        captions=captioned.captions,
        train_captions=captioned.train_captions,
        vocabulary=captioned.vocabulary,
        text_source=captioned.text_source,
        text_fingerprint=captioned.text_fingerprint,
        train_rows=np.flatnonzero(is_train & (per_row > 0)),
        table=table,
        train_graph=graph,
        train_relations=graph,
        is_train=is_train,
        hierarchy=hierarchy,
        whole=whole,
    )
