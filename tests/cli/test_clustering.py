"""`python -m vidembed cluster` as people run it."""

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.__main__ import main
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.hierarchy import read_hierarchy
from vidembed.records.tabular import METADATA_KEY


def cluster(paths, to, options="", edges=None):
    arguments = ["cluster", edges or paths.edges, to, "--table", paths.table]
    return main([*map(str, arguments), *shlex.split(options)])


def joining(corpus, path, pairs, **metadata):
    """An edge file of pairs of train videos, counted from 0."""
    ids = corpus.table.ids[corpus.is_train].astype(str)
    ends = np.array(pairs).reshape(-1, 2)
    table = pa.table({"source": ids[ends[:, 0]], "target": ids[ends[:, 1]], "weight": ends[:, 1]})
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def test_it_writes_what_a_run_opens(corpus_paths, corpus, tmp_path, capsys):
    assert cluster(corpus_paths, tmp_path / "h.parquet", "--rounds 2 --linkage mean") == 0
    told = capsys.readouterr().out
    found = read_hierarchy(tmp_path / "h.parquet", corpus.table.ids)
    found.check(corpus.train_graph, corpus.is_train)
    wanted = affinity_clusters(corpus.train_graph, corpus.is_train, rounds=2, linkage="mean")
    assert found.fingerprint == wanted.fingerprint
    told_of = {"split_seed": 0, "train_share": 0.7, "max_degree": 50, "simulated": False}
    assert found.parameters == {**wanted.parameters, **told_of}
    sizes = found.sizes(2)
    assert f"level 2: {len(sizes)} clusters, {(sizes == 1).sum()} with one video" in told
    assert f"largest {sizes.max()};" in told
    assert "clustering: 2 of 2 rounds, " in told
    assert "543 edges\n" in told
    assert "warning" not in told
    paths = dataclasses.replace(corpus_paths, hierarchy=str(tmp_path / "h.parquet"))
    assert paths.open().hierarchy.fingerprint == found.fingerprint


@pytest.mark.fault(
    "Relations and sessions: a hierarchy of other videos, of another graph, not a hierarchy file",
)
def test_every_option_arrives(corpus_paths, corpus, tmp_path):
    options = (
        "--split-seed 3 --train-share 0.5 --max-unknown-share 0 --rounds 4 --linkage sum "
        "--min-similarity 3 --max-size 7 --max-degree 5"
    )
    assert cluster(corpus_paths, tmp_path / "h", options) == 0
    found = read_hierarchy(tmp_path / "h", corpus.table.ids)
    assert found.parameters == {
        "rounds": 4,
        "linkage": "sum",
        "min_similarity": 3,
        "max_size": 7,
        "split_seed": 3,
        "train_share": 0.5,
        "max_degree": 5,
        "simulated": False,
    }
    assert found.sizes(4).max() == 7
    split = dataclasses.replace(corpus_paths, split_seed=3, train_share=0.5, max_degree=5)
    split = split.open()
    assert split.train_graph.edges < split.train_relations.edges
    found.check(split.train_graph, split.is_train)
    with pytest.raises(
        ValueError, match=r"as before \(--split-seed 3 --train-share 0\.5 --max-degree 5\)"
    ):
        dataclasses.replace(corpus_paths, hierarchy=str(tmp_path / "h")).open()


def test_the_split_of_a_run_may_be_a_file(corpus_paths, corpus, tmp_path, capsys):
    ids = corpus.table.ids.astype(str)
    group = [f"g{row % 60}" for row in range(len(ids))]
    file, table = tmp_path / "split.parquet", pa.table({"id": ids, "group": group})
    pq.write_table(pa.concat_tables([table, pa.table({"id": ["gone"], "group": ["g"]})]), file)
    hierarchy = tmp_path / "h.parquet"
    assert cluster(corpus_paths, hierarchy, f"--split {file} --train-share 0.5") == 0
    assert "1 of its 301 videos are not in the table: gone" in capsys.readouterr().out
    paths = dataclasses.replace(
        corpus_paths, hierarchy=str(hierarchy), split=str(file), train_share=0.5
    )
    opened = paths.open()
    assert opened.hierarchy.parameters["split"] == str(file)
    train = {name for name, chosen in zip(group, opened.is_train) if chosen}
    assert len(train) == opened.is_train.sum() / 5, "groups are in train whole"
    # Who is for validation among the others is nothing to the train graph.
    assert dataclasses.replace(paths, validation_share=0.5).open().hierarchy
    then = rf"as before \(--split {file} --split-seed 0 --train-share 0\.5 --max-degree 50\)"
    with pytest.raises(ValueError, match=then):
        dataclasses.replace(paths, split="").open()


def test_simulated_sessions_are_told_and_kept(corpus_paths, corpus, tmp_path, capsys):
    said = {METADATA_KEY.decode(): json.dumps({"simulated": True})}
    edges = joining(corpus, tmp_path / "e.parquet", [(0, 1), (1, 2), (4, 5), (6, 7)], **said)
    assert cluster(corpus_paths, tmp_path / "h", edges=edges) == 0
    told = capsys.readouterr().out
    videos = corpus.is_train.sum()
    assert f"{videos} train videos, {videos - 7} of them without edges" in told
    assert "4 edges from SIMULATED sessions" in told
    assert read_hierarchy(tmp_path / "h", corpus.table.ids).parameters["simulated"]


@pytest.mark.fault(
    "Relations and sessions: one giant cluster, or no cluster of two videos",
    "a warning as it is made; 1 for a run that finds no siblings or fewer than two "
    "classes: clusters and sizes of the levels, and what to do",
)
def test_a_giant_cluster_is_warned_of(corpus_paths, corpus, tmp_path, capsys):
    # A star about video 9, and a pair apart: 10 of 12 videos with edges in one cluster.
    star = [(0, other) for other in range(1, 10)]
    edges = joining(corpus, tmp_path / "e.parquet", [*star, (10, 11)])
    assert cluster(corpus_paths, tmp_path / "h", "--rounds 1", edges=edges) == 0
    told = capsys.readouterr().out
    assert "warning: at level 1 one cluster holds 10 videos, 83% of those with edges" in told
    assert "--max-size" in told
    assert "median size of the others 6, largest 10; 100.0% of the edge weight" in told
    assert cluster(corpus_paths, tmp_path / "h", "--max-size 4", edges=edges) == 0
    told = capsys.readouterr().out
    assert "warning" not in told
    # 9 + 8 + 7 of the star's 45, and the pair's 11.
    assert "largest 4; 62.5% of the edge weight inside" in told


@pytest.mark.fault(
    "Relations and sessions: a train graph without edges, an edge that leaks, nothing merged",
)
def test_nothing_merged_is_a_failure(corpus_paths, tmp_path, capsys):
    assert cluster(corpus_paths, tmp_path / "h", "--min-similarity 1000") == 1
    told = capsys.readouterr().out
    assert "median size of the others 0, largest 1; 0.0%" in told
    assert "no two videos were merged" in told
    assert "--min-similarity (now 1000)" in told


@pytest.mark.fault(
    "Relations and sessions: a train graph without edges, an edge that leaks, nothing merged",
    "1 and what to do",
)
def test_edges_that_cannot_be_clustered_are_an_error_in_words(
    corpus_paths, corpus, tmp_path, capsys
):
    # Edges enough, but each between the partitions.
    train, other = (corpus.table.ids[mask][:9] for mask in (corpus.is_train, ~corpus.is_train))
    between = {"source": train.astype(str), "target": other.astype(str), "weight": [1.0] * 9}
    pq.write_table(pa.table(between), tmp_path / "e.parquet")
    assert cluster(corpus_paths, tmp_path / "h", edges=tmp_path / "e.parquet") == 1
    [told] = capsys.readouterr().err.splitlines()
    assert told.startswith("error: the train graph has no edges among ")
    assert "--min-weight" in told
    assert not (tmp_path / "h").exists()


def test_unknown_videos_are_dropped_up_to_the_share(corpus_paths, corpus, tmp_path, capsys):
    edges = pq.read_table(joining(corpus, tmp_path / "e.parquet", [(0, 1), (2, 3), (4, 5)]))
    foreign = pa.table({"source": ["x"], "target": ["y"], "weight": [1]})
    pq.write_table(pa.concat_tables([edges, foreign]), tmp_path / "e.parquet")
    assert cluster(corpus_paths, tmp_path / "h", edges=tmp_path / "e.parquet") == 1
    assert "1 of 4 edges (25.0%) name 2 ids" in capsys.readouterr().err
    share = "--max-unknown-share 0.3"
    assert cluster(corpus_paths, tmp_path / "h", share, edges=tmp_path / "e.parquet") == 0
    assert "3 edges\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--rounds 0", "rounds must be at least 1"),
        ("--max-size 1", "--max-size must be at least 2"),
        ("--train-share 2", "--train-share 2.0 must lie strictly between 0 and 1"),
    ],
)
def test_wrong_options_are_errors_in_words(corpus_paths, tmp_path, capsys, options, says):
    assert cluster(corpus_paths, tmp_path / "h", options) == 1
    captured = capsys.readouterr()
    assert says in captured.err
    assert "reading" not in captured.out, "refused before the work"
    assert not (tmp_path / "h").exists()


def test_neither_a_folder_nor_the_edges_are_written_over(corpus_paths, tmp_path, capsys):
    edges = tmp_path / "e.parquet"
    edges.write_bytes(before := Path(corpus_paths.edges).read_bytes())
    (tmp_path / "folder").mkdir()
    other = tmp_path / "folder" / ".." / "e.parquet"
    for to, says in ((tmp_path / "folder", "is a folder; name"), (other, "is one of the inputs")):
        assert cluster(corpus_paths, to, edges=edges) == 1
        captured = capsys.readouterr()
        assert says in captured.err
        assert "reading" not in captured.out
    assert edges.read_bytes() == before


def test_a_bucket_is_refused_before_the_work(corpus_paths, capsys):
    assert cluster(corpus_paths, "gs://b/h.parquet") == 1
    captured = capsys.readouterr()
    assert "not on a local disk" in captured.err
    assert "reading" not in captured.out


def test_edges_without_a_table_are_clustered_whole(tmp_path, capsys):
    """Against the same clusters by hand: two triangles, and a pair that max_size keeps apart."""
    (tmp_path / "e.csv").write_text(
        "source,target,weight\nb,a,3\na,c,3\nc,b,3\nz,y,5\ny,x,5\nx,z,5\nc,x,1\nq,r,9\n"
    )
    arguments = ["cluster", str(tmp_path / "e.csv"), str(tmp_path / "h.parquet"), "--rounds", "1"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "no --table: all 8 videos of" in told
    assert "none is held out" in told
    assert "8 train videos, 0 of them without edges; 8 edges\n" in told
    ids = np.array(list("abcqrxyz"), "S1")
    found = read_hierarchy(tmp_path / "h.parquet", ids)
    assert found.level(1).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert not {"train_share", "split_seed"} & found.parameters.keys()
    assert main([*arguments, "--split", "x.csv"]) == 1
    assert "give --table as well" in capsys.readouterr().err
