"""Residual k-means and the semantic IDs made with it, against slow loops and faiss."""

import warnings

import jax
import numpy as np
import pytest

from vidembed.distributed.mesh import MeshShape, make_mesh, place_rows
from vidembed.records.space import SpaceError
from vidembed.serving import kmeans as kmeans_module
from vidembed.serving.blocks import write_blocks
from vidembed.serving.kmeans import kmeans
from vidembed.serving.semantic_ids import CodebookError, Codebooks, numbered

ROWS, SIZES = 2048, (16, 16, 16)
"""The same in most tests, to compile little."""


def mixture(rows=ROWS, width=16, groups=40, spread=0.4, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_t(3, (groups, width))
    vectors = centres[rng.integers(0, groups, rows)]
    vectors = vectors + spread * rng.standard_normal((rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def slow_codes(vectors, books):
    """Greedy: all distances at each level, then the residual."""
    left, codes = vectors.astype(np.float64), []
    for book in books:
        distances = np.square(left[:, None] - book[None].astype(np.float64)).sum(-1)
        codes.append(distances.argmin(1))
        left = left - book[codes[-1]]
    return np.stack(codes, 1), np.square(left).sum()


def slow_books(vectors, sizes, seed=0, iterations=15):
    """Plain Lloyd iterations from random rows, level by level."""
    rng, left, books = np.random.default_rng(seed), vectors.astype(np.float64), []
    for size in sizes:
        book = left[rng.choice(len(left), size, replace=False)]
        for _ in range(iterations):
            code = np.square(left[:, None] - book[None]).sum(-1).argmin(1)
            for k in range(size):
                if (code == k).any():
                    book[k] = left[code == k].mean(0)
        books.append(book)
        left = left - book[slow_codes(left, [book])[0][:, 0]]
    return books


def devices(count):
    return make_mesh(MeshShape(), jax.devices()[:count])


@pytest.fixture(scope="module")
def vectors():
    return mixture()


@pytest.fixture(scope="module")
def books(vectors):
    return Codebooks.fit(vectors, SIZES, space="s")


@pytest.fixture(scope="module")
def codes(vectors, books):
    return books.encode(vectors)


def test_codes_are_those_of_a_slow_loop(vectors, books, codes):
    expected, error = slow_codes(vectors, books.books)
    np.testing.assert_array_equal(codes, expected)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(books.encode(vectors[:5]), expected[:5])
    assert books.encode(vectors[:0]).shape == (0, 3)
    missing = np.square(vectors - books.decode(codes)).sum()
    assert missing == pytest.approx(error, rel=1e-4)
    np.testing.assert_allclose(books.decode(codes[:, :1]), books.books[0][codes[:, 0]])


def test_a_centroid_is_the_mean_of_its_rows(vectors):
    mesh = devices(8)
    with jax.set_mesh(mesh):
        rows = place_rows(mesh, vectors)
        centroids = kmeans(rows, len(vectors), 16, seed=(0, 0), iterations=100)
    code = slow_codes(vectors, [centroids])[0][:, 0]
    means = [vectors[code == k].mean(0) for k in range(16)]
    np.testing.assert_allclose(centroids, means, atol=0.02)


def test_the_error_is_at_most_that_of_a_slow_kmeans(vectors, books):
    _, ours = slow_codes(vectors, books.books)
    _, slow = slow_codes(vectors, slow_books(vectors, SIZES))
    assert ours <= 1.03 * slow


def test_the_error_is_at_most_that_of_faiss(vectors, books):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own bindings
        faiss = pytest.importorskip("faiss", reason="faiss is not installed: the extra serve")
    peer = faiss.ResidualQuantizer(vectors.shape[1], len(SIZES), 4)
    peer.train_type, peer.max_beam_size = faiss.ResidualQuantizer.Train_default, 1
    peer.train(vectors)
    theirs = np.square(peer.decode(peer.compute_codes(vectors)) - vectors).sum()
    assert slow_codes(vectors, books.books)[1] <= 1.03 * theirs


def test_one_device_and_eight_agree(vectors, books, codes):
    alone = Codebooks.fit(vectors, SIZES, space="s", mesh=devices(1))
    # A row half-way between two centroids may move others.
    assert np.isclose(alone.books[0], books.books[0], atol=1e-5).all(axis=1).mean() > 0.8
    same = books.encode(vectors, mesh=devices(1))
    assert (same == codes).all(axis=1).mean() > 0.999
    _, error = slow_codes(vectors, books.books)
    assert slow_codes(vectors, alone.books)[1] == pytest.approx(error, rel=0.01)


def test_empty_centroids_begin_again_at_the_farthest_rows(vectors, monkeypatch):
    def all_the_same(rows, drawn, key, *, size):
        return np.repeat(np.asarray(rows[:1]), size, axis=0)

    monkeypatch.setattr(kmeans_module, "_begin", all_the_same)
    books = Codebooks.fit(vectors, (16,), space="s")
    assert len(np.unique(books.encode(vectors))) == 16


def test_in_many_dimensions_no_few_codes_attract_all_rows():
    vectors = np.random.default_rng(0).standard_normal((ROWS, 128)).astype(np.float32)
    books = Codebooks.fit(vectors, SIZES[:2], space="s")
    levels = books.quality(vectors, books.encode(vectors))["levels"]
    assert min(level["perplexity"] for level in levels) > 14


def test_fewer_different_rows_than_centroids():
    vectors = np.resize(np.eye(4, 16, dtype=np.float32), (ROWS, 16))
    books = Codebooks.fit(vectors, (16, 16), space="s")
    codes = books.encode(vectors)
    quality = books.quality(vectors, codes)
    assert [level["used"] for level in quality["levels"]] == [4, 1]
    assert quality["levels"][1]["lost"] < 1e-9
    assert (quality["unique"], quality["collisions"], quality["largest"]) == (0, ROWS, ROWS // 4)
    assert [level["perplexity"] for level in quality["levels"]] == pytest.approx([4, 1])


def test_the_lost_share_of_the_variance(vectors, books, codes):
    quality = books.quality(vectors, codes)
    for level, of in enumerate(quality["levels"], 1):
        _, error = slow_codes(vectors, books.books[:level])
        assert of["lost"] == pytest.approx(error / (vectors.var(0).sum() * len(vectors)), rel=1e-3)
        assert of["prefixes"] == len({tuple(code[:level]) for code in codes.tolist()})


def test_numbers_distinguish_videos_with_equal_codes_and_stay():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, (60, 2)).astype(np.int32)
    ids = rng.permutation([f"v{i}" for i in range(60)]).astype("S")
    old, new = slice(0, 40), slice(40, 60)
    first = numbered(codes[old], ids[old])
    later = numbered(codes[new], ids[new], (codes[old], first))
    for code in np.unique(codes, axis=0):
        before, after = ((codes[part] == code).all(1) for part in (old, new))
        in_order = first[before][np.argsort(ids[old][before])]
        assert in_order.tolist() == list(range(before.sum()))
        in_order = later[after][np.argsort(ids[new][after])]
        assert in_order.tolist() == list(range(before.sum(), before.sum() + after.sum()))
    assert numbered(codes[:0], ids[:0]).shape == (0,)


@pytest.mark.fault(
    "Quantisers: a file of codebooks that is truncated, has flipped bits, or is of another kind",
    "CodebookError names the file and what to do",
)
def test_codebooks_in_a_file(books, codes, vectors, tmp_path):
    path = tmp_path / "books"
    books.save(path)
    again = Codebooks.open(path)
    assert (again.digest, again.space, again.seed) == (books.digest, "s", 0)
    np.testing.assert_array_equal(again.encode(vectors), codes)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:10], whole[:-40] + b"\0\1\2\3" + whole[-36:], b"other"):
        path.write_bytes(damaged)
        with pytest.raises(CodebookError, match=r"books is damaged.*restore"):
            Codebooks.open(path)
    write_blocks(path, {"kind": "other"}, {})
    with pytest.raises(CodebookError, match="does not hold codebooks"):
        Codebooks.open(path)


@pytest.mark.fault(
    "Quantisers: sizes of codebooks above the number of vectors, NaN, another space or width",
    "a ValueError or SpaceError that names the cause",
)
def test_bad_sizes_vectors_and_codes_are_refused(books, vectors):
    with pytest.raises(ValueError, match=r"\[8, 9\] for 8 vectors"):
        Codebooks.fit(vectors[:8], (8, 9), space="s")
    with pytest.raises(ValueError, match="one size per level"):
        Codebooks.fit(vectors, (), space="s")
    broken = vectors[:20].copy()
    broken[7, 1] = np.nan
    for work in (lambda: Codebooks.fit(broken, (4,), space="s"), lambda: books.encode(broken)):
        with pytest.raises(ValueError, match=r"1 of 20 vectors hold NaN.*rows 7"):
            work()
    with pytest.raises(SpaceError, match=r"'other'.*'s'"):
        books.encode(vectors, space="other")
    with pytest.raises(ValueError, match=r"f32\[n, 16\]"):
        books.encode(vectors[:, :4])
    for codes in ([[16, 0, 0]], [[-1, 0, 0]], [[0, 0, 0, 0]], [0]):
        with pytest.raises(ValueError, match="codes must be"):
            books.decode(np.array(codes))
