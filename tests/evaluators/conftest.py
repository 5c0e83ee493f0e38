from dataclasses import replace

import numpy as np
import pytest

from vidembed.corpora.watched import Corpus
from vidembed.graph.relation import RelationGraph
from vidembed.records.table import FeatureTable


@pytest.fixture(scope="session")
def corpus():
    """60 videos with random relations, some within a partition; some rows have none."""
    rng = np.random.default_rng(0)
    nodes = 60
    is_train = rng.random(nodes) < 0.6
    pairs = np.stack([rng.integers(0, 50, 150), rng.integers(0, 50, 150)])
    pairs = np.unique(np.sort(pairs[:, pairs[0] != pairs[1]], axis=0), axis=1)
    weight = rng.integers(2, 9, pairs.shape[1])
    relations = RelationGraph.from_edges(*pairs, weight, nodes=nodes)
    table = FeatureTable(
        ids=np.array([f"v{i}" for i in range(nodes)]).astype("S"),
        features={
            "visual": rng.normal(size=(nodes, 5)).astype(np.float32),
            "audio": rng.integers(0, 256, (nodes, 3)).astype(np.uint8),
        },
        present={"audio": rng.random(nodes) < 0.8},
        label_offsets=np.zeros(nodes + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    return Corpus(
        table=table,
        is_train=is_train,
        relations=relations,
        train_graph=relations.within(is_train),
        simulated=False,
    )


@pytest.fixture(scope="session")
def validated(corpus):
    """The same, with half of the held-out videos for validation."""
    others = np.flatnonzero(~corpus.is_train)
    return replace(corpus, is_validation=np.isin(np.arange(60), others[::2]))
