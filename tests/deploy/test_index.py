"""An index of a run's vectors, or of features only: search, recommend, keep up to date."""

import gc
import tempfile
from dataclasses import replace

import numpy as np
import pytest

import vidembed
from vidembed.__main__ import main
from vidembed.deploy.features import features
from vidembed.deploy.index import VideoIndex
from vidembed.deploy.inputs import InputError
from vidembed.deploy.videos import part_of_table
from vidembed.records.bytecode import dequantise
from vidembed.records.outputs import OutputError
from vidembed.records.space import SpaceError


@pytest.fixture(scope="module")
def vectors(run, corpus):
    return run.embed(corpus.table)


@pytest.fixture(scope="module")
def index(run, corpus):
    return run.index(corpus.table)


def brute(vectors, query, k, left_out=()):
    order = np.argsort(-(vectors @ query), kind="stable")
    return order[~np.isin(order, left_out)][:k]


def test_search_by_vectors_features_and_ids_finds_the_nearest(
    run, corpus, index, vectors, tmp_path
):
    ids = corpus.table.ids
    assert len(index) == 300
    by_vectors = index.search(vectors[:5], 7)
    by_features = index.search(part_of_table(corpus.table, np.arange(5)), 7)
    part_of_table(corpus.table, np.arange(5)).write(tmp_path / "five")
    np.testing.assert_array_equal(index.search(str(tmp_path / "five"), 7).ids, by_features.ids)
    by_ids = index.search(ids=[name.decode() for name in ids[:5]], k=7)
    for row in range(5):
        for found, left_out in ((by_vectors, ()), (by_features, ()), (by_ids, (row,))):
            names, scores = list(found.each())[row]
            expected = brute(vectors, vectors[row], 7, left_out)
            assert set(names) == set(ids[expected])
            np.testing.assert_allclose(scores, vectors[expected] @ vectors[row], atol=1e-4)
    few = index.search(ids=ids[:2], k=9, within=ids[:4])
    assert few.counts.tolist() == [3, 3]
    [all_others] = index.search(ids=ids[:1], k=1_000).counts
    assert all_others == 299


def test_a_temporary_index_is_removed_after_use(run, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = run.index(part_of_table(corpus.table, np.arange(9)))
    assert list(tmp_path.iterdir())
    del made
    gc.collect()
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(
    "A run in use: ids that an index lacks",
    "as queries: refused, with their number; in a history: skipped, with a warning",
)
def test_ids_that_the_index_lacks_are_counted(corpus, index):
    with pytest.raises(ValueError, match=r"lacks 2 ids \(x, y\) of 3 queries"):
        index.search(ids=["x", "v0001", "y"])
    for nothing in ({}, {"vectors": np.ones((1, 8), np.float32), "ids": ["v0001"]}):
        with pytest.raises(ValueError, match="give one of vectors, ids, text"):
            index.search(**nothing)


@pytest.mark.fault("A run in use: ids that an index lacks")
def test_recommendations_are_nearest_to_the_mean_of_the_history(corpus, index, vectors, caplog):
    rows = [3, 50, 120]
    expected = brute(vectors, vectors[rows].mean(axis=0), 10, rows)
    # A video watched twice counts twice.
    twice = brute(vectors, vectors[[3, 3, 50]].mean(axis=0), 10, [3, 50])
    names, scores = index.recommend(corpus.table.ids[rows], 10)
    assert set(names) == set(corpus.table.ids[expected])
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose(scores, (vectors[expected] @ vectors[rows].T).mean(1), atol=1e-4)
    assert set(index.recommend(["v0003", "v0003", "v0050"], 10)[0]) == set(corpus.table.ids[twice])
    assert not caplog.messages
    again, _ = index.recommend([*corpus.table.ids[rows].astype(str), "gone"], 10)
    assert set(again) == set(names)
    assert caplog.messages == ["the index lacks 1 ids (gone) of the history"]
    for history in ([], ["gone"]):
        with pytest.raises(ValueError, match="no video of the history"):
            index.recommend(history)


def test_features_are_indexed_and_embed_other_videos(corpus, corpus_paths):
    table = corpus.table
    wide = [dequantise(array) for array in table.features.values()]
    raw = np.concatenate([(part - part.mean(0)) / part.std(0) for part in wide], axis=1)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    index = vidembed.index(corpus_paths.table)
    found = index.search(ids=table.ids[:3], k=5)
    for row, (names, _) in enumerate(found.each()):
        assert set(names) == set(table.ids[brute(raw, raw[row], 5, (row,))])
    np.testing.assert_allclose(index.run.embed(table), raw, atol=1e-4)
    one = {m: array[:1] for m, array in table.features.items()}
    assert next(index.search(one, 1).each())[0] == [b"v0000"]
    lacking = replace(table, present={"audio": np.arange(300) > 0})
    assert list(table.features) == ["audio", "visual"]
    assert (features(lacking).embed(lacking)[0, :4] == 0).all()
    assert features(table, ["audio"]).widths == {"audio": 4}
    with pytest.raises(OutputError, match="is one of the inputs"):
        vidembed.index(corpus_paths.table, f"{corpus_paths.table}/index")
    with pytest.raises(InputError, match="no 'text'"):
        vidembed.index(table, modalities=["text"])
    with pytest.raises(InputError, match="no videos"):
        vidembed.index(part_of_table(table, np.arange(0)))


@pytest.mark.fault("A run in use: an empty table, an empty share")
@pytest.mark.fault(
    "A run in use: features from another model than the run's training features; an index of "
    "other vectors",
)
def test_an_index_of_another_space_is_refused(run, corpus, tmp_path):
    vidembed.index(corpus.table, tmp_path / "raw")
    with pytest.raises(SpaceError):
        VideoIndex.open(tmp_path / "raw", run)
    with pytest.raises(ValueError, match="no run to compute vectors"):
        VideoIndex.open(tmp_path / "raw").search(corpus.table)
    with pytest.raises(SpaceError, match="queries are of the space"):
        VideoIndex.open(tmp_path / "raw").search(np.ones((1, 12)), space=run.space)
    with pytest.raises(InputError, match="none of the table's 0 videos"):
        run.index(part_of_table(corpus.table, np.arange(0)), tmp_path / "none")


@pytest.mark.fault(
    "A run in use: tabs, line ends and bytes that are not text in ids that are searched",
    "found; printed as \\t, \\n, \\xff, so that a line is one result",
)
def test_ids_of_any_bytes_are_searched_and_printed(run, corpus, tmp_path, capsys):
    ids = np.array(["ü\tx".encode(), b"a\nb", b"\xff", b"-y"])
    some = replace(part_of_table(corpus.table, np.arange(4)), ids=ids)
    run.index(some, tmp_path / "index")
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbf\xc3\xbc\tx\r\n\xff\r\n")
    words = ["search", tmp_path / "index", "--id", "\udcff", "-k", 9]
    code, said, _ = call(capsys, *words)
    assert code == 0
    lines = [line.split("\t") for line in said.splitlines()]
    assert {(line[0], line[2]) for line in lines} == {
        ("\\xff", "ü\\tx"),
        ("\\xff", "a\\nb"),
        ("\\xff", "-y"),
    }
    _, said, _ = call(capsys, *words, "--within", tmp_path / "windows.txt")
    assert [line.split("\t")[2] for line in said.splitlines()] == ["ü\\tx"]


def call(capsys, *words):
    """Exit code, output, errors."""
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.fault(
    "A run in use: other vectors, foreign files, an index or an export at the output path",
)
def test_the_commands_make_update_and_search_an_index(workdir, corpus, vectors, tmp_path, capsys):
    table, path = corpus.table, tmp_path / "index"
    run_options = ["--step", "latest"]
    part_of_table(table, np.arange(200)).write(tmp_path / "old")
    part_of_table(table, np.arange(50, 300)).write(tmp_path / "new")
    made = ["index", workdir, tmp_path / "old", path, *run_options]
    code, said, _ = call(capsys, *made)
    assert code == 0
    assert "200 videos, 8 dimensions" in said
    assert "recall@10 against exact search: 1.000" in said
    # Only new videos are embedded, and only with --prune are any removed.
    refresh = ["index", workdir, tmp_path / "new", path, *run_options, "--refresh"]
    assert "100 videos added, 0 removed, 300 in all" in call(capsys, *refresh)[1]
    assert "0 videos added, 50 removed, 250 in all" in call(capsys, *refresh, "--prune")[1]
    assert "went back to 300 videos" in call(capsys, "index", path, "--rollback")[1]
    assert "unchanged since they were written" in call(capsys, "index", path, "--verify")[1]
    code, said, _ = call(capsys, "search", path, "--id", "v0000", "v0299", "-k", 3)
    lines = [line.split("\t") for line in said.splitlines()]
    assert [line[:2] for line in lines] == [[q, r] for q in ("v0000", "v0299") for r in "123"]
    assert {line[2] for line in lines[:3]} == set(
        table.ids[brute(vectors, vectors[0], 3, (0,))].astype(str)
    )
    (tmp_path / "few.txt").write_text("v0001\nv0002\nv0003\n")
    within = ["--within", tmp_path / "few.txt"]
    code, said, _ = call(capsys, "search", path, "--history", "v0002", "v0290", *within)
    assert {line.split("\t")[2] for line in said.splitlines()} == {"v0001", "v0003"}
    by = ["--record", tmp_path / "old", "--run", workdir, *run_options]
    code, said, _ = call(capsys, "search", path, *by, "-k", 1)
    assert len(said.splitlines()) == 200
    raw = ["index", tmp_path / "new", tmp_path / "raw"]
    assert "250 videos, 12 dimensions\nspace: standardised audio, visual" in call(capsys, *raw)[1]
    # Features of videos that the run has not seen, and mistakes.
    for words, message in (
        (["search", path, "--id", "x"], "lacks 1 ids (x)"),
        (["search", path, "--id=-x"], "lacks 1 ids (-x)"),
        (["search", path], "give one of --id, --history, --record and --text"),
        (["search", path, "--id", "v0000", "-k", "0"], "k is 0"),
        (["search", tmp_path, "--id", "x"], "error: "),
        (made, "--refresh"),
        (["index", path], "give RUN TABLE INDEX"),
        ([*made, "--prune"], "--refresh"),
        ([*refresh, "--engine", "ivf"], "has engine exact, not ivf"),
        ([*refresh, "--keep", "int8"], "has keep float32, not int8"),
        ([*refresh, "--force"], "give one"),
        (["index", path, "--rollback", "--refresh"], "without what changes"),
        ([*raw, "--refresh"], "features are standardised by the table"),
    ):
        code, _, errors = call(capsys, *words)
        assert code == 1, words
        assert message in errors
