"""`embed`: the vectors of tables and records are written to files, atomically."""

import fcntl
import re
import resource
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.messages import encode_video
from vidembed.__main__ import main
from vidembed.deploy import videos as videos_module
from vidembed.deploy.run import Run
from vidembed.records.bytecode import dequantise
from vidembed.records.formats import Modality, VideoLevel
from vidembed.records.framing import write_records
from vidembed.records.table import FeatureTable

FORMAT = VideoLevel(
    modalities=(
        Modality(name="visual", key="mean_rgb", width=8),
        Modality(name="audio", key="mean_audio", width=4),
    ),
    missing="mask",
)
RECORDS = ["--modalities", "visual:mean_rgb:8", "audio:mean_audio:4", "--missing", "mask"]
KEYS = {"visual": "rgb", "audio": "audio"}
# The run's training features have no named space, so the space of these must be given.
RECORDS += ["--space", "visual=8 uint8 from arrays", "audio=4 uint8 from arrays"]


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    monkeypatch.setattr(videos_module, "BLOCK_ROWS", 128)


@pytest.fixture
def embed(workdir):
    def call(videos, out, *options):
        return main(["embed", workdir, str(videos), str(out), "--step", "latest", *options])

    return call


def read(out):
    """Ids and vectors."""
    if out.suffix == ".npy":
        ids = out.with_suffix(".ids.txt").read_text().split()
        return ids, np.load(out)
    if out.suffix == ".parquet":
        table = pq.read_table(out, page_checksum_verification=True)
        return table["video_id"].to_pylist(), np.stack(table["vector"].to_numpy())
    table = FeatureTable.open(out)
    return table.ids.astype(str).tolist(), table.features["video"]


@pytest.mark.fault(
    "A run in use: other vectors, foreign files, an index or an export at the output path",
    "1, and nothing is changed; the same vectors are recognised",
)
@pytest.mark.parametrize("name", ["v.parquet", "v.npy", "table"])
def test_vectors_of_a_table_in_each_form(name, run, embed, corpus, corpus_paths, tmp_path, capsys):
    out, expected = tmp_path / name, run.embed(corpus.table)
    killed = tmp_path / f".{name}.4000000000.0a1b2c3d"  # left by a dead process
    killed.touch()
    assert embed(corpus_paths.table, out) == 0
    assert f"300 vectors of 8; space: {run.space}" in capsys.readouterr().out
    assert killed.exists() == (name == "table")
    ids, vectors = read(out)
    assert ids == corpus.table.ids.astype(str).tolist()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert vectors.dtype == np.float32
    if name == "table":
        made = FeatureTable.open(out)
        assert made.space == {"video": run.space}
        np.testing.assert_array_equal(made.label_values, corpus.table.label_values)
    # A second run does nothing; other vectors are refused, and kept, or replaced with --force.
    assert embed(corpus_paths.table, out) == 0
    assert "exist already" in capsys.readouterr().out
    assert embed(corpus_paths.table, out, "--shard", "1/3") == 1
    assert "--force" in capsys.readouterr().err
    assert len(read(out)[0]) == 300
    assert embed(corpus_paths.table, out, "--shard", "2/3", "--force") == 0
    np.testing.assert_allclose(read(out)[1], expected[100:200], atol=1e-5)


def records(folder, table, lacking=(), broken=()):
    """Two shards with the table's videos; audio is missing from `lacking`, NaN in `broken`."""
    folder.mkdir()
    wide = {m: dequantise(a) for m, a in table.features.items()}
    for shard, rows in enumerate((range(200), range(200, 300))):
        payloads = []
        for row in rows:
            features = {m: a[row].copy() for m, a in wide.items()}
            if row in broken:
                features["visual"][3] = np.nan
            if row in lacking:
                del features["audio"]
            payloads.append(encode_video(table.ids[row].decode(), [1], features, FORMAT))
        write_records(folder / f"shard{shard}.tfrecord", payloads)
    return folder


@pytest.mark.fault(
    "A run in use: an empty table, an empty share",
    "1: what the input holds",
)
@pytest.mark.fault(
    "A run in use: features from another model than the run's training features; an index of "
    "other vectors",
)
def test_records_give_what_their_table_gives(run, embed, corpus, tmp_path, capsys):
    lacking = {3, 250}
    has = ~np.isin(np.arange(300), list(lacking))
    expected = run.embed(replace(corpus.table, present={"audio": has}))
    folder = records(tmp_path / "records", corpus.table, lacking)
    assert embed(folder, tmp_path / "v.npy", *RECORDS) == 0
    ids, vectors = read(tmp_path / "v.npy")
    assert ids == corpus.table.ids.astype(str).tolist()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    parts = []
    for shard in range(2):
        out = tmp_path / f"v{shard}.parquet"
        assert embed(folder, out, *RECORDS, "--shard", f"{shard + 1}/2") == 0
        parts.append(read(out)[1])
    assert [len(part) for part in parts] == [200, 100]
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)
    wide = {f"mean_{k}": dequantise(corpus.table.features[m]) for m, k in KEYS.items()}
    columns = {key: list(array) for key, array in wide.items()}
    pq.write_table(pa.table({"id": ids} | columns), tmp_path / "features.parquet")
    others = ["--labels-key", ""]
    assert embed(tmp_path / "features.parquet", tmp_path / "p.npy", *RECORDS, *others) == 0
    np.testing.assert_allclose(read(tmp_path / "p.npy")[1], run.embed(corpus.table), atol=1e-5)
    assert embed(folder, tmp_path / "x.npy", *RECORDS, "--append") == 1
    capsys.readouterr()
    # Records of another space, by their key; an empty share.
    assert embed(folder, tmp_path / "x.npy", *RECORDS[:6]) == 1
    assert "from records: mean_rgb" in capsys.readouterr().err
    assert embed(folder, tmp_path / "x.npy", *RECORDS, "--shard", "1/3") == 1
    assert "holds 2 files, so part 1 of 3 is empty: nothing to embed" in capsys.readouterr().err
    assert embed(folder, tmp_path / "x.npy", *RECORDS, "--shard", "4/3") == 1
    assert "1/4 to 4/4" in capsys.readouterr().err
    assert not list(tmp_path.glob("*x.*"))


@pytest.mark.fault(
    "A run in use: a fault of the records, or a full disk, while vectors are computed",
    "1: the record or the file; no output exists, and the same command creates it later. "
    "Vectors computed before a fault or a stop are in OUT.partial (unless the disk is full), "
    "and are reused for the same features",
)
@pytest.mark.parametrize("name", ["v.parquet", "v.npy", "table"])
def test_a_fault_leaves_only_the_vectors_computed_so_far(
    name, embed, run, corpus, tmp_path, capsys, caplog, monkeypatch
):
    folder = records(tmp_path / "records", corpus.table, broken={260})
    assert embed(folder, tmp_path / name, *RECORDS) == 1
    assert "visual with NaN or infinity: 1 (v0260)" in capsys.readouterr().err
    left = [path for path in tmp_path.rglob("*") if path.is_file() and "shard" not in path.name]
    assert left == [tmp_path / f"{name}.partial"]
    assert f"the vectors of 200 videos are kept in {left[0]}" in caplog.text
    kept = left[0].read_bytes()
    computed = []
    embed_some = Run.embed
    monkeypatch.setattr(
        Run, "embed", lambda *given, **more: computed.append(1) or embed_some(*given, **more)
    )

    def again(stored):
        left[0].write_bytes(stored)
        computed.clear()
        assert embed(folder, tmp_path / name, *RECORDS, "--invalid", "drop", "--force") == 0
        assert not left[0].exists()
        ids, vectors = read(tmp_path / name)
        rows = np.delete(np.arange(300), 260)
        assert ids == corpus.table.ids[rows].astype(str).tolist()
        np.testing.assert_allclose(vectors, run.embed(corpus.table)[rows], atol=1e-6)
        computed.pop()  # the line above
        return len(computed), "200 of them were made before" in capsys.readouterr().out

    assert again(kept) == (1, True)
    assert again(kept[:-1]) == (2, False)  # cut as by a kill
    damaged = bytearray(kept)
    damaged[200] ^= 1
    assert again(bytes(damaged)) == (2, False)
    assert again(kept.replace(b'{"space": "', b'{"space": "other ')) == (2, False)


def test_an_output_path_may_end_with_a_slash(embed, corpus_paths, tmp_path):
    assert embed(corpus_paths.table, f"{tmp_path}/new/", "--shard", "1/100") == 0
    assert len(read(tmp_path / "new")[0]) == 3


def test_two_processes_do_not_write_the_same_vectors(embed, corpus_paths, tmp_path, capsys):
    with (tmp_path / "v.npy.partial").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert embed(corpus_paths.table, tmp_path / "v.npy") == 1
    assert "another process is writing these vectors" in capsys.readouterr().err
    assert embed(corpus_paths.table, tmp_path / "v.npy") == 0


@pytest.mark.fault(
    "A run in use: a fault of the records, or a full disk, while vectors are computed"
)
@pytest.mark.parametrize("name", ["v.parquet", "v.npy", "table"])
def test_a_full_disk_is_named_and_leaves_nothing(name, embed, corpus_paths, tmp_path, capsys):
    assert embed(corpus_paths.table, tmp_path / "first.npy") == 0
    before = set(tmp_path.rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))  # makes writes really fail
    try:
        code = embed(corpus_paths.table, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert code == 1, error
    assert re.search("No space left on device|File too large", error)
    assert name in error
    assert {path for path in set(tmp_path.rglob("*")) - before if path.is_file()} == set()
    assert embed(corpus_paths.table, tmp_path / name) == 0


@pytest.mark.fault(
    "A run in use: features of another width, shape or dtype; rows with NaN; videos without "
    "any modality",
)
def test_videos_without_any_modality_are_left_out_and_counted(run, embed, corpus, tmp_path, capsys):
    has = np.arange(300) % 10 > 0
    table = replace(corpus.table, present={"visual": has, "audio": has}, manifest={})
    table.write(tmp_path / "table")
    assert embed(tmp_path / "table", tmp_path / "v.parquet") == 0
    assert "30 videos have neither visual nor audio, and were left out" in capsys.readouterr().out
    ids, vectors = read(tmp_path / "v.parquet")
    assert ids == table.ids[has].astype(str).tolist()
    np.testing.assert_allclose(vectors, run.embed(corpus.table)[has], atol=1e-5)
    none = replace(table, present=dict.fromkeys(("visual", "audio"), np.zeros(300, bool)))
    none.write(tmp_path / "none")
    assert embed(tmp_path / "none", tmp_path / "n.parquet") == 1
    assert "none of 300 videos can be embedded" in capsys.readouterr().err
    assert not (tmp_path / "n.parquet").exists()


def test_a_table_without_a_modality_is_embedded_with_lacking(
    run, embed, workdir, corpus, tmp_path, capsys
):
    visual = {"visual": corpus.table.features["visual"]}
    replace(corpus.table, features=visual, manifest={}).write(tmp_path / "visual")
    assert embed(tmp_path / "visual", tmp_path / "v.npy") == 1
    assert "(--lacking audio)" in capsys.readouterr().err
    assert embed(tmp_path / "visual", tmp_path / "v.npy", "--lacking", "audio") == 0
    expected = run.embed(visual, present={"audio": False})
    np.testing.assert_allclose(read(tmp_path / "v.npy")[1], expected, atol=1e-5)
    index = [
        "index",
        workdir,
        str(tmp_path / "visual"),
        str(tmp_path / "index"),
        "--step",
        "latest",
    ]
    assert main([*index, "--lacking", "audio"]) == 0
    assert main([*index, "--lacking", "audio", "--refresh"]) == 0
    assert "0 videos added, 0 removed, 300 in all" in capsys.readouterr().out


@pytest.mark.fault(
    "A run in use: other vectors, foreign files, an index or an export at the output path",
)
def test_ids_that_a_form_cannot_hold_and_files_of_others_are_refused(
    embed, corpus, tmp_path, capsys
):
    named = partial(replace, corpus.table, manifest={})
    for number, (bad, name) in enumerate([(b"\xff", "v.parquet"), (b"a\nb", "v.npy")]):
        ids = corpus.table.ids.astype("S5")
        ids[7] = bad
        named(ids=ids).write(tmp_path / str(number))
        assert embed(tmp_path / str(number), tmp_path / name) == 1
        assert "write" in capsys.readouterr().err
        assert not (tmp_path / name).exists()
    (tmp_path / "notes.parquet").write_text("notes")
    assert embed(tmp_path / "0", tmp_path / "notes.parquet") == 1
    assert "does not hold the vectors" in capsys.readouterr().err
    for name in ("mine.json", "mine.ids.txt"):
        (tmp_path / name).write_text("mine")
        assert embed(tmp_path / "0", tmp_path / "mine.npy") == 1
        assert f"{name} exists and does not hold the vectors" in capsys.readouterr().err
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    assert embed(tmp_path / "1", tmp_path) == 1
    assert "or contains them" in capsys.readouterr().err
    assert embed(tmp_path / "1", tmp_path / "vectors.CSV") == 1
    assert "as .parquet, as .npy, or as the folder of a" in capsys.readouterr().err
    assert not (tmp_path / "vectors.CSV").exists()


@pytest.mark.fault(
    "Records: an output of embed, index, export or import that is, or contains, one of the inputs",
    "1, also with --force, and under any name of the path; nothing is changed",
)
def test_no_output_is_among_the_inputs(run, workdir, corpus, corpus_paths, tmp_path, capsys):
    table = shutil.copytree(corpus_paths.table, tmp_path / "in/table")
    (tmp_path / "link").symlink_to(table)
    shards = records(tmp_path / "shards", corpus.table)
    (tmp_path / "x.ids.txt").write_text("a\n")
    np.save(tmp_path / "y.npy", np.ones((1, 8), np.float32))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    places = [table, tmp_path / "link", table / "../table", table / "deep/new", tmp_path / "in"]
    latest, ids = ["--step", "latest"], ["--ids", tmp_path / "x.ids.txt"]
    calls = [
        *(["embed", workdir, table, place, "--force", *latest] for place in places),
        ["embed", workdir, tmp_path / "link", table, "--force", *latest],
        ["embed", workdir, table, f"{workdir}/checkpoints", "--force"],
        ["embed", workdir, tmp_path / "y.npy", tmp_path / "x.npy", *ids, *latest],
        *(["index", workdir, table, place, "--force"] for place in places),
        *(["export", workdir, place] for place in (workdir, f"{workdir}/x")),
        *(["import", shards, place, *RECORDS, "--force"] for place in (shards, shards / "t")),
        ["import", shards / "*.tfrecord", tmp_path, *RECORDS],
        ["import", tmp_path / "s*/shard0*", shards / "shard0.tfrecord", *RECORDS],
    ]
    for call in calls:
        assert main([str(word) for word in call]) == 1, call
        assert "is one of the inputs" in capsys.readouterr().err, call
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    with pytest.raises(ValueError, match="is one of the inputs"):
        run.index(table, table / "index", over=True)
