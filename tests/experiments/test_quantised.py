"""Table 3 on a tiny network: nets of another sweep are taken, codes measured once, all written."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import codes, quantised
from experiments.running import SAMPLE
from experiments.sweep import networks
from vidembed.engine.model import load_model
from vidembed.records.table import FeatureTable
from vidembed.serving.quantizer import Quantizer
from vidembed.workdir.layout import Workdir

RECORDS = str(SAMPLE / "validate000[01].tfrecord")
NET = "late-8-16"
pytestmark = pytest.mark.long
TINY = replace(quantised.sweep, points=lambda recipe: networks(recipe, NET), reference=NET)


def run(folder):
    size = ("--steps", "3", "--triplets", "16", "--seeds", "0", "--records", RECORDS)
    return quantised.main(TINY, ["run", "--workdir", str(folder), *size])


def without_faiss(patch):
    patch.setattr(quantised, "has_faiss", lambda: False)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantised")
    with pytest.MonkeyPatch.context() as patch:
        without_faiss(patch)
        assert run(folder) == 0
    return folder


def test_what_is_measured_is_the_checkpoint_coded(swept):
    said = json.loads((swept / "seed0" / NET / "quantised.json").read_text())["codes"]
    assert {name: of["bytes"] for name, of in said.items()} == {
        "float32": 64, "int8": 16, "8 bit": 16, "4 bit": 8, "2 bit": 4, "signs": 2,
        "8 bit, per dimension": 16, "4 bit, per dimension": 8, "2 bit, per dimension": 4,
    }  # fmt: skip
    model = load_model(Workdir(swept / "seed0" / NET), "3")
    vectors = model["video"](FeatureTable.open(str(swept / "table")))
    assert said["float32"]["error"] == 0
    coded = Quantizer.fit(vectors, bits=4)  # on all, not on train videos alone
    error = np.square(coded.decode(coded.encode(vectors)) - vectors).sum(1).mean()
    assert said["4 bit"]["error"] == pytest.approx(error / vectors.var(axis=0).sum(), rel=0.1)
    assert said["8 bit"]["error"] < said["4 bit"]["error"] < said["2 bit"]["error"] < 1


def test_codes_are_measured_once(swept, capsys, monkeypatch):
    without_faiss(monkeypatch)
    monkeypatch.setattr(quantised, "measure_codes", None)
    assert run(swept) == 0
    out = capsys.readouterr().out
    assert out.count("done before\n") == 2
    assert out.count("codes done before\n") == 1


def test_measurements_that_lack_a_code_or_are_of_another_step_are_not_taken(swept):
    point = SimpleNamespace(
        recipe=SimpleNamespace(steps=3),
        run=Workdir(swept / "seed0" / NET),
        varied=SimpleNamespace(task=SimpleNamespace(model=SimpleNamespace(size=16))),
    )
    names = {code.name for code in codes.codes(16, faiss=False)}
    assert quantised.measured(point, faiss=False)[0].keys() == names
    assert quantised.measured(point, faiss=True) is None  # PQ, OPQ and residual are lacking
    point.recipe.steps = 4
    assert quantised.measured(point, faiss=False) is None


def test_the_table_is_written_in_every_form(swept, capsys, monkeypatch):
    without_faiss(monkeypatch)
    # What the paper has for other widths stands beside these.
    monkeypatch.setattr(
        quantised, "TABLE_3", {(16, 4): {"eval_to_train": 5.58}, **quantised.TABLE_3}
    )
    assert quantised.main(TINY, ["gather", "--workdir", str(swept)]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.split("The paper:")[0].splitlines())) <= 80
    assert "SIMULATED SESSIONS" in printed
    assert "LEFT OUT PQ, OPQ, residual: faiss is not installed" in printed
    result = json.loads((swept / "quantised.json").read_text())
    assert result["missing"] == []
    assert len(result["rows"]) == 9
    rows = {(row["width"], row["code"]): row for row in result["rows"]}
    for direction in ("eval_to_train", "train_to_eval"):
        coded, whole = (
            rows[16, name]["scores"][direction]["ndcg@10"]["value"] for name in ("2 bit", "float32")
        )
        for ratio in ("own", "widest"):
            found = rows[16, "2 bit"][ratio][direction]["ndcg@10"]["value"]
            assert found == pytest.approx(coded / whole)
            assert rows[16, "float32"][ratio][direction]["ndcg@10"]["low"] == 1
    assert rows[16, "4 bit"]["paper"] == {"eval_to_train": 5.58 / 5.61}
    assert rows[16, "4 bit, per dimension"]["paper"] is None
    lines = list(csv.DictReader((swept / "quantised.csv").read_text().splitlines()))
    assert len(lines) == 9
    assert "| 16 | 4 bit | 8 |" in (swept / "quantised.md").read_text()
    for direction in ("eval_to_train", "train_to_eval"):
        svg = (swept / f"quantised-{direction}.svg").read_text()
        assert all(text in svg for text in ("Lloyd-Max", "signs", "bytes of a vector"))


def test_the_paper_and_nothing_begun(tmp_path, capsys):
    assert quantised._of_paper(256, "4 bit")["eval_to_train"] == pytest.approx(1 - 0.006, abs=1e-3)
    assert quantised._of_paper(256, "float32")["train_to_eval"] == 1
    assert quantised._of_paper(256, "int8") is None
    assert quantised.main(quantised.sweep, ["gather", "--workdir", str(tmp_path)]) == 1
    assert "begin with `python -m experiments.quantised run" in capsys.readouterr().err
    assert not any(Path(tmp_path).iterdir())


def test_codes_of_faiss(capfd):
    pytest.importorskip("faiss", reason="needs faiss: pip install -e '.[serve]'")
    rng = np.random.default_rng(0)
    # The variance is in four of eight directions, two in either half: the best axes for 2 parts.
    best = rng.standard_normal((2000, 8)) * [1, 1, 0.05, 0.05, 1, 1, 0.05, 0.05]
    best = best.astype(np.float32)
    vectors = best @ np.linalg.qr(rng.standard_normal((8, 8)))[0].astype(np.float32)
    errors, sizes = dict[str, float](), dict[str, int]()
    for code in codes.codes(8, faiss=True):
        if code.kind in ("PQ", "OPQ", "residual"):
            restored = code.restored(vectors[:1500], vectors)
            errors[code.name] = np.square(restored - vectors).sum(axis=1).mean()
            sizes[code.name] = code.bytes
    # Of a vector: the rotation belongs to all.
    assert sizes == {
        "PQ4": 4, "OPQ4": 4, "PQ2": 2, "OPQ2": 2, "PQ1": 1, "OPQ1": 1, "residual, 1 levels": 1
    }  # fmt: skip
    assert errors["PQ4"] < errors["PQ2"] < errors["PQ1"] < vectors.var(axis=0).sum()
    there = np.square(codes.product(best[:1500], best, size=2) - best).sum(axis=1).mean()
    assert there < errors["OPQ2"] < 0.8 * errors["PQ2"]
    assert errors["OPQ4"] < 1.1 * errors["PQ4"]
    assert errors["OPQ1"] == pytest.approx(errors["PQ1"], rel=0.01)  # one part: nothing to turn
    few = next(code for code in codes.codes(8, faiss=True) if code.name == "OPQ4")
    assert few.restored(vectors[:257], vectors[:9]).shape == (9, 8)
    assert capfd.readouterr() == ("", "")
