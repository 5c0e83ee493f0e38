"""An output may only replace a file that the same command made."""

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
    """Verb → its inputs, and a file that it made."""
    table = shutil.copytree(corpus_paths.table, tmp_path / "table")
    edges = shutil.copy(corpus_paths.edges, tmp_path / "edges.parquet")
    outputs = {
        "simulate": ([table], tmp_path / "sessions.parquet"),
        "cowatch": ([tmp_path / "sessions.parquet"], tmp_path / "own.parquet"),
        "cluster": ([edges, "--table", table], tmp_path / "clusters.parquet"),
    }
    for verb, (inputs, output) in outputs.items():
        assert run(verb, inputs, output) == 0
    return outputs


def run(verb, inputs, output):
    return main([str(word) for word in (verb, inputs[0], output, *inputs[1:])])


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.fault(
    "Records: an output that is an input, or a file that the command did not make",
    "1: the reason, and advice to name another file; nothing is changed",
)
def test_no_command_replaces_a_file_that_it_did_not_make(made, tmp_path, capsys):
    """Inputs under any name, outputs of other commands, and foreign files of every kind."""
    (tmp_path / "notes.txt").write_text("notes")
    pq.write_table(pa.table({"source": ["a"], "target": ["b"], "weight": [1]}), tmp_path / "mine")
    os.link(tmp_path / "own.parquet", tmp_path / "linked")
    (tmp_path / "pointed").symlink_to(tmp_path / "sessions.parquet")
    before = everything(tmp_path)
    for verb, (inputs, output) in made.items():
        others = [
            path
            for path in tmp_path.iterdir()
            if path not in (output, *([tmp_path / "linked"] if verb == "cowatch" else []))
        ]
        for path in [*others, tmp_path / "table" / "x", tmp_path / "table/manifest.json"]:
            own_by_name = {("simulate", "pointed"), ("cowatch", "x"), ("cowatch", "linked")}
            if (verb, path.name) in own_by_name:
                continue  # its own output under another name, outside its inputs
            assert run(verb, inputs, path) == 1, (verb, path)
            assert f"error: {path}: " in capsys.readouterr().err
            assert everything(tmp_path) == before
    for device in ("/dev/null", "/dev/full"):
        with pytest.raises(OutputError, match="not a regular file"):
            EDGES.check(device, [])


@pytest.mark.fault("Records: an output that is an input, or a file that the command did not make")
def test_own_outputs_and_empty_files_are_replaced(made, tmp_path):
    for verb, (inputs, output) in made.items():
        older = output.read_bytes()
        output.write_bytes(b"")
        for _ in range(2):
            assert run(verb, inputs, output) == 0
            assert len(output.read_bytes()) == len(older)


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
    "they stay; a folder with a foreign manifest is refused",
)
def test_an_import_removes_only_the_files_of_a_table(corpus_paths, tmp_path, monkeypatch):
    table = shutil.copytree(corpus_paths.table, tmp_path / "table")
    notes = table / "features" / "notes.txt"
    notes.write_text("of mine")
    before = everything(table)
    TableWriter(table, source={}, replace=True).abandon()
    assert everything(table) == before
    (table / "manifest.json").write_text('{"kind": "vidembed feature table"}')
    TableWriter(table, source={}, replace=True).abandon()
    assert list(everything(table)) == [notes]
    write_json(tmp_path / "extension" / "manifest.json", {"manifest_version": 3})
    with pytest.raises(ValueError, match="is not that of a feature table"):
        TableWriter(tmp_path / "extension", source={}, replace=True)


@pytest.mark.fault(
    "Runs: a work directory with foreign files",
    "1: the file that would be overwritten; nothing is started",
)
@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints/7/x", "events/x", "DONE"])
def test_a_run_does_not_start_in_a_folder_with_foreign_files(name, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    with (
        pytest.raises(ValueError, match=r"recipe\.json"),
        Workdir(tmp_path).lease(),
    ):
        pytest.fail("begun")
    assert everything(tmp_path) == {file: b"mine"}


@pytest.mark.fault("Runs: a work directory with foreign files")
def test_a_foreign_recipe_is_not_a_run(tmp_path):
    for content in ([], {"recipe": 1}, {"dependencies": {}}, 3, None):
        write_json(tmp_path / "recipe.json", content)
        with pytest.raises(ValueError, match=r"recipe\.json is damaged, or not of a run"):
            Workdir(tmp_path).read_recipe()
