"""An export runs without vidembed and makes the run's vectors; a damaged one is refused."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vidembed
from vidembed.__main__ import main
from vidembed.deploy import exporting
from vidembed.records import safetensors
from vidembed.records.bytecode import dequantise

STRANGER = """
import json, struct, sys
import jax.export
import numpy as np

folder, data = sys.argv[1:]
about = json.load(open(f"{folder}/model.json"))
raw = open(f"{folder}/model.safetensors", "rb").read()
(length,) = struct.unpack("<Q", raw[:8])
header = json.loads(raw[8 : 8 + length])
assert header.pop("__metadata__")["space"] == about["space"]
weights = {}
for name, entry in header.items():
    start, stop = (8 + length + at for at in entry["data_offsets"])
    assert entry["dtype"] == "F32"
    weights[name] = np.frombuffer(raw[start:stop], "<f4").reshape(entry["shape"])
given = np.load(data)
features = {name: given[name] for name in about["features"]}
present = {name: given[f"has {name}"] for name in about["features"]}
program = jax.export.deserialize(bytearray(open(f"{folder}/model.stablehlo", "rb").read()))
assert set(program.platforms) == {"cpu", "cuda", "tpu"}
for count in (300, 7, 1):
    some = lambda arrays: {name: array[:count] for name, array in arrays.items()}
    vectors = np.asarray(program.call(weights, some(features), some(present)))
    np.testing.assert_allclose(vectors, given["vectors"][:count], atol=1e-5)
assert not [name for name in sys.modules if name.split(".")[0] in ("vidembed", "flax", "orbax")]
"""


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    assert main(["export", workdir, str(folder), "--step", "latest"]) == 0
    return folder


def test_an_export_is_written_to_a_bucket_and_loaded_from_it(workdir, run, corpus, bucket):
    assert main(["export", workdir, str(bucket / "model"), "--step", "latest"]) == 0
    loaded = vidembed.load(str(bucket / "model"))
    assert loaded.space == run.space
    np.testing.assert_allclose(loaded.embed(corpus.table), run.embed(corpus.table), atol=1e-5)


def test_a_stranger_makes_the_same_vectors(run, corpus, exported, tmp_path):
    features = {m: dequantise(a) for m, a in corpus.table.features.items()}
    has = {"visual": np.ones(300, bool), "audio": np.arange(300) % 3 > 0}
    vectors = run.embed(features, present=has)
    said = {f"has {name}": mask for name, mask in has.items()}
    np.savez(tmp_path / "data.npz", vectors=vectors, **features, **said)
    command = [sys.executable, "-c", STRANGER, str(exported), str(tmp_path / "data.npz")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_an_export_is_loaded_like_the_run(run, corpus, exported, workdir):
    other = vidembed.load(exported)
    np.testing.assert_allclose(other.embed(corpus.table), run.embed(corpus.table), atol=1e-5)
    about = json.loads((exported / "model.json").read_text())
    assert about["vector"] == {"size": 8, "dtype": "float32", "unit_length": True}
    assert about["features"]["audio"] == {
        "width": 4,
        "dtype": "float32",
        "space": "4 uint8 from arrays",
    }
    for name in ("space", "inputs", "widths", "size", "step", "output"):
        assert getattr(other, name) == getattr(run, name)
    # The vectors of both are compared.
    assert len(other.index(corpus.table).search(run.embed(corpus.table)[:1], 3).ids) == 3


@pytest.mark.fault(
    "A run in use: an export with flipped bits or mixed files, a program that computes "
    "something else, no flatbuffers",
    "1: the file; nothing is written; the extra",
)
@pytest.mark.fault(
    "A run in use: other vectors, foreign files, an index or an export at the output path",
)
def test_damaged_exports_and_occupied_folders_are_refused(
    exported, workdir, tmp_path, capsys, monkeypatch
):
    with pytest.raises(ValueError, match="export of step 3 only"):
        vidembed.load(exported, step=2)
    for name in ("model.safetensors", "model.stablehlo", "model.json"):
        copy = Path(shutil.copytree(exported, tmp_path / name))
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1 << 7
        (copy / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            vidembed.load(copy)
    about = json.loads((exported / "model.json").read_text())
    for edited in (about | {"space": "another"}, {"kind": about["kind"], "version": 1}, []):
        (copy / "model.json").write_text(json.dumps(edited))
        with pytest.raises(ValueError, match=r"model\.json (was changed|does not describe)"):
            vidembed.load(copy)
    (copy / "model.json").write_text(json.dumps(about))
    assert vidembed.load(copy).space == about["space"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    for place in ("notes", "notes/mine.txt"):
        assert main(["export", workdir, str(tmp_path / place), "--step", "latest"]) == 1
        assert re.search("holds other files|is a file", capsys.readouterr().err)
    assert main(["export", workdir, str(exported), "--step", "latest"]) == 1
    assert "is an export already" in capsys.readouterr().err
    monkeypatch.setattr(exporting, "CLOSE", -1.0)
    assert main(["export", workdir, str(tmp_path / "new"), "--step", "latest"]) == 1
    assert "differs from the run" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    with pytest.raises(ValueError, match="holds no run"):
        vidembed.load(tmp_path / "new")


@pytest.mark.fault(
    "A run in use: an export with flipped bits or mixed files, a program that computes "
    "something else, no flatbuffers",
)
def test_safetensors_round_trip_and_truncated_files_are_refused():
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros((0, 2), np.int64)}
    arrays["c"] = np.array(True)
    content = safetensors.to_bytes(arrays, {"x": "y"})
    for name, array in safetensors.from_bytes(content).items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name])
    for end in (0, 5, 40, len(content) - 1):
        with pytest.raises(ValueError, match="not a safetensors file"):
            safetensors.from_bytes(content[:end])
    with pytest.raises(ValueError, match="complex64 is not one of"):
        safetensors.to_bytes({"z": np.zeros(1, np.complex64)}, {})


@pytest.mark.fault(
    "A run in use: an export with flipped bits or mixed files, a program that computes "
    "something else, no flatbuffers",
)
def test_without_flatbuffers_the_extra_is_named(exported, workdir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["export", workdir, str(tmp_path / "new"), "--step", "latest"]) == 1
    assert "pip install -e '.[serve]'" in capsys.readouterr().err
    with pytest.raises(ImportError, match="serve"):
        vidembed.load(exported)
