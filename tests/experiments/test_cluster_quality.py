"""What is said of clusters: by hand, by brute force, on planted groups, and from real records."""

import collections
import io
import json
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from experiments.cluster_quality import (
    agreement,
    main,
    quality,
    rarest_labels,
    read_verticals,
    verticals_of,
)
from experiments.cluster_table import as_markdown, print_quality
from experiments.clusterings import clusterings, communities, linked_videos
from experiments.running import SAMPLE
from experiments.shared_labels import shared_labels
from vidembed.corpora.watched import Corpus
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.relation import RelationGraph
from vidembed.graph.siblings import Siblings
from vidembed.records.table import FeatureTable

GROUPS, EACH, ALONE = 6, 8, 5


def table_of(labels, features=None):
    rows = len(labels)
    if features is None:
        features = np.random.default_rng(0).normal(size=(rows, 3))
    return FeatureTable(
        ids=np.array([f"v{i:03}" for i in range(rows)], "S4"),
        features={"visual": features.astype(np.float32)},
        label_offsets=np.cumsum([0, *map(len, labels)]).astype(np.int64),
        label_values=np.array([i for some in labels for i in some], np.int32),
    )


@pytest.fixture(scope="module")
def planted():
    """Groups that are dense inside and joined by one weak edge each; features show them, too.

    The last videos are related to nobody. The label of a group is its number, that of the others 6;
    label 9 is everybody's.
    """
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(GROUPS), EACH)
    pairs = [(i, j) for i in range(len(group)) for j in range(i) if group[i] == group[j]]
    pairs += [(EACH * g, EACH * (g + 1)) for g in range(GROUPS - 1)]
    weights = [5.0 + rng.random() if group[i] == group[j] else 0.1 for i, j in pairs]
    rows = len(group) + ALONE
    graph = RelationGraph.from_edges(*np.array(pairs).T, np.array(weights), nodes=rows)
    centres = 9 * np.eye(GROUPS + 1)[np.append(group, [GROUPS] * ALONE)]
    kinds = [*group.tolist(), *[GROUPS] * ALONE]
    is_train = np.ones(rows, bool)
    return Corpus(
        table=table_of([[9, kind] for kind in kinds], centres + rng.normal(size=centres.shape)),
        is_train=is_train,
        relations=graph,
        train_graph=graph,
        simulated=True,
        hierarchy=affinity_clusters(graph, is_train, rounds=3, max_size=EACH),
    )


def test_the_rarest_label_has_the_fewest_videos_then_the_smaller_number():
    #        label: 0 borne by 3, 1 by 2, 2 by 2, 7 by 1
    table = table_of([[0, 2, 1], [0, 1], [2, 0], [], [7], [5, 3]])
    assert rarest_labels(table).tolist() == [1, 1, 2, -1, 7, 3]


def test_the_vertical_is_that_of_the_label_where_it_has_one():
    verticals = {0: "Sports", 1: "Games", 2: "Sports"}
    found = verticals_of(np.array([0, 1, 2, 3, -1]), verticals).tolist()
    assert found[0] == found[2] != found[1]
    assert min(found[:3]) >= 0
    assert found[3:] == [-1, -1]


def test_verticals_of_the_real_vocabulary():
    found = read_verticals(str(SAMPLE / "vocabulary.csv"))
    assert found[0] == "Games"
    assert found[2] == "Autos & Vehicles"
    assert len(set(found.values())) == 24
    assert len(found) == 3862 - 138  # the others are "(Unknown)"


def test_a_vocabulary_without_verticals_is_refused(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("Index,Name\n0,Game\n")
    with pytest.raises(ValueError, match="a vocabulary needs Vertical1"):
        read_verticals(str(path))


def test_agreement_by_hand():
    #        cluster 0: a a b, cluster 1: b, cluster 2: c c without a class
    cluster, truth = np.array([0, 0, 0, 1, 2, 2]), np.array([3, 3, 5, 5, -1, -1])
    assert agreement(cluster, truth)["purity"] == 3 / 4
    same = np.array([4, 4, 4, 2, 2, 7])
    assert agreement(same, same) == pytest.approx({"purity": 1.0, "ami": 1.0})
    # Singletons are pure and know nothing.
    alone = agreement(np.arange(6), same)
    assert alone["purity"] == 1.0
    assert alone["ami"] == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="no video with a relation has a class"):
        agreement(cluster, np.full(6, -1))


def test_purity_equals_counting():
    rng = np.random.default_rng(0)
    for _ in range(20):
        cluster, truth = rng.integers(0, 9, 50), rng.integers(-1, 5, 50)
        members = collections.defaultdict(list)
        for c, t in zip(cluster.tolist(), truth.tolist()):
            if t >= 0:
                members[c].append(t)
        most = sum(collections.Counter(m).most_common(1)[0][1] for m in members.values())
        assert agreement(cluster, truth)["purity"] == most / (truth >= 0).sum()


def test_planted_groups_are_found_by_all_but_chance_and_components(planted):
    verticals = {kind: "odd" if kind % 2 else "even" for kind in range(GROUPS + 1)}
    found = quality(planted, verticals, seed=0)
    rows = found["rows"]
    assert (found["train_videos"], found["linked_videos"]) == (GROUPS * EACH + ALONE, GROUPS * EACH)
    assert found["classes"] == {"label": GROUPS, "vertical": 2}
    assert found["without"] == {"label": 0, "vertical": 0}
    for name in ("level 3", "level 3, k-means", "Louvain", "Leiden"):
        assert rows[name]["label"] == pytest.approx({"purity": 1.0, "ami": 1.0}), name
        assert rows[name]["vertical"]["purity"] == 1.0
        assert 0 < rows[name]["vertical"]["ami"] < 0.9
        assert (rows[name]["linked_clusters"], rows[name]["largest"]) == (GROUPS, EACH)
        assert rows[name]["clusters"] == GROUPS + ALONE
        assert rows[name]["singletons"] == ALONE / (GROUPS * EACH + ALONE)
    for name in ("level 1", "level 2", "level 3"):
        assert rows[f"{name}, k-means"]["linked_clusters"] == rows[name]["linked_clusters"]
        assert rows[f"{name}, random"]["largest"] == rows[name]["largest"]
        assert rows[f"{name}, random"]["label"]["ami"] < 0.2
    assert rows["components"]["linked_clusters"] == 1
    assert rows["components"]["label"]["ami"] == pytest.approx(0.0, abs=1e-12)


def test_videos_without_a_vertical_are_left_out_and_counted(planted):
    found = quality(planted, {0: "a", 1: "b"}, seed=0)
    assert found["without"] == {"label": 0, "vertical": (GROUPS - 2) * EACH}
    assert found["classes"]["vertical"] == 2
    assert found["rows"]["level 3"]["vertical"] == pytest.approx({"purity": 1.0, "ami": 1.0})


def test_a_corpus_without_a_hierarchy_is_refused(planted):
    with pytest.raises(ValueError, match="give a corpus with a hierarchy"):
        quality(replace(planted, hierarchy=None), {}, seed=0)


def test_the_seed_decides_and_the_generator_of_others_is_left_alone(corpus):
    corpus = replace(corpus, hierarchy=affinity_clusters(corpus.train_graph, corpus.is_train))
    random.seed(3)
    before = random.getstate()

    def all_of(seed):
        return {name: of.tolist() for name, of in clusterings(corpus, corpus.hierarchy, seed=seed)}

    first = all_of(1)
    assert first == all_of(1)
    assert first.keys() == all_of(2).keys()
    assert first["level 1, random"] != all_of(2)["level 1, random"]
    assert sorted(first["level 1, random"]) == sorted(first["level 1"])
    assert random.getstate() == before


def test_communities_by_the_weights_of_a_square():
    ends = np.array([[1, 2], [2, 3], [3, 4], [4, 1]])  # row 0 stands apart
    for heavy, wanted in (((9, 1, 9, 1), {(1, 2), (3, 4)}), ((1, 9, 1, 9), {(2, 3), (1, 4)})):
        graph = RelationGraph.from_edges(*ends.T, np.array(heavy), nodes=5)
        videos = np.arange(1, 5)
        for name, of in communities(graph, videos, seed=0):
            groups = {tuple(videos[of == number].tolist()) for number in set(of.tolist())}
            assert groups == wanted, name


def test_communities_where_there_are_none_are_as_the_seed_draws():
    pairs = np.unique(np.sort(np.random.default_rng(0).integers(0, 200, (600, 2)), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    graph = RelationGraph.from_edges(*pairs.T, np.ones(len(pairs)), nodes=200)
    videos = np.flatnonzero(graph.degrees() > 0)

    def found(seed):
        return {name: tuple(of.tolist()) for name, of in communities(graph, videos, seed=seed)}

    assert found(1) == found(1)
    for name in ("Louvain", "Leiden"):
        assert len({found(seed)[name] for seed in range(4)}) > 1, name


def test_igraph_goes_back_to_the_generator_that_it_had(planted):
    import igraph

    def drawn():
        random.seed(7)
        return igraph.Graph.Erdos_Renyi(n=20, p=0.5).get_edgelist()

    before = drawn()
    assert list(communities(planted.train_graph, linked_videos(planted), seed=0))
    assert drawn() == before


def test_without_igraph_its_rows_are_left_out_and_that_is_said(planted, monkeypatch):
    monkeypatch.setitem(sys.modules, "igraph", None)  # as if not installed
    found = [name for name, _ in clusterings(planted, planted.hierarchy, seed=0)]
    assert found[-1] == "components"
    assert not {"Louvain", "Leiden"} & set(found)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The command on one real shard with two seeds: its folder and exit code."""
    folder = tmp_path_factory.mktemp("quality")
    records = str(SAMPLE / "validate0000.tfrecord")
    given = ["--workdir", str(folder), "--records", records, "--seeds", "0", "4"]
    return folder, main(given), given


def test_real_records_from_the_command_line(measured):
    folder, code, _ = measured
    assert code == 0
    result = json.loads((folder / "cluster_quality.json").read_text())
    assert result["simulated_sessions"] is True
    assert list(result["seeds"]) == ["0", "4"]
    assert {"igraph", "scikit-learn", "jax"} <= result["versions"].keys()
    for found in result["seeds"].values():
        rows = found["rows"]
        levels = [f"level {level}" for level in (1, 2, 3, 4)]
        kinds = ("", ", random", ", k-means")
        wanted = [level + kind for level in levels for kind in kinds]
        assert list(rows) == [*wanted, "components", "Louvain", "Leiden"]
        counts = [rows[level]["clusters"] for level in levels]
        assert counts == sorted(counts, reverse=True)
        assert found["linked_videos"] < found["train_videos"]
        for row in rows.values():
            assert row["clusters"] - row["linked_clusters"] == (
                found["train_videos"] - found["linked_videos"]
            )
        # The sessions come from the labels, so the graph must know of them.
        assert rows["level 1"]["label"]["ami"] > rows["level 1, random"]["label"]["ami"] + 0.1


def test_the_tables_say_what_they_are(measured):
    folder, _, _ = measured
    result = json.loads((folder / "cluster_quality.json").read_text())
    page = (folder / "cluster_quality.md").read_text()
    assert page == as_markdown(result)
    console = Console(width=80, record=True, highlight=False, file=io.StringIO())
    print_quality(result, console)
    shown = console.export_text()
    for text in (page, shown):
        assert "SIMULATED" in text
        assert "rarest label" in text
        assert "seeds 0, 4" in text
        assert "have a relation" in text
    tables = shown.split("SIMULATED sessions, made")[0].splitlines()
    assert all(len(line) <= 80 for line in tables)
    assert not any(line.startswith("k-means") for line in tables)  # no row is broken
    each = [found["rows"]["level 1"]["label"]["ami"] for found in result["seeds"].values()]
    cell = f"{sum(each) / 2:.3f} [{min(each):.3f}, {max(each):.3f}]"
    (line,) = [line for line in page.splitlines() if line.startswith("| level 1 |")]
    assert cell in line


def test_without_igraph_the_command_says_so(measured, monkeypatch, capsys):
    folder, _, given = measured
    monkeypatch.setitem(sys.modules, "igraph", None)
    assert main([*given[:-2], "--seeds", "0"]) == 0
    said = "igraph is not installed, so the rows Louvain and Leiden are left out"
    assert said in capsys.readouterr().out
    assert said in (folder / "cluster_quality.md").read_text()
    assert "| Leiden |" not in (folder / "cluster_quality.md").read_text()


def test_mistakes_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--workdir", str(tmp_path), "--seeds", "1", "1"])
    assert end.value.code == 2
    assert "different numbers" in capsys.readouterr().err
    missing = str(tmp_path / "no.csv")
    assert main(["--workdir", str(tmp_path), "--vocabulary", missing]) == 1
    assert "no.csv" in capsys.readouterr().err


def test_linked_videos_have_a_relation_in_the_train_graph(planted):
    assert linked_videos(planted).tolist() == list(range(GROUPS * EACH))


def test_shared_labels_are_counted_pair_by_pair():
    rng = np.random.default_rng(3)
    videos = 60
    bears = [set(rng.choice(8, rng.integers(0, 4), replace=False).tolist()) for _ in range(videos)]
    one, other = np.triu_indices(videos, 1)
    alike = np.array([bool(bears[i] & bears[j]) for i, j in zip(one, other)])
    joined = rng.random(len(one)) < np.where(alike, 0.12, 0.02)
    graph = RelationGraph.from_edges(
        one[joined], other[joined], rng.random(joined.sum()) + 1, nodes=videos
    )
    is_train = np.arange(videos) < 50
    corpus = Corpus(
        table=table_of([sorted(some) for some in bears]),
        is_train=is_train,
        relations=graph,
        train_graph=graph.within(is_train),
        simulated=True,
        hierarchy=affinity_clusters(graph.within(is_train), is_train, rounds=3),
    )
    found = shared_labels(corpus, seed=0)
    train = is_train[one] & is_train[other]
    assert found["related in training"] == pytest.approx(alike[joined & train].mean())
    between = is_train[one] != is_train[other]
    assert found["related between the partitions"] == pytest.approx(alike[joined & between].mean())
    siblings = Siblings.of(corpus.hierarchy, corpus.train_graph, is_train)
    assert len(found) == 2 + siblings.levels + 1
    level, top = corpus.hierarchy.level(1), corpus.train_graph
    exact = []
    for anchor in np.flatnonzero(top.degrees()):
        related = top.neighbours[top.offsets[anchor] : top.offsets[anchor + 1]].tolist()
        others = np.flatnonzero(is_train & (level != level[anchor]))
        exact.append(np.mean([bool(bears[anchor] & bears[i]) for i in others if i not in related]))
    assert found["negatives from all train videos"] == pytest.approx(np.mean(exact), abs=0.05)


def test_without_siblings_only_relations_are_counted(planted):
    assert shared_labels(planted, seed=0) == {"related in training": 1.0}
