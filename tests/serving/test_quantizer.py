"""The quantiser against a slow Lloyd-Max, published numbers, and faiss."""

import warnings

import jax
import numpy as np
import pytest

from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.serving.quantizer import BITS, Quantizer

MAX_1960 = {1: 0.3634, 2: 0.1175, 4: 0.009497}
"""Bits → the least mean squared error of 2^bits levels for a Gaussian of variance 1 (J. Max,
Quantizing for minimum distortion, IRE Transactions on Information Theory 6, Table 1)."""


def gaussian(rows=20_000, width=4, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def embeddings(rows=3000, width=16, seed=0):
    """Clustered unit vectors: coordinates of different scales, with a few outliers."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_t(3, (20, width))
    vectors = centres[rng.integers(0, 20, rows)] + 0.4 * rng.standard_normal((rows, width))
    vectors *= np.geomspace(1, 0.1, width)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def nearest(values, levels):
    """Slow and obvious: compare all distances, ties to the lower level."""
    return np.abs(values[..., None] - levels).argmin(-1)


def slow_lloyd_max(values, size, levels=None, iterations=300):
    """Levels f64[size] of values f64[N]: from quantiles, alternate nearest level and mean."""
    levels = np.quantile(values, (np.arange(size) + 0.5) / size) if levels is None else levels
    for _ in range(iterations):
        cells = nearest(values, levels)
        inside = np.bincount(cells, minlength=size)
        sums = np.bincount(cells, values, minlength=size)
        levels = np.where(inside > 0, sums / np.maximum(inside, 1), levels)
    return levels


def error(values, levels):
    return np.square(values - levels[nearest(values, levels)]).mean()


def distortion(quantizer, vectors):
    return np.square(quantizer.decode(quantizer.encode(vectors)) - vectors).mean()


@pytest.fixture(scope="module")
def faiss():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own bindings
        return pytest.importorskip(
            "faiss", reason="faiss is not installed: pip install -e .[serve]"
        )


@pytest.mark.parametrize("bits", MAX_1960)
def test_published_errors_of_a_gaussian(bits):
    vectors = gaussian(rows=100_000)
    relative_error = distortion(Quantizer.fit(vectors, bits=bits), vectors) / vectors.var()
    assert relative_error == pytest.approx(MAX_1960[bits], rel=0.006)  # of 400,000 values


@pytest.mark.parametrize("make", [gaussian, embeddings])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("bits", [2, 4])
def test_a_slow_lloyd_max_finds_nothing_better(bits, shared, make):
    vectors = make(rows=2000, width=3)
    levels = Quantizer.fit(vectors, bits=bits, shared=shared).levels
    assert len(levels) == (1 if shared else 3)
    for values, fitted in zip([vectors] if shared else vectors.T, levels):
        values = values.astype(np.float64).ravel()
        ours = error(values, fitted.astype(np.float64))
        assert ours <= 1.01 * error(values, slow_lloyd_max(values, 1 << bits))
        # Iterating from our levels changes nothing.
        assert ours <= 1.001 * error(values, slow_lloyd_max(values, 1 << bits, fitted))


@pytest.mark.parametrize("shared", [True, False])
def test_one_device_and_eight_give_the_same_levels(shared):
    vectors = embeddings(rows=1003)
    single, eight = (make_mesh(MeshShape(), jax.devices()[:count]) for count in (1, 8))
    fits = [Quantizer.fit(vectors, bits=4, shared=shared, mesh=mesh) for mesh in (single, eight)]
    np.testing.assert_allclose(fits[0].levels, fits[1].levels, atol=1e-6 * np.ptp(vectors))


@pytest.mark.fault(
    "Quantisers: an outlier, a dimension that never changes, fewer values than levels",
    "fitted; the other values keep their levels",
)
def test_blocks_and_extreme_values(monkeypatch):
    vectors = gaussian(rows=5000)
    whole = Quantizer.fit(vectors, bits=4)
    codes = whole.encode(vectors)
    monkeypatch.setattr("vidembed.serving.lloyd_max.BLOCK_ROWS", 1999)
    monkeypatch.setattr("vidembed.serving.quantizer.BLOCK_ROWS", 777)
    np.testing.assert_allclose(Quantizer.fit(vectors, bits=4).levels, whole.levels, atol=1e-5)
    np.testing.assert_array_equal(whole.encode(vectors), codes)
    vectors[7, 2] = 1e6
    far = Quantizer.fit(vectors, bits=4)
    assert far.levels.max() == pytest.approx(1e6, rel=1e-3)
    rest = np.delete(vectors, 7, axis=0)
    assert distortion(far, rest) < 1.2 * distortion(whole, rest)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_codes_are_the_nearest_levels_packed(bits, shared):
    vectors = embeddings(rows=50, width=13)
    quantizer = Quantizer.fit(vectors, bits=bits, shared=shared)
    codes = quantizer.encode(vectors)
    assert codes.shape == (50, -(-13 * bits // 8)) == (50, quantizer.bytes_per_vector)
    levels = np.broadcast_to(quantizer.levels, (13, 1 << bits))
    numbers = np.stack([nearest(vectors[:, i], levels[i]) for i in range(13)], axis=1)
    packed = [
        int("".join(f"{number:0{bits}b}" for number in row[::-1]), 2).to_bytes(
            len(codes[0]), "little"
        )
        for row in numbers
    ]
    assert [bytes(code) for code in codes] == packed
    np.testing.assert_array_equal(quantizer.decode(codes), levels[np.arange(13), numbers])


def test_bytes_of_the_paper():
    sizes = {(256, 4): 128, (512, 2): 128, (128, 8): 128, (128, 4): 64, (256, 2): 64, (128, 2): 32}
    for (dimensions, bits), size in sizes.items():
        levels = np.arange(1 << bits)[None]
        assert Quantizer(levels=levels, dimensions=dimensions).bytes_per_vector == size


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_scores_are_products_with_decoded_vectors(bits, shared):
    vectors, queries = embeddings(rows=200, width=13), gaussian(rows=5, width=13)
    quantizer = Quantizer.fit(vectors, bits=bits, shared=shared)
    codes = quantizer.encode(vectors)
    expected = queries.astype(np.float64) @ quantizer.decode(codes).T
    np.testing.assert_allclose(quantizer.scores(queries, codes), expected, atol=1e-5)
    assert quantizer.scores(queries, codes[:0]).shape == (5, 0)
    lengths = np.linalg.norm(quantizer.decode(codes).astype(np.float64), axis=1)
    np.testing.assert_allclose(quantizer.lengths(codes), lengths, rtol=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_worse_than_faiss(faiss, bits):
    vectors = embeddings(rows=2000, width=4)
    peer = faiss.ProductQuantizer(4, 4, bits)
    peer.cp.min_points_per_centroid = 1
    peer.train(vectors)
    theirs = np.square(peer.decode(peer.compute_codes(vectors)) - vectors).mean()
    assert distortion(Quantizer.fit(vectors, bits=bits, shared=False), vectors) <= 1.01 * theirs
    # With faiss's sorted centroids the codes equal its codes, byte for byte.
    centroids = np.sort(faiss.vector_to_array(peer.centroids).reshape(4, 1 << bits))
    faiss.copy_array_to_vector(centroids.ravel(), peer.centroids)
    ours = Quantizer(levels=centroids, dimensions=4)
    codes, expected = ours.encode(vectors), peer.compute_codes(vectors)
    borders = (centroids[:, 1:] + centroids[:, :-1]) / 2
    clear = (np.abs(vectors[:, :, None] - borders) > 1e-7).all((1, 2))
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(codes[clear], expected[clear])


@pytest.mark.fault(
    "Quantisers: a stored quantiser truncated or with a flipped byte",
    "refused; other levels are never returned",
)
@pytest.mark.parametrize("shared", [True, False])
def test_round_trip_through_bytes_and_damage_is_refused(shared):
    quantizer = Quantizer.fit(gaussian(rows=100, width=3), bits=2, shared=shared)
    data = quantizer.to_bytes()
    back = Quantizer.from_bytes(data)
    np.testing.assert_array_equal(back.levels, quantizer.levels)
    assert back.dimensions == 3
    flipped = [bytes([*data[:i], data[i] ^ 1, *data[i + 1 :]]) for i in range(len(data))]
    for damaged in [*flipped, *(data[:i] for i in range(len(data))), data + b"\0"]:
        with pytest.raises(ValueError, match=r"no quantiser, or are damaged"):
            Quantizer.from_bytes(damaged)


@pytest.mark.fault(
    "Quantisers: vectors that hold NaN or infinity, of another width, none at all, bits "
    "per dimension that do not fill a byte",
    "refused, naming the rows or sizes",
)
def test_bad_vectors_and_bits_are_refused():
    vectors = gaussian(rows=20)
    quantizer = Quantizer.fit(vectors, bits=2)
    with pytest.raises(ValueError, match=r"3 bits per dimension: choose one of"):
        Quantizer.fit(vectors, bits=3)
    with pytest.raises(ValueError, match=r"no vectors to fit"):
        Quantizer.fit(vectors[:0], bits=2)
    for work in (quantizer.encode, lambda rows: quantizer.scores(rows, np.zeros((1, 1), np.uint8))):
        with pytest.raises(ValueError, match=r"are \[N, 4\], found \[20, 3\]"):
            work(vectors[:, :3])
    with pytest.raises(ValueError, match=r"codes of this .* are \[N, 1\], found \[2, 4\]"):
        quantizer.decode(np.zeros((2, 4), np.uint8))
    vectors[[3, 5], 1] = np.nan, np.inf
    for work in (quantizer.encode, lambda rows: Quantizer.fit(rows, bits=2)):
        with pytest.raises(ValueError, match=r"2 of 20 vectors .* not finite \(rows 3, 5\)"):
            work(vectors)
    for levels in ([[0.0, 1.0, 2.0]], [[1.0, 0.0]], [[0.0, np.nan]], [[0.0, 1.0]] * 2):
        with pytest.raises(ValueError, match=r"levels must be"):
            Quantizer(levels=np.array(levels), dimensions=4)


@pytest.mark.fault(
    "Quantisers: an outlier, a dimension that never changes, fewer values than levels",
)
def test_few_distinct_values():
    """Fewer values than levels, and a dimension that never changes."""
    vectors = np.random.default_rng(0).integers(0, 3, (100, 2)).astype(np.float32)
    vectors[:, 1] = 0.37
    for shared in (True, False):
        quantizer = Quantizer.fit(vectors, bits=8, shared=shared)
        np.testing.assert_allclose(quantizer.decode(quantizer.encode(vectors)), vectors, atol=1e-3)
