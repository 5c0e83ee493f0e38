"""An output replaces what the same command made, and nothing else."""

import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.__main__ import main
from vidembed.files import write_json
from vidembed.records.outputs import EDGES, SESSIONS, OutputError
from vidembed.records.table_folder import TableWriter
from vidembed.workdir.layout import Workdir


@pytest.fixture
def made(corpus_paths, tmp_path):
    """Verb → what it reads, and a file that it made."""
    table = shutil.copytree(corpus_paths.table, tmp_path / "table")
    edges = shutil.copy(corpus_paths.edges, tmp_path / "edges.parquet")
    found = {
        "simulate": ([table], tmp_path / "sessions.parquet"),
        "cowatch": ([tmp_path / "sessions.parquet"], tmp_path / "own.parquet"),
        "cluster": ([edges, "--table", table], tmp_path / "clusters.parquet"),
    }
    for verb, (inputs, output) in found.items():
        assert run(verb, inputs, output) == 0
    return found


def run(verb, inputs, output):
    return main([str(word) for word in (verb, inputs[0], output, *inputs[1:])])


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.fault(
    "Records: an output that is an input, or a file that the command did not make",
    "1: what it is, and to name another file; nothing is changed",
)
def test_no_command_replaces_what_it_did_not_make(made, tmp_path, capsys):
    """Inputs, by any name; what other commands made; foreign files of every kind."""
    (tmp_path / "notes.txt").write_text("notes")
    pq.write_table(pa.table({"source": ["a"], "target": ["b"], "weight": [1]}), tmp_path / "mine")
    os.link(tmp_path / "own.parquet", tmp_path / "linked")
    (tmp_path / "pointed").symlink_to(tmp_path / "sessions.parquet")
    before = everything(tmp_path)
    for verb, (inputs, own) in made.items():
        others = [
            path
            for path in tmp_path.iterdir()
            if path not in (own, *([tmp_path / "linked"] if verb == "cowatch" else []))
        ]
        for path in [*others, tmp_path / "table" / "x", tmp_path / "table/manifest.json"]:
            own_by_name = {("simulate", "pointed"), ("cowatch", "x"), ("cowatch", "linked")}
            if (verb, path.name) in own_by_name:
                continue  # what it made itself, by another name; in nothing that it reads
            assert run(verb, inputs, path) == 1, (verb, path)
            assert f"error: {path}: is " in capsys.readouterr().err
            assert everything(tmp_path) == before
    for device in ("/dev/null", "/dev/full"):
        with pytest.raises(OutputError, match="no regular file"):
            EDGES.check(device, [])


@pytest.mark.fault("Records: an output that is an input, or a file that the command did not make")
def test_what_it_made_and_an_empty_file_are_replaced(made, tmp_path):
    for verb, (inputs, own) in made.items():
        older = own.read_bytes()
        own.write_bytes(b"")
        for _ in range(2):
            assert run(verb, inputs, own) == 0
            assert len(own.read_bytes()) == len(older)


@pytest.mark.fault("Records: an output that is an input, or a file that the command did not make")
def test_an_output_in_a_pattern_or_folder_of_the_inputs(tmp_path):
    folder = tmp_path / "days [1]"
    folder.mkdir()
    for given in (folder, folder / "*.parquet", tmp_path / "days [1]" / "a*"):
        with pytest.raises(OutputError, match="one of the inputs"):
            EDGES.check(folder / "all.parquet", [given])
    assert SESSIONS.check(tmp_path / "new", ["", "gs://b/new", folder]) == tmp_path / "new"


@pytest.mark.fault(
    "Records: a table replaced in a folder that holds other files",
    "they stay; a folder with a manifest of something else is refused",
)
def test_an_import_removes_only_what_a_table_is_made_of(corpus_paths, tmp_path, monkeypatch):
    table = shutil.copytree(corpus_paths.table, tmp_path / "table")
    notes = table / "features" / "notes.txt"
    notes.write_text("of mine")
    there = everything(table)
    TableWriter(table, source={}, replace=True).abandon()
    assert everything(table) == there
    (table / "manifest.json").write_text('{"kind": "vidembed feature table"}')
    TableWriter(table, source={}, replace=True).abandon()
    assert list(everything(table)) == [notes]
    write_json(tmp_path / "extension" / "manifest.json", {"manifest_version": 3})
    with pytest.raises(ValueError, match="is not that of a feature table"):
        TableWriter(tmp_path / "extension", source={}, replace=True)


@pytest.mark.fault(
    "Runs: a work directory with files of something else",
    "1: the file that would be written over; nothing is begun",
)
@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints/7/x", "events/x", "DONE"])
def test_a_run_is_not_begun_in_a_folder_of_something_else(name, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    with (
        pytest.raises(ValueError, match=r"recipe\.json"),
        Workdir(tmp_path).lease(),
    ):
        pytest.fail("begun")
    assert everything(tmp_path) == {file: b"mine"}


@pytest.mark.fault("Runs: a work directory with files of something else")
def test_a_recipe_of_something_else_is_no_run(tmp_path):
    for other in ([], {"recipe": 1}, {"dependencies": {}}, 3, None):
        write_json(tmp_path / "recipe.json", other)
        with pytest.raises(ValueError, match=r"recipe\.json is damaged, or not of a run"):
            Workdir(tmp_path).read_recipe()
