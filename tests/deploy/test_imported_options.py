"""`search --record` and `embed` read records as the run's training table was imported."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vidembed
from vidembed.__main__ import main
from vidembed.records.bytecode import dequantise

STORED = {
    "modalities": ["visual:look:8", "audio:noise:4"],
    "id_key": "item",
    "labels_key": "",
    "missing": "mask",
    "dtype": "uint8",
    "space": ["visual=8 uint8 from arrays", "audio=4 uint8 from arrays"],
}
"""As of an import, with the spaces of the fixture's table, which is made from arrays."""


@pytest.fixture(scope="module")
def imported(workdir, tmp_path_factory):
    """The run, as if its table had been imported with these options."""
    place = tmp_path_factory.mktemp("imported") / "run"
    shutil.copytree(workdir, place)
    recipe = json.loads((place / "recipe.json").read_text())
    (place / "recipe.json").write_text(json.dumps(recipe | {"imported": STORED}))
    return str(place)


@pytest.fixture
def new(corpus, tmp_path):
    """Three of the table's videos as Parquet; the last lacks audio."""
    wide = {m: list(dequantise(array[:3])) for m, array in corpus.table.features.items()}
    wide["audio"][2] = None
    columns = {"item": ["x", "y", "z"], "look": wide["visual"], "noise": wide["audio"]}
    pq.write_table(pa.table(columns), tmp_path / "new.parquet")
    return str(tmp_path / "new.parquet")


def test_search_and_embed_need_no_options_of_the_import(
    imported, corpus_paths, corpus, new, tmp_path, capsys
):
    index, latest = str(tmp_path / "index"), ["--step", "latest"]
    assert main(["index", imported, str(corpus_paths.table), index, *latest]) == 0
    capsys.readouterr()
    search = ["search", index, "--record", new, "--run", imported, *latest, "-k", "1"]
    assert main(search) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    names = corpus.table.ids[:2].astype(str).tolist()
    assert [(query, video) for query, _, video, _ in lines[:2]] == list(zip("xy", names))
    assert lines[2][0] == "z"
    assert main(["embed", imported, new, str(tmp_path / "v.npy"), *latest]) == 0
    expected = vidembed.load(imported, "latest").embed(corpus.table)[:2]
    np.testing.assert_allclose(np.load(tmp_path / "v.npy")[:2], expected, atol=1e-5)


@pytest.mark.fault(
    "A run in use: features from another model than the run's training features; an index of "
    "other vectors",
)
def test_another_dtype_is_refused_with_the_dtype_to_give(workdir, new, tmp_path, capsys):
    # The run does not record an import, so its options are needed.
    given = ["--modalities", *STORED["modalities"], "--id-key", "item", "--labels-key", ""]
    stored = json.loads((Path(workdir) / "recipe.json").read_text())
    assert stored["imported"] == {}
    out = str(tmp_path / "v.npy")
    assert main(["embed", workdir, new, out, "--step", "latest"]) == 1
    assert "import it with: " in capsys.readouterr().err
    named = ["--missing", "mask", "--dtype", "float32"]
    assert main(["embed", workdir, new, out, "--step", "latest", *given, *named]) == 1
    assert "is '8 uint8 from arrays', of the table '8 float32 from records" in (
        capsys.readouterr().err
    )


def test_a_run_stores_the_options_of_its_table(corpus):
    options = {"format": {"modalities": [{"name": "v", "key": "k", "width": 2}]}, "dtype": "uint8"}
    options["format"] |= {"id_keys": ["item"], "labels_key": None, "missing": "mask"}
    table = replace(corpus.table, manifest={"source": {"options": options}})
    imported = replace(corpus, table=table).imported
    assert imported == {**STORED, "modalities": ["v:k:2"], "space": []}
