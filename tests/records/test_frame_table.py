"""Frame-level records as a table: frames as bytes, pooled vectors against loops, faults."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.records.recorded_frames import (
    EMPTY,
    LAYOUT,
    MOST,
    POOLED,
    VIDEOS,
    made_videos,
    pooled_table,
    video_level_record,
    write,
)
from vidembed.records import frame_reader, record_payloads
from vidembed.records.arrays import TableError
from vidembed.records.bytecode import dequantise, quantise
from vidembed.records.faults import RecordError
from vidembed.records.frame_pooling import BLOCK_VIDEOS, pool_block, pooled_features
from vidembed.records.frame_table import open_frames
from vidembed.records.frames import encode_frames
from vidembed.records.framing import read_records, write_records
from vidembed.records.importing import RefusedError
from vidembed.records.record_index import ABSENT, ELSEWHERE
from vidembed.records.record_layout import RecordLayout
from vidembed.records.record_table import open_records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def table(folder):
    return open_frames(folder, LAYOUT)


def test_rows_are_the_frames_of_the_records(table, monkeypatch):
    videos = list(made_videos())
    assert (table.reader.steps, len(table)) == (MOST, VIDEOS)
    assert {ABSENT, ELSEWHERE} < {*table.reader.index.vectors["audio"].tolist()}
    rows = np.random.default_rng(0).integers(0, VIDEOS, (3, 40))
    for buffer, gap in ((1 << 20, 16 << 10), (200, 0)):
        monkeypatch.setattr(record_payloads, "BUFFER_BYTES", buffer)
        monkeypatch.setattr(record_payloads, "GAP_BYTES", gap)
        out = {name: np.full_like(a, 9) for name, a in table.new_rows(rows.shape).items()}
        for name, frames in table.rows(rows, out=out).items():
            assert (frames.shape[:3], frames.dtype) == ((3, 40, MOST), np.uint8)
            for place in np.ndindex(rows.shape):
                own = videos[rows[place]][2].get(name, np.empty((0, frames.shape[-1])))[:MOST]
                assert frames[place][: len(own)].tolist() == own.tolist()
                assert not frames[place][len(own) :].any()
    assert table.lengths.tolist() == [min(MOST, len(f["visual"])) for _, _, f in videos]
    assert [*table.new_rows((2,), ("audio_top5",))] == ["audio"]


@pytest.mark.fault(
    "Annotation: a video without frames or with too many of them",
    "counts as missing; later frames are cut; both are counted at the start",
)
def test_videos_without_frames_and_long_ones_are_counted(table):
    long = sum(len(frames["visual"]) > MOST for _, _, frames in made_videos())
    assert not any(table.has(name)[EMPTY] for name in POOLED)
    assert table.notes[1:] == (
        f"{long} videos have more than {MOST} frames: the later ones are cut",
        "1 videos have no frame: all of their modalities count as missing",
    )


@pytest.mark.parametrize("held", [1 << 30, 0])
def test_pooled_columns_are_those_of_loops(folder, held, monkeypatch):
    monkeypatch.setattr(frame_reader, "HELD_BYTES", held)
    table, expected = open_frames(folder, LAYOUT), pooled_table()
    assert table.widths == expected.widths
    rows = np.random.default_rng(1).permutation(VIDEOS)[: BLOCK_VIDEOS + 9]
    for name in POOLED:
        np.testing.assert_array_equal(table.has(name), expected.present[name])
        column = table.features[name]
        assert (column.shape, column.dtype) == (expected.features[name].shape, np.float32)
        for some in (rows, slice(150, None, -7), [-1, 3], np.empty(0, np.int64)):
            np.testing.assert_allclose(column[some], expected.features[name][some], atol=3e-7)
        assert not column[[EMPTY]].any()
    with pytest.raises(TableError, match="as frames: index the rows"):
        np.asarray(table.features["visual"])


def test_means_are_video_level_features_to_the_byte_grid_on_any_device():
    with np.load("data/youtube8m/SjJ3.npz") as clip:
        frames = clip["rgb"]
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, len(frames) + 1, 16).astype(np.int32)
    lengths[:2] = len(frames), 1
    batch = np.zeros((16, *frames.shape), np.uint8)
    for row, length in enumerate(lengths):
        batch[row, :length] = frames[:length]
    (vectors,) = pool_block({"visual": batch}, lengths, ("mean",)).values()
    expected = np.stack([dequantise(frames[:n]).astype(np.float64).mean(0) for n in lengths])
    np.testing.assert_allclose(vectors, expected, atol=5e-7)
    grid = np.stack([frames[:n].astype(np.float64).mean(0) for n in lengths])
    apart = np.abs(grid % 1 - 0.5) > 1e-3  # of a tie, either byte is the nearest
    assert apart.mean() > 0.9
    np.testing.assert_array_equal(quantise(vectors)[apart], np.rint(grid)[apart])
    mesh = jax.make_mesh((8,), ("data",))
    split = jax.NamedSharding(mesh, jax.P("data"))
    pool = jax.jit(lambda frames, lengths: pooled_features({"visual": frames}, lengths))
    one = pool(jnp.asarray(batch), jnp.asarray(lengths))
    eight = pool(jax.device_put(batch, split), jax.device_put(lengths, split))
    np.testing.assert_array_equal(one["visual"], vectors)
    for name in ("visual", "visual_top5", "visual_max"):
        np.testing.assert_array_equal(eight[name], one[name])
    # The last bit: of the variance, products may be fused with sums.
    np.testing.assert_allclose(eight["visual_deviation"], one["visual_deviation"], atol=5e-7)


@pytest.mark.long
def test_the_loop_of_a_cpu_and_the_reduction_elsewhere_are_equal(monkeypatch):
    rng = np.random.default_rng(0)
    frames = jnp.asarray(rng.integers(0, 256, (6, 11, 5), np.uint8))
    frames = frames.at[:, 3:6].set(255)  # ties
    lengths = jnp.array([0, 1, 4, 5, 6, 11])
    loops = pooled_features({"visual": frames}, lengths)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *a, cpu, default: default(*a))
    for name, array in pooled_features({"visual": frames}, lengths).items():
        np.testing.assert_array_equal(loops[name], array)


def test_the_fingerprint_follows_frames_and_their_limit(folder, table, tmp_path):
    assert open_frames(folder, LAYOUT, index=tmp_path).fingerprint == table.fingerprint
    kept = open_frames(folder, LAYOUT, index=tmp_path)
    assert kept.fingerprint == table.fingerprint
    np.testing.assert_array_equal(kept.lengths, table.lengths)
    assert open_frames(folder, replace(LAYOUT, max_frames=8)).fingerprint != table.fingerprint
    assert open_frames(folder, replace(LAYOUT, max_frames=300)).reader.steps == 12
    # The maximum came later than the first stored runs; it must not change their data.
    features, present = ({n: a for n, a in arrays.items() if not n.endswith("_max")}
                         for arrays in (table.features, table.present))  # fmt: skip
    assert "visual_max" in table.present
    former = replace(table, features=features, present=present)
    assert former.fingerprint == table.fingerprint


@pytest.mark.fault(
    "Annotation: records of frame level where video level is expected, or the other way round",
    "refused, naming the option that reads them",
)
def test_records_of_the_other_level_are_named(folder, tmp_path):
    layout = RecordLayout(modalities=("visual:rgb:7",))
    with pytest.raises(RecordError, match=r"are frame-level .*--corpus\.layout\.level frame"):
        open_records(folder, layout)
    write_records(tmp_path / "a.tfrecord", [video_level_record()])
    for missing in ("refuse", "mask"):
        layout = RecordLayout(level="frame", missing=missing)
        with pytest.raises(RecordError, match=r"mean_rgb\. To train on these, leave out --corpus"):
            open_frames(tmp_path, layout)


@pytest.mark.fault(
    "Annotation: frame-level records with modalities of different lengths, repeated ids, changed "
    "files; bytes asked for as another dtype",
    "refused, naming file and record",
)
def test_what_does_not_fit_is_refused(folder, tmp_path):
    format = replace(LAYOUT.frame_format(), max_frames=2)
    frames = {"visual": np.zeros((4, 7), np.uint8), "audio": np.zeros((3, 3), np.uint8)}
    uneven = encode_frames("a", [1], frames, format=format)
    path = tmp_path / "a.tfrecord"
    write_records(path, [uneven])
    with pytest.raises(RecordError, match=r"record 0 .*differ in their number of frames: .*4.*3"):
        open_frames(path, LAYOUT)
    records = list(read_records(folder / "videos0.tfrecord"))
    write_records(path, [*records, records[3]])
    with pytest.raises(RefusedError, match=r"v003 in a\.tfrecord, record 75"):
        open_frames(path, LAYOUT)
    write_records(path, records)
    table = open_frames(path, LAYOUT)
    write_records(path, [*records[:5], records[5].replace(b"v005", b"v999"), *records[6:]])
    with pytest.raises(RecordError, match="video v005: its payload is not the one"):
        table.features["visual"][[5]]
    with pytest.raises(ValueError, match="leave out dtype uint8"):
        replace(LAYOUT, dtype="uint8")
    with pytest.raises(ValueError, match="max_frames must be at least 1, found 0"):
        replace(LAYOUT, max_frames=0)
