"""Adding, replacing, removing and filtering with every engine, against sorted products."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from vidembed.records.space import SpaceError
from vidembed.serving import faiss_engine
from vidembed.serving.exact import Exact
from vidembed.serving.faiss_engine import FastScan, Hnsw, Ivf
from vidembed.serving.index import Index
from vidembed.serving.quantizer import Quantizer

D, N = 16, 2200


def some_vectors(rows, seed=0):
    """Unit vectors around forty centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, D))
    vectors = centres[rng.integers(0, 40, rows)] + 0.6 * rng.normal(size=(rows, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def some_ids(rows, first=0):
    return np.array([f"v{number:05d}" for number in range(first, first + rows)], "S")


LEVELS = np.quantile(some_vectors(N), (np.arange(16) + 0.5) / 16).astype(np.float32)
# With these efforts each engine finds nearly all.
ENGINES = {
    "exact": Exact(),
    "fast-scan": FastScan(levels=LEVELS[None], effort=8),
    "hnsw": Hnsw(effort=400),
    "ivf": Ivf(effort=60),
}


class Dictionary:
    """The oracle: a dictionary, and a sort of all products."""

    def __init__(self, ids, vectors):
        self.vectors = dict(zip(ids.tolist(), vectors))

    def search(self, query, k, within=None):
        ids = [id for id in self.vectors if within is None or id in within]
        scores = np.array([self.vectors[id] @ query for id in ids])
        best = np.argsort(-scores, kind="stable")[:k]
        return [ids[place] for place in best], scores[best]


def check(index, oracle, queries, k, within=None, least=0.99):
    """Check each query: number of results, allowed ids, exact scores, and the best ids."""
    result = index.search(queries, k, within=within)
    hits = expected = 0
    for query, (ids, scores) in zip(queries, result.each()):
        right, _ = oracle.search(query, k, None if within is None else set(within.tolist()))
        assert len(ids) == len(right)
        assert len(set(ids.tolist())) == len(ids)
        np.testing.assert_allclose(
            scores, [oracle.vectors[id] @ query for id in ids.tolist()], atol=1e-5
        )
        assert (np.diff(scores) <= 1e-6).all()
        hits, expected = hits + len({*right} & {*ids.tolist()}), expected + len(right)
    assert hits >= least * expected
    recall = index.recall(queries, k, within=within)
    assert recall == pytest.approx(hits / expected if expected else 1.0, abs=0.002)


@pytest.fixture(params=ENGINES)
def engine(request):
    return ENGINES[request.param]


@pytest.mark.fault(
    "Indexes: ids that the index lacks",
    "counted by `remove`, by `has`, and in a warning if a filter names them",
)
def test_the_life_of_an_index(tmp_path, engine, monkeypatch):
    monkeypatch.setattr(faiss_engine, "FEW", 0)  # every filter reaches the engine
    monkeypatch.setattr(faiss_engine, "FEW_OF", N)
    ids, vectors, queries = some_ids(N), some_vectors(N), some_vectors(20, 1)
    index = Index.create(tmp_path / "i", ids, vectors, space="s", engine=engine)
    oracle = Dictionary(ids, vectors)
    check(index, oracle, queries, 10)
    half, rare = ids[::2], ids[5::300]
    check(index, oracle, queries, 10, within=half)
    check(index, oracle, queries, 30, within=rare)

    more, new = some_ids(200, N), some_vectors(200, 2)
    index.add(more.astype(str), new)
    oracle.vectors.update(zip(more.tolist(), new))
    assert index.remove([*ids[:1000].tolist(), b"nobody"]) == 1000
    for id in ids[:1000].tolist():
        del oracle.vectors[id]
    replaced_ids, new_vectors = np.concatenate([ids[1000:1100], more[:50]]), some_vectors(150, 3)
    assert index.replace(replaced_ids, new_vectors) == 150
    oracle.vectors.update(zip(replaced_ids.tolist(), new_vectors))
    assert len(index) == len(oracle.vectors) == len(index.ids)
    assert index.sizes()["flat rows"] >= 300
    check(index, oracle, queries, 10)
    check(index, oracle, queries, 10, within=np.concatenate([half, more[::3]]))

    index.merge()
    assert index.sizes()["rows"] == len(index) == len(oracle.vectors)
    assert index.sizes()["flat rows"] == 0
    check(index, oracle, queries, 10)
    index = Index.open(tmp_path / "i")
    assert index.engine == engine
    check(index, oracle, queries, 10, within=half)
    there, is_there = index.vectors_of([b"v01050", b"nobody", b"v00001", more[60]])
    assert is_there.tolist() == [True, False, False, True]
    np.testing.assert_array_equal(there, [oracle.vectors[b"v01050"], new[60]])
    assert index.has(["v01050", "v0105", "v010500"]).tolist() == [True, False, False]
    assert index.verify() == index.sizes()["bytes"]


@pytest.mark.parametrize("seed", range(2))
def test_any_sequence_of_changes(tmp_path, seed):
    """Compare ids, vectors and the previous version with a dictionary."""
    random = np.random.default_rng(seed)
    index = Index.create(tmp_path / "i", [], np.zeros((0, 4), np.float32), space="s")
    there, before = {}, None
    for _ in range(25):
        step = random.choice(["replace", "replace", "remove", "merge", "rollback", "open"])
        ids = random.choice(60, random.integers(1, 25), replace=False).astype("S")
        changed = dict(there)
        if step == "replace":
            vectors = random.normal(size=(len(ids), 4)).astype(np.float32)
            changed |= dict(zip(ids.tolist(), vectors))
            assert index.replace(ids, vectors) == len(there.keys() & {*ids.tolist()})
        elif step == "remove":
            for id in there.keys() & {*ids.tolist()}:
                del changed[id]
            assert index.remove(ids) == len(there) - len(changed)
            if len(changed) == len(there):
                continue  # no new version
        elif step == "merge":
            index.merge()
        elif step == "open":
            index = Index.open(tmp_path / "i")
            continue
        elif before is None:
            with pytest.raises(ValueError, match="keeps no version"):
                Index.rollback(tmp_path / "i")
            continue
        else:
            index, changed, there = Index.rollback(tmp_path / "i"), before, None
        before, there = there, changed
        names = index.ids
        assert sorted(names.tolist()) == sorted(there)
        vectors, is_there = index.vectors_of(names)
        assert is_there.all()
        assert all((there[id] == row).all() for id, row in zip(names.tolist(), vectors))
    assert index.verify()


@pytest.mark.fault("Indexes: ids that the index lacks")
@pytest.mark.fault(
    "Indexes: k above the corpus or above what a filter leaves, an empty index",
    "fewer rows, and `counts` holds their number; never an invalid id",
)
def test_fewer_than_k_results_give_fewer_rows(tmp_path, engine, caplog):
    ids, vectors = some_ids(60), some_vectors(60)
    index = Index.create(tmp_path / "i", ids, vectors, space="s", engine=engine)
    assert index.search(vectors[:3], 100).counts.tolist() == [60, 60, 60]
    result = index.search(vectors[:2], 5, within=[ids[7], b"lacks", b"also"])
    assert result.ids.tolist() == [ids[7], ids[7]]
    assert "lacks 2 ids (lacks, also)" in caplog.text
    assert index.search(vectors[:2], 5, within=[]).counts.tolist() == [0, 0]
    assert index.search(vectors[:0], 5).counts.tolist() == []
    assert index.remove(ids) == 60
    assert len(index) == 0
    assert index.search(vectors[:2], 5).counts.tolist() == [0, 0]
    assert index.recall(vectors[:2], 5) == 1
    index.merge()
    assert index.sizes()["rows"] == 0
    index.add(ids[:1], vectors[:1])
    assert index.search(vectors[:2], 5).ids.tolist() == [ids[0]] * 2


def test_equal_scores_come_in_the_order_of_rows(tmp_path):
    vectors = np.repeat(some_vectors(2), 20, axis=0)
    index = Index.create(tmp_path / "i", some_ids(40), vectors, space="s")
    assert index.search(vectors[:1], 20).ids.tolist() == some_ids(20).tolist()


def test_an_empty_index_grows(tmp_path):
    index = Index.create(tmp_path / "i", [], np.zeros((0, D), np.float32), space="s")
    for number in range(20):
        index.add(some_ids(1, number), some_vectors(1, number))
    assert len(index) == 20
    # Short flat segments were joined, so searches scan few of them.
    assert len(index._version.segments) <= 5
    check(index, Dictionary(index.ids, index.vectors_of(index.ids)[0]), some_vectors(3), 5)


def test_vectors_in_eight_bits(tmp_path):
    ids, vectors, queries = some_ids(N), some_vectors(N), some_vectors(20, 1)
    whole = Index.create(tmp_path / "whole", ids, vectors, space="s")
    index = Index.create(tmp_path / "i", ids, vectors, space="s", keep="int8")
    assert index.sizes()["bytes"] < 0.6 * whole.sizes()["bytes"]
    pairs = zip(index.search(queries, 100).each(), whole.search(queries, 100).each())
    assert np.mean([len(np.intersect1d(a, b)) / 100 for (a, _), (b, _) in pairs]) > 0.97
    before, _ = index.vectors_of(ids)
    assert np.abs(before - vectors).max() <= np.abs(vectors).max() / 253
    index.merge(ENGINES["ivf"])
    np.testing.assert_allclose(index.vectors_of(ids)[0], before, rtol=1e-6)
    assert index.engine == ENGINES["ivf"]
    assert index.recall(queries, 10) > 0.99


def test_more_effort_finds_more(tmp_path):
    index = Index.create(
        tmp_path / "i", some_ids(N), some_vectors(N), space="s", engine=Ivf(effort=1)
    )
    queries = some_vectors(50, 1)
    little, much = index.recall(queries, 50), index.recall(queries, 50, effort=75)
    assert little < 0.98 < 0.999 < much


@pytest.mark.fault("Indexes: an index created where one exists")
@pytest.mark.fault("Indexes: vectors or queries of another space")
def test_one_change_is_one_version_and_rollback_goes_back(tmp_path):
    ids, vectors = some_ids(100), some_vectors(100)
    index = Index.create(tmp_path / "i", ids, vectors, space="s")
    with pytest.raises(ValueError, match="keeps no version before"):
        Index.rollback(tmp_path / "i")
    index.change(add=(some_ids(5, 100), some_vectors(5, 5)), remove=ids[:10], merge=True)
    assert len(index) == 95
    index = Index.rollback(tmp_path / "i")
    assert index.ids.tolist() == ids.tolist()
    with pytest.raises(ValueError, match="keeps no version before"):
        Index.rollback(tmp_path / "i")
    assert len(list((tmp_path / "i").glob("segment-*"))) == 1
    index.remove(ids[:1])
    assert index.remove(ids[:1]) == 0  # nothing changed, so no new version
    index = Index.rollback(tmp_path / "i")
    assert len(index) == 100
    # Another index in its place, by one swap; the previous one is kept.
    new_index = Index.create(tmp_path / "i", ids[:7], vectors[:7, :3], space="other", over=True)
    assert (len(new_index), new_index.dimension, len(index)) == (7, 3, 100)
    with pytest.raises(SpaceError, match=r"changes are of the space 's'.*'other'"):
        index.remove(ids[:1])
    new_index = Index.rollback(tmp_path / "i")
    assert (len(new_index), new_index.space) == (100, "s")


@pytest.mark.fault("Indexes: two processes that change one index")
def test_a_change_applies_to_the_newest_version(tmp_path):
    index = Index.create(tmp_path / "i", some_ids(10), some_vectors(10), space="s")
    second = Index.open(tmp_path / "i")
    index.add(["a"], some_vectors(1))
    assert len(second) == 10
    second.add(["b"], some_vectors(1))
    assert len(second) == 12
    index.reopen()
    assert len(index) == 12


@pytest.mark.fault(
    "Indexes: an index read while it is swapped",
    "the reader sees one complete version",
)
def test_a_reader_during_swaps_sees_one_complete_version(tmp_path):
    """Each version has its own ids, which name it, and its own vectors."""

    def contents(number):
        ids = [f"{number}-{row}" for row in range(50)]
        return ids, np.full((50, 4), number, np.float32)

    index = Index.create(tmp_path / "i", *contents(0), space="s")
    seen, faults, done = set(), [], threading.Event()

    def read():
        while not done.is_set():
            try:
                opened = Index.open(tmp_path / "i")
                ids, scores, counts = opened.search(np.ones((1, 4), np.float32), 60)
                assert counts.tolist() == [50]
                assert {int(id.split(b"-")[0]) * 4.0 for id in ids.tolist()} == {*scores.tolist()}
                assert opened.verify()
                seen.add(scores[0])
            except Exception as error:
                faults.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    swaps = 0
    # On a busy machine many swaps may pass before a reader runs.
    while swaps < 20 or (len(seen) < 3 and not faults and swaps < 2000):
        swaps += 1
        index.change(add=contents(swaps), remove=index.ids, merge=swaps % 2 == 0)
    done.set()
    for reader in readers:
        reader.join()
    assert not faults
    assert len(seen) > 2


@pytest.mark.fault(
    "Indexes: faiss is not installed",
    "`pip install -e '.[serve]'`; exact search works without",
)
def test_faiss_is_required_only_when_needed_with_a_clear_message(tmp_path):
    script = f"""
import sys
sys.modules["faiss"] = None
import numpy as np
from vidembed.serving.index import Index
from vidembed.serving.quantizer import Quantizer
ids, vectors = ["a", "b"], np.eye(2, dtype=np.float32)
index = Index.create({str(tmp_path / "i")!r}, ids, vectors, space="s")
assert index.search(vectors, 1).ids.tolist() == [b"a", b"b"]
try:
    index.merge("ivf")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install -e '.[serve]'" in done.stdout, done.stderr


def test_levels_are_fitted_or_given(tmp_path):
    """Levels fitted by the engine or given from a quantiser give the same codes."""
    ids, vectors = some_ids(N), some_vectors(N)
    index = Index.create(tmp_path / "i", ids, vectors, space="s", engine="fast-scan")
    assert index.recall(vectors[:20], 20) > 0.95
    codes = index._version.segments[0].engine_array("faiss").copy()
    levels = Quantizer.fit(vectors, bits=4).levels
    index.merge(FastScan(levels=levels))
    np.testing.assert_array_equal(index._version.segments[0].engine_array("faiss"), codes)
    np.testing.assert_array_equal(Index.open(tmp_path / "i").engine.levels, levels)
