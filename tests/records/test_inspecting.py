"""An inspection names every fault of records and tables, and continues after each."""

import json
import os
import shlex
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from tests.messages import encode_video
from vidembed.__main__ import main as command
from vidembed.cli import command_line, launch
from vidembed.cli.offered import Offered
from vidembed.cli.verbs import Preset
from vidembed.engine.passes import Lengths
from vidembed.recipes import cdml
from vidembed.records.example import encode_example
from vidembed.records.formats import Modality, Reading, VideoLevel
from vidembed.records.framing import read_records, write_records
from vidembed.records.inspecting import inspect, main
from vidembed.records.schema import training_command
from vidembed.records.shards import shards
from vidembed.records.table import FeatureTable

OPTIONS = Reading(modalities=("visual:mean_rgb:4",))


def payload(name, visual=(0.5, -0.5, 1, 0), labels=(1,), width=4):
    format = VideoLevel(modalities=(Modality(name="visual", key="mean_rgb", width=width),))
    return encode_video(name, labels, {"visual": np.array(visual, np.float32)}, format)


@pytest.fixture
def good(tmp_path):
    folder = tmp_path / "good"
    folder.mkdir()
    write_records(folder / "a.tfrecord", [payload("x"), payload("y", labels=(1, 7, 90_000))])
    write_records(folder / "b.tfrecord.gz", [payload("z", labels=())], compress=True)
    (folder / "counts.json").write_text(json.dumps({"a.tfrecord": 2, "b.tfrecord.gz": 1}))
    (folder / "vocabulary.csv").write_text("Index,Name\n1,Game\n7,Car\n")
    return folder


@pytest.fixture
def bad(good):
    write_records(
        good / "c.tfrecord",
        [
            payload("x"),
            payload("n", (np.nan, 0, 0, 1)),
            payload("o", (0, 0, 0, 0)),
            payload("far", (3, 3, 3, 0)),
            payload("wide", range(5), width=5),
            b"\x0a\xffno message",
        ],
    )
    write_records(good / "d.tfrecord", [payload("p"), payload("q"), payload("r")])
    content = bytearray((good / "d.tfrecord").read_bytes())
    content[30] ^= 4
    (good / "d.tfrecord").write_bytes(content[:-7])
    (good / "e.tfrecord").write_bytes(b"")
    write_records(good / "a.tfrecord", list(read_records(good / "a.tfrecord"))[:1])
    return good


def test_facts_of_good_records(good):
    inspection = inspect(good, OPTIONS)
    assert inspection.faults == []
    assert inspection.labels == {1: 2, 7: 1, 90_000: 1}
    assert inspection.facts == {
        "shards": "2, 1 of them gzip, 0 with unreadable records",
        "records": "3 readable, 1 to 2 per shard",
        "checksums": "crc32c of every length and payload read; 0 faults",
        "counts": "as in counts.json",
        "visual": "width 4, values -0.5 to 1, 0.00% beyond uint8's [-2, 2]; 0 missing, "
        "0 with NaN or infinity, 0 zero; all videos identical",
        "ids": "3 distinct, 0 repeated",
        "labels": "3 distinct, 1.33 per video, 1 videos without",
    }


def test_every_fault_is_named(bad):
    inspection = inspect(bad, OPTIONS)
    expected = [
        ("c.tfrecord: record 4 ", "of 4, found float_list of 5"),
        ("c.tfrecord: record 5 ", ""),
        ("d.tfrecord: record 0 ", "crc"),
        ("d.tfrecord: record 2 ", "truncated"),
        ("e.tfrecord: record 0 ", "no record"),
        ("a.tfrecord holds 1 records, 2 were expected", ""),
        ("c.tfrecord is not among the expected shards", ""),
        ("d.tfrecord is not among the expected shards", ""),
        ("e.tfrecord is not among the expected shards", ""),
        ("ids that occur again: 1 (x in a.tfrecord and c.tfrecord)", ""),
        ("visual with NaN or infinity: 1 (n)", ""),
        ("visual all zero: 1 (o)", ""),
    ]
    assert len(inspection.faults) == len(expected)
    for fault, (what, why) in zip(inspection.faults, expected):
        assert what in fault
        assert why in fault
    assert inspection.facts["counts"] == "not as expected"
    assert inspection.facts["shards"] == "5, 1 of them gzip, 3 with unreadable records"
    # 3 of the 24 finite values are out of range: x, z, x again, o, far and q.
    assert "values -0.5 to 3, 12.50% beyond" in inspection.facts["visual"]


def test_only_unreadable_records(tmp_path):
    (tmp_path / "x.tfrecord").write_bytes(b"")
    inspection = inspect(tmp_path, OPTIONS)
    assert len(inspection.faults) == 1
    assert inspection.facts["visual"] == "width 4, no values"
    assert inspection.facts["counts"].startswith("not checked")


def test_missing_modality_is_a_fault_only_if_refused(tmp_path):
    bare = replace(OPTIONS, missing="mask")
    records = [encode_video("a", [1], {}, bare.format()), payload("b")]
    write_records(tmp_path / "x.tfrecord", records)
    assert "'visual' is missing" in inspect(tmp_path, OPTIONS).faults[0]
    inspection = inspect(tmp_path, bare)
    # A video without any modality is a fault all the same.
    assert inspection.faults[0].startswith("videos without any modality: 1 (a)")
    assert "1 missing" in inspection.facts["visual"]


def test_progress_is_reported(good):
    calls = []
    inspect(good, OPTIONS, progress=lambda *counts: calls.append(counts))
    assert calls == [(0, 2, 2), (1, 2, 3), (2, 2, 3)]


def make_table(**fields):
    standard = {
        "ids": np.array([b"a", b"b", b"c"]),
        "features": {"visual": np.arange(12, dtype=np.float32).reshape(3, 4) / 8},
        "label_offsets": np.array([0, 2, 2, 3]),
        "label_values": np.array([5, 6, 5], np.int32),
    }
    return FeatureTable(**{**standard, **fields})


def test_facts_of_a_good_table(tmp_path):
    make_table(present={"visual": np.array([True, False, True])}).write(tmp_path / "t")
    inspection = inspect(tmp_path / "t")
    assert inspection.labels == {5: 2, 6: 1}
    assert inspection.facts["table"] == "3 rows, visual float32"
    assert inspection.facts["space"] == "visual: 4 float32 from arrays"
    assert "0 to 1.375" in inspection.facts["visual"]
    assert "1 missing" in inspection.facts["visual"]
    assert inspection.facts["labels"] == "2 distinct, 1.00 per video, 1 videos without"
    assert inspection.facts["fingerprint"] == FeatureTable.open(tmp_path / "t").fingerprint
    # The row without features is reported as useless.
    assert [fault[:40] for fault in inspection.faults] == [
        "videos without any modality: 1 (b); impo"
    ]


def test_faults_of_a_tables_content(tmp_path):
    rows = np.ones((3, 4), np.float32)
    rows[1, 2], rows[2] = np.inf, 0
    table = make_table(features={"visual": rows}, ids=np.array([b"a", b"b", b"a"]))
    table.write(tmp_path / "t")
    faults = inspect(tmp_path / "t").faults
    assert [fault.partition(";")[0].rpartition(" (")[0] for fault in faults] == [
        "ids that occur again: 1",
        "visual with NaN or infinity: 1",
        "visual all zero: 1",
    ]


def test_all_damaged_arrays_of_a_table_are_named(tmp_path):
    make_table().write(tmp_path / "t")
    (tmp_path / "t/label_values/c/0").unlink()
    chunk = tmp_path / "t/features/visual/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    faults = inspect(tmp_path / "t").faults
    assert len(faults) == 2
    assert "features/visual" in faults[0]
    assert "label_values" in faults[1]
    (tmp_path / "t/manifest.json").write_text("{")
    assert "manifest is damaged" in inspect(tmp_path / "t").faults[0]
    os.rename(tmp_path / "t/manifest.json", tmp_path / "t/unfinished.json")
    assert "interrupted" in inspect(tmp_path / "t").faults[0]


def test_main_prints_names_and_returns_the_exit_code(good, capsys):
    assert main(str(good), OPTIONS) == 0
    text = capsys.readouterr().out
    assert "1 Game" in text
    assert "7 Car" in text
    assert "no faults" in text
    assert (
        max(map(len, text.splitlines())) > 80
    )  # lines are not wrapped if the output is not a terminal
    (good / "counts.json").write_text('{"a.tfrecord": 3, "b.tfrecord.gz": 2}')
    assert main(str(good), OPTIONS, max_faults=1) == 1
    text = capsys.readouterr().out
    assert "fault: a.tfrecord holds 2 records, 3 were expected" in text
    assert "b.tfrecord.gz holds" not in text
    assert "and 1 more" in text
    assert "2 faults" in text


def test_the_vocabulary_beside_the_shards_is_read_as_a_report_reads_it(good, capsys):
    (good / "vocabulary.csv").write_text("\ufeffIndex,KnowledgeGraphId,Name\n1,/m/x,\n")
    assert main(str(good), OPTIONS) == 0
    assert "1 /m/x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("modalities", "chosen"),
    [
        (["visual", "audio"], []),
        (["clip", "sound"], ["--task.model.modalities", "clip", "sound"]),
        (["clip"], ["task.model:single-modality", "--task.model.modality", "clip"]),
    ],
)
def test_the_training_command_names_the_modalities_and_parses(modalities, chosen, tmp_path):
    words = shlex.split(training_command("a table", modalities))
    assert [word for word in chosen if word not in words] == []
    assert ("--task.model.modalities" in words) == (len(chosen) == 3 and modalities[1:] != [])
    places = {"WORKDIR": str(tmp_path / "w"), "EDGES": "e"}
    given = [places.get(word, word) for word in words]
    verb = launch._command("train", cdml.recipe, cdml.EVALUATION, Lengths())
    preset = cdml.PRESETS["laptop"].split()
    offered = {**cdml.OFFERED, Preset: Literal["laptop"]}
    shadow = Offered(offered, verb).shadow(verb)
    parsed = command_line.parse_one(shadow, given[5:], prog="vidembed", preset=preset)
    assert parsed.recipe.corpus.table == "a table"


def test_main_takes_vocabulary_and_options(good, tmp_path, capsys):
    names = tmp_path / "names.csv"
    names.write_text("Name,Index\nSpiel,1\n")
    assert main(f"{good}/*.tfrecord", OPTIONS, vocabulary=str(names)) == 0
    assert "1 Spiel" in capsys.readouterr().out
    names.write_text("number,word\n")
    with pytest.raises(ValueError, match="has the columns number, word; a vocabulary needs Index"):
        main(str(good), OPTIONS, vocabulary=str(names))
    for wrong in ("visual:mean_rgb", "visual:mean_rgb:x", ":k:3"):
        with pytest.raises(ValueError, match="NAME:KEY:WIDTH"):
            main(str(good), Reading(modalities=(wrong,)))
    # The records have no such keys.
    assert main(str(good), Reading(modalities=("visual:rgb:4",))) == 1
    assert main(str(good), replace(OPTIONS, labels_key="tags")) == 1
    assert main(str(good), replace(OPTIONS, labels_key="")) == 0


@pytest.mark.fault(
    "Records: records of another layout",
    "`inspect` reads them, lists keys, types, widths and gaps, and prints the import command; each "
    "kind of fault is reported once, with its count. `import`: 1, with the same command",
)
def test_foreign_records_are_described_once_with_the_command_that_imports_them(tmp_path, capsys):
    rows = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    path = tmp_path / "own [1], a@b"
    examples = [
        {"clip": b"c%d" % i, "emb": row, "year": [2000], **({"snd": row[:2]} if i % 5 else {})}
        for i, row in enumerate(rows)
    ]
    write_records(path, [encode_example(example) for example in examples])
    inspection = inspect(path)
    assert inspection.faults == []
    assert inspection.facts["labels"] == "not read"
    assert inspection.holds == [
        "clip: bytes (1 each)",
        "emb: floats (3 each)",
        "snd: floats (2 each), 10 of 50 lack it",
        "year: integers (1 each)",
    ]
    training = shlex.split(inspection.training)
    assert training[training.index("--task.model.modalities") :][1:3] == ["emb", "snd"]
    words = shlex.split(inspection.command)
    assert words[:4] == ["python", "-m", "vidembed", "import"]
    words[5] = str(tmp_path / "t")
    assert command(words[3:]) == 0
    capsys.readouterr()
    table = FeatureTable.open(tmp_path / "t")
    assert table.widths == {"emb": 3, "snd": 2}
    assert (~table.has("snd")).sum() == 10
    # The last line is the next command, of the table with its own path; EDGES are still to be made.
    assert command(["inspect", str(tmp_path / "t")]) == 0
    last = capsys.readouterr().out.splitlines()[-1].removeprefix("train on it with: ")
    assert shlex.split(last) == [str(tmp_path / "t") if w == "TABLE" else w for w in training]
    # With options that do not fit: each kind of fault once, with its count.
    assert command(["inspect", str(path), "--modalities", "visual:mean_rgb:4"]) == 1
    output = capsys.readouterr()
    assert output.out.count("fault:") == output.out.count("import it with:") == 1
    assert "fault: 50 such records, first" in output.out
    assert "0 faults" in output.out
    assert output.err == ""
    # An import also prints the command that fits.
    assert command(["import", str(path), str(tmp_path / "u")]) == 1
    assert inspection.command in capsys.readouterr().err
    # With the dtype that the values need.
    wide = [example | {"emb": 100 * example["emb"]} for example in examples]
    write_records(path, [encode_example(example) for example in wide])
    assert (needed := inspect(path).command).endswith("--dtype bfloat16")
    assert command(["import", str(path), str(tmp_path / "u")]) == 1
    assert needed in capsys.readouterr().err
    assert command(["import", str(path), str(tmp_path / "u"), "--dtype", "float32"]) == 1
    assert "--dtype float32" in capsys.readouterr().err


@pytest.mark.fault("Records: records of another layout")
def test_missing_labels_are_named(tmp_path, caplog):
    format = replace(OPTIONS, labels_key="").format()
    vector = np.array([0.5, -0.5, 1, 0], np.float32)
    records = [encode_video(f"v{i}", [], {"visual": vector}, format) for i in range(9)]
    write_records(tmp_path / "x.tfrecord", records)
    inspection = inspect(tmp_path, OPTIONS)
    assert len(inspection.faults) == 1
    assert "9 such records" in inspection.faults[0]
    assert "no labels: expected the key labels" in inspection.faults[0]
    assert inspection.facts["checksums"].endswith("; 0 faults")
    assert "9 without expected content" in inspection.facts["records"]
    assert caplog.text == ""  # each fault is reported only once


@pytest.mark.fault(
    "Records: ids that are not UTF-8",
    "kept, with a warning from `inspect` and `import`: no session or edge can name them; commands "
    "that need text: 1 with the table and the id",
)
def test_ids_that_are_not_utf8_are_reported_at_once(tmp_path, capsys):
    path, table = tmp_path / "a", tmp_path / "t"
    write_records(path, [payload(b"caf\xe9%d" % i) for i in range(3)])
    options = ["--modalities", "visual:mean_rgb:4"]
    assert command(["inspect", str(path), *options]) == 0
    assert "3 not UTF-8 (b'caf\\xe90')" in capsys.readouterr().out
    assert command(["import", str(path), str(table), *options]) == 0
    output = capsys.readouterr().out
    assert "ids that are not UTF-8: 3 (b'caf\\xe90', " in output
    assert "sessions and edges are text and can never name such a video" in output
    assert command(["simulate", str(table), str(tmp_path / "s.parquet")]) == 1
    assert f"{table}: 3 ids are not UTF-8, first b'caf\\xe90'" in capsys.readouterr().err


@pytest.mark.fault(
    "Records: a path with brackets, spaces, commas, `@`",
    "a name that exists is not a pattern; files count by their content, not by their names",
)
def test_existing_names_are_not_patterns_and_files_count_by_content(tmp_path):
    folder = tmp_path / "data [1]*"
    folder.mkdir()
    for name in ("a[0]", "a0", "b.tfrecord"):
        write_records(folder / name, [payload(name)])
    (folder / "notes.txt").write_text("no records")
    np.save(folder / "other.npy", np.ones(3))
    ids = {"a[0]": ["a[0]"], "a?": ["a0"], "b*": ["b.tfrecord"], "": ["a0", "a[0]", "b.tfrecord"]}
    for pattern, names in ids.items():
        matches = [file.name for file in shards(folder / pattern)]
        assert matches == names
        assert inspect(folder / pattern, OPTIONS).faults == []
    (folder / "counts.json").write_text(json.dumps({"a0": 1, "a[0]": 1, "b.tfrecord": 1}))
    assert inspect(folder / "a[0]", OPTIONS).faults == []
