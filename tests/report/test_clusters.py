import dataclasses

import numpy as np

from vidembed.graph.hierarchy import Hierarchy
from vidembed.report.clusters import clusters, describe

NAMES = {i: f"label {chr(97 + i)}" for i in range(8)}  # label 8 has no name


def members(corpus, level, video):
    of = corpus.hierarchy.level(level)
    return [row for row in range(60) if of[row] == of[corpus.table.find([video])[0]]]


def test_the_facts_of_a_cluster_hold_for_its_videos(clustered):
    found = clusters(clustered, NAMES, labels=3, videos=2)
    table, hierarchy = clustered.table, clustered.hierarchy
    train = np.flatnonzero(clustered.is_train).tolist()
    assert [entry["level"] for entry in found["examples"]] == [1, 2, 3]
    shown = 0
    for entry in found["examples"]:
        sizes = hierarchy.sizes(entry["level"])
        assert entry["clusters"][0]["size"] == sizes.max() > 1
        for cluster in entry["clusters"]:
            rows = members(clustered, entry["level"], cluster["videos"][0])
            assert cluster["size"] == len(rows)
            assert cluster["videos"] == [f"v{row:03}" for row in rows[:2]]

            def bearing(label, of):
                return sum(label in table.labels(row).tolist() for row in of) / len(of)

            shares = sorted((-bearing(label, rows), label) for label in range(9))
            wanted = [(n, s) for s, n in shares if s][:3]
            assert cluster["labels"] == [
                {
                    "name": NAMES.get(label, "label 8"),
                    "share": -share,
                    "share_of_all": bearing(label, train),
                }
                for label, share in wanted
            ]
            shown += 1
    assert shown > 3


def test_levels_and_counts_are_those_of_the_hierarchy(clustered):
    found = clusters(clustered, NAMES)
    assert found["levels"] == describe(clustered.hierarchy, clustered.train_graph)
    joined = {*clustered.train_graph.neighbours.tolist()}
    train = set(np.flatnonzero(clustered.is_train).tolist())
    assert found["isolated"] == len(train - joined)
    assert found["train_videos"] == len(train)
    assert found["simulated_sessions"] is True


def test_the_largest_first_then_others_of_several_videos_each_once_by_the_seed(clustered):
    sizes = [7, 3, 9, 1, 5, 4, 4, 1, 2]
    rows = np.flatnonzero(clustered.is_train)
    level = np.full(60, -1, np.int32)
    level[rows] = np.concatenate([np.repeat(np.arange(9), sizes), 9 + np.arange(60)])[: len(rows)]
    hierarchy = Hierarchy(clusters=level[None], graph_fingerprint="")
    corpus = dataclasses.replace(clustered, hierarchy=hierarchy)

    def shown(examples, seed):
        found = clusters(corpus, NAMES, examples=examples, seed=seed)["examples"][0]["clusters"]
        return [one["size"] for one in found], [one["videos"][0] for one in found]

    for seed in range(20):
        some, first = shown(3, seed)
        assert len(some) == 3 == len(set(first))
        assert some[0] == 9
        assert some[1:] == sorted(some[1:], reverse=True)
        assert set(some[1:]) <= {7, 5, 4}
    assert len({tuple(shown(3, seed)[1]) for seed in range(20)}) > 3
    assert shown(3, 4) == shown(3, 4)
    assert shown(99, 0)[0] == [9, 7, 5, 4, 4]


def test_small_clusters_are_shown_if_there_are_no_others_but_never_singletons(clustered):
    rows = np.flatnonzero(clustered.is_train)
    alone = np.full(60, -1, np.int32)
    alone[rows] = np.arange(len(rows))
    pairs = np.where(alone >= 0, alone // 2, -1).astype(np.int32)
    hierarchy = Hierarchy(clusters=np.stack([alone, pairs]), graph_fingerprint="")
    found = clusters(dataclasses.replace(clustered, hierarchy=hierarchy), NAMES)
    none, some = (entry["clusters"] for entry in found["examples"])
    assert none == []
    assert [one["size"] for one in some] == [2, 2, 2]


def test_videos_may_have_no_labels_or_the_same_twice(clustered):
    table = clustered.table
    none = dataclasses.replace(
        table, label_offsets=np.zeros(61, np.int64), label_values=np.zeros(0, np.int32)
    )
    twice = dataclasses.replace(table, label_values=np.repeat(table.label_values[::2], 2))
    for changed, labels in ((none, False), (twice, True)):
        found = clusters(dataclasses.replace(clustered, table=changed), NAMES)
        shown = [one for entry in found["examples"] for one in entry["clusters"]]
        for cluster in shown:
            assert bool(cluster["labels"]) == labels
            assert all(0 < label["share"] <= 1 for label in cluster["labels"])


def test_without_a_hierarchy_there_is_nothing_to_show(corpus):
    assert clusters(corpus, NAMES) is None
