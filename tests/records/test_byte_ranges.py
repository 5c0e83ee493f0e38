"""A range of its own for uint8 features: stored, obeyed by readers, kept by appending."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.messages import encode_video
from vidembed.__main__ import main
from vidembed.records.arrays import TableError
from vidembed.records.bytecode import YOUTUBE_8M, Range, Ranged, dequantise, quantise, ranged
from vidembed.records.framing import write_records
from vidembed.records.importing import Importing, import_videos
from vidembed.records.inspecting import inspect
from vidembed.records.stored_options import options_of
from vidembed.records.table import FeatureTable

RANDOM = np.random.default_rng(0)
MODALITIES = ("v:vis:6", "a:aud:3")


@pytest.mark.parametrize("span", [(-2, 2), (0, 6.5), (-1000, 0.25), (3, 3 + 1e-3)])
def test_values_in_the_range_are_within_half_a_step(span):
    range = Range(*span)
    values = np.concatenate([RANDOM.uniform(*span, 999), span]).astype(np.float32)
    slow = np.abs(range.dequantise(np.arange(256, dtype=np.uint8))[None] - values[:, None])
    stored = range.quantise(values)
    precision = 1e-6 * max(map(abs, span))
    np.testing.assert_allclose(
        range.dequantise(stored), values, atol=range.step / 2 + precision, rtol=0
    )
    assert (slow[np.arange(1001), stored] <= slow.min(axis=1) + precision).all()
    assert range.clipped(values) == 0
    beyond = np.float32([span[0] - 2 * range.step, span[1] + 2 * range.step])
    assert range.clipped(beyond) == 2
    np.testing.assert_array_equal(range.quantise(beyond), range.quantise(np.float32(span)))


def test_the_default_is_youtube_8ms_grid():
    bytes_ = np.arange(256, dtype=np.uint8)
    expected = bytes_ * (4 / 255) + 4 / 512 - 2
    np.testing.assert_allclose(dequantise(bytes_), expected, atol=1e-6)
    np.testing.assert_array_equal(dequantise(ranged(bytes_, YOUTUBE_8M)), dequantise(bytes_))
    assert isinstance(ranged(bytes_, None), np.ndarray)
    np.testing.assert_array_equal(quantise(dequantise(bytes_)), bytes_)


@pytest.mark.parametrize("span", [(1, 1), (2, 1), (0, np.nan), (0, np.inf), (-3e38, 3e38)])
def test_a_range_of_nothing_is_refused(span):
    with pytest.raises(ValueError, match="finite low < high"):
        Range(*span)
    assert Range.covering(5, 5).clipped(np.float32([5])) == 0


def test_the_range_travels_through_compiled_functions():
    stored = Ranged(np.arange(10, dtype=np.uint8).reshape(5, 2), Range(0, 10))
    gathered = jax.jit(lambda tree, rows: jax.tree.map(lambda a: jnp.take(a, rows, 0), tree))
    taken = gathered({"v": stored}, np.array([3, 1]))["v"]
    assert taken.range == Range(0, 10)
    np.testing.assert_allclose(jax.jit(dequantise)(taken), dequantise(stored[[3, 1]]), atol=1e-6)


@pytest.fixture
def ranged_table():
    ranges = {"v": Range(0, 30), "a": Range(-9, 4)}
    features = {
        name: r.quantise(RANDOM.uniform(r.low, r.high, (40, width)))
        for (name, r), width in zip(ranges.items(), (6, 3))
    }
    return FeatureTable(
        ids=np.array([f"v{i}" for i in range(40)], "S3"),
        features=features,
        label_offsets=np.zeros(41, np.int64),
        label_values=np.zeros(0, np.int32),
        ranges=ranges,
    )


def test_a_table_stores_its_ranges_and_they_identify_it(ranged_table, tmp_path):
    ranged_table.write(tmp_path / "t")
    table = FeatureTable.open(tmp_path / "t")
    assert table.ranges == ranged_table.ranges
    assert table.fingerprint == ranged_table.fingerprint
    for name, range in table.ranges.items():
        np.testing.assert_array_equal(table.floats(name), range.dequantise(table.features[name]))
        np.testing.assert_array_equal(table.floats(name, [3, 1]), table.floats(name)[[3, 1]])
    plain = dataclasses.replace(ranged_table, ranges={})
    assert plain.fingerprint != table.fingerprint
    assert plain.space == table.space
    plain.write(tmp_path / "plain")
    versions = [json.loads((tmp_path / n / "manifest.json").read_text()) for n in ("t", "plain")]
    assert [manifest["version"] for manifest in versions] == [3, 1]
    facts = inspect(tmp_path / "t").facts
    assert "v uint8 [0, 30]" in facts["table"]
    assert "0.00% beyond uint8's [-9, 4]" in facts["a"]


@pytest.mark.fault(
    "Records: a table whose manifest has an invalid range of bytes, or one that was edited",
    "refused: the array, or that the digests do not match",
)
@pytest.mark.parametrize(
    ("range", "words"),
    [([3, 1], "features/v: range"), ([0], "range"), ("x", "range"), ([0, 31], "was edited")],
)
def test_an_edited_range_is_refused(range, words, ranged_table, tmp_path):
    ranged_table.write(tmp_path / "t")
    file = tmp_path / "t" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["arrays"]["features/v"]["range"] = range
    file.write_text(json.dumps(manifest))
    with pytest.raises(TableError, match=words):
        FeatureTable.open(tmp_path / "t")


def test_a_range_of_floats_is_refused(ranged_table):
    with pytest.raises(TableError, match=r"ranges\['v'\].*v float32"):
        dataclasses.replace(
            ranged_table, features={"v": np.zeros((40, 6), np.float32)}, ranges={"v": Range(0, 1)}
        )


FORMAT = Importing(modalities=MODALITIES).format()


def records(path, first, count, *, scale=1.0):
    """Records with values outside [-2, 2]; returns these by modality."""
    rng = np.random.default_rng(first)
    values = {
        "v": (scale * rng.uniform(0, 30, (count, 6))).astype(np.float32),
        "a": rng.uniform(-9, 4, (count, 3)).astype(np.float32),
    }
    videos = ({m: rows[i] for m, rows in values.items()} for i in range(count))
    write_records(
        path, (encode_video(f"n{first + i}", [1], v, FORMAT) for i, v in enumerate(videos))
    )
    return values


def run(source, table, **options):
    return import_videos(source, table, Importing(modalities=MODALITIES, **options))


def test_import_takes_the_range_from_the_data_and_appending_keeps_it(tmp_path):
    values = records(tmp_path / "r", 0, 200)
    with pytest.raises(TableError, match=r"v: 9\d.* lie outside \[-2, 2\]"):
        run(tmp_path / "r", tmp_path / "t")
    report = run(tmp_path / "r", tmp_path / "t", byte_range=("auto",))
    assert report["clipped_share"] == {"v": 0, "a": 0}
    assert run(tmp_path / "r", tmp_path / "t", byte_range=("auto",))["already_there"]
    with pytest.raises(TableError, match="byte_range is None, was \\['auto'\\]"):
        run(tmp_path / "r", tmp_path / "t")
    table = FeatureTable.open(tmp_path / "t")
    for name, rows in values.items():
        range = table.ranges[name]
        assert (range.low, range.high) == (rows.min(), rows.max())
        np.testing.assert_allclose(table.floats(name), rows, atol=range.step / 2 * 1.001)
    more = records(tmp_path / "more", 500, 100, scale=1.008)
    report = run(tmp_path / "more", tmp_path / "t", append=True)
    both = FeatureTable.open(tmp_path / "t")
    assert both.ranges == table.ranges
    assert len(both) == 300
    span = table.ranges["v"]
    expected = np.clip(more["v"], span.low, span.high)
    np.testing.assert_allclose(both.floats("v")[200:], expected, atol=span.step / 2 * 1.001)
    assert report["clipped_share"]["v"] == pytest.approx(span.clipped(more["v"]) / 600)
    assert 0.001 < report["clipped_share"]["v"] < 0.01
    assert len([w for w in report["warnings"] if w.startswith("v: 0.")]) == 1
    assert json.loads((tmp_path / "t" / "manifest.json").read_text())["version"] == 3


@pytest.mark.fault(
    "Records: appended values beyond the range of the table's bytes, or another --byte-range",
    "clipped, counted, and warned of above 0.1 %; refused above --max-clipped-share; a table keeps"
    " its range",
)
def test_appending_values_far_beyond_the_range_is_refused(tmp_path):
    records(tmp_path / "r", 0, 200)
    run(tmp_path / "r", tmp_path / "t", byte_range=("v=0:30", "a=-9:4"))
    records(tmp_path / "far", 500, 100, scale=2)
    with pytest.raises(TableError, match=r"v: .* of the values lie outside \[0, 30\]"):
        run(tmp_path / "far", tmp_path / "t", append=True)
    records(tmp_path / "near", 500, 100)
    for words in (("auto",), ("v=0:31", "a=-9:4")):
        with pytest.raises(TableError, match=r"keeps the ranges .*\(a \[-9, 4\], v \[0, 30\]\)"):
            run(tmp_path / "near", tmp_path / "t", append=True, byte_range=words)
    run(tmp_path / "near", tmp_path / "t", append=True, byte_range=("v=0:30", "a=-9:4"))
    assert len(FeatureTable.open(tmp_path / "t")) == 300


@pytest.mark.fault(
    "Records: a malformed --byte-range, or one with a dtype that is not uint8",
    "refused: the word, and the forms that are accepted",
)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"byte_range": ("v=3:1",)}, "finite low < high"),
        ({"byte_range": ("x=0:1",)}, "'x' is unknown or repeated.*MODALITY=LOW:HIGH once"),
        ({"byte_range": ("auto", "0:1")}, "'auto' is unknown"),
        ({"byte_range": ("auto",), "dtype": "float32"}, "for uint8, found --dtype float32"),
    ],
)
def test_ranges_that_are_not_understood_are_refused(options, words, tmp_path):
    records(tmp_path / "r", 0, 30)
    with pytest.raises(ValueError, match=words):
        run(tmp_path / "r", tmp_path / "t", **options)


def test_further_records_are_stored_by_the_range_of_the_table(tmp_path):
    records(tmp_path / "r", 0, 60)
    command = ["import", tmp_path / "r", tmp_path / "t", "--modalities", *MODALITIES]
    assert main([*map(str, command), "--byte-range", "auto"]) == 0
    table = FeatureTable.open(tmp_path / "t")
    stored = options_of(table.manifest, table.ranges)
    low, high = table.ranges["v"].low, table.ranges["v"].high
    assert f"v={low!r}:{high!r}" in stored["byte_range"]
    again = run(tmp_path / "r", tmp_path / "again", byte_range=tuple(stored["byte_range"]))
    assert again["fingerprint"] == table.fingerprint
