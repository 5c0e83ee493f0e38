"""An export to ONNX makes the run's vectors without vidembed and JAX."""

import importlib.util
import json
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
import xxhash

from vidembed.__main__ import main
from vidembed.deploy import onnx_program
from vidembed.media.backbone import Backbone
from vidembed.models.fusion import EarlyFusion, LateFusion, Layers, SingleModality
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.spec import Spec

STRANGER = """
import sys
import numpy as np
import onnxruntime

model, data = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
given = np.load(data)
for count in (1, 5, 1000):
    arrays = {entry.name: given[entry.name][:count] for entry in session.get_inputs()}
    (vectors,) = session.run(["vectors"], arrays)
    np.testing.assert_allclose(vectors, given["vectors"][:count], atol=2e-6)
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"vidembed", "jax", "flax", "jax2onnx"}, loaded
"""
WIDTHS = {"visual": 8, "audio": 4}


def in_another_process(model, features, present, vectors, folder):
    arrays = {f"features_{m}": a for m, a in features.items()}
    arrays |= {f"present_{m}": a for m, a in present.items()}
    np.savez(folder / "data.npz", vectors=vectors, **arrays)
    command = [sys.executable, "-c", STRANGER, str(model), str(folder / "data.npz")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr


def made_up(widths, videos=1000):
    rng = np.random.default_rng(1)
    features = {m: rng.normal(size=(videos, w)).astype(np.float32) for m, w in widths.items()}
    # Of the two modalities, some videos lack one, some the other, some both.
    present = {m: rng.random(videos) < 0.6 for m in widths}
    for number, m in enumerate(widths):
        present[m][number] = False
    return features, present


@pytest.fixture
def converter():
    for package in onnx_program.PACKAGES:
        pytest.importorskip(package, reason="needs jax2onnx: pip install -e '.[onnx]'")


def network(model):
    """(features, present) → vectors, of an untrained model."""
    task, rng = MetricLearning(model=model), np.random.default_rng(0)
    widths = {m: WIDTHS[m] for m in model.modalities}
    known = {
        m: {"mean": rng.normal(size=w), "deviation": rng.uniform(0.5, 2, size=w)}
        for m, w in widths.items()
    }
    known = jax.tree.map(np.float32, known)
    parameters, state = task.init(jax.random.key(0), Spec(widths=widths), known)
    parameters = jax.tree.map(np.asarray, parameters)
    return partial(task.embed, parameters, state), widths


@pytest.mark.long
@pytest.mark.parametrize("kind", [LateFusion, EarlyFusion, SingleModality])
@pytest.mark.parametrize("last", ["none", "relu"])
def test_every_network_makes_the_same_vectors(converter, kind, last, tmp_path):
    embed, widths = network(kind(layers=Layers(hidden=(16, 12), size=6, last_activation=last)))
    features, present = made_up(widths)
    (tmp_path / "model.onnx").write_bytes(onnx_program.to_onnx(embed, widths))
    vectors = np.asarray(embed(features, present))
    in_another_process(tmp_path / "model.onnx", features, present, vectors, tmp_path)


@pytest.mark.long
def test_a_stranger_makes_the_vectors_of_a_run(converter, run, workdir, tmp_path):
    folder = tmp_path / "model"
    assert main(["export", workdir, str(folder), "--step", "latest", "--onnx"]) == 0
    about = json.loads((folder / "model.json").read_text())
    assert about["onnx"]["inputs"] == {
        "features_visual": {"dtype": "float32", "shape": ["videos", 8]},
        "features_audio": {"dtype": "float32", "shape": ["videos", 4]},
        "present_visual": {"dtype": "bool", "shape": ["videos"]},
        "present_audio": {"dtype": "bool", "shape": ["videos"]},
    }
    assert about["onnx"]["outputs"] == {"vectors": {"dtype": "float32", "shape": ["videos", 8]}}
    content = (folder / "model.onnx").read_bytes()
    assert about["files"]["model.onnx"] == xxhash.xxh3_128_hexdigest(content)
    features, present = made_up(run.widths)
    present["visual"] |= ~present["audio"]  # every video of a run has a modality
    vectors = run.embed(features, present=present)
    in_another_process(folder / "model.onnx", features, present, vectors, tmp_path)


@pytest.mark.long
def test_an_export_is_a_backbone(converter, tmp_path):
    embed, widths = network(SingleModality(layers=Layers(hidden=(16,), size=6)))
    (tmp_path / "model.onnx").write_bytes(onnx_program.to_onnx(embed, widths))
    about = {
        "name": "run",
        "onnx": "model.onnx",
        "input": {"kind": "waveform", "seconds": 0.5, "sample_rate": 16},
        "layout": "NS",
        "output": "vectors",
    }
    (tmp_path / "run.json").write_text(json.dumps(about))
    features = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    vectors = embed({"visual": features}, {"visual": np.ones(5, np.bool_)})
    made = Backbone.open(tmp_path / "run.json").runner()(features)
    np.testing.assert_allclose(made, vectors, atol=2e-6)


@pytest.mark.long
@pytest.mark.fault(
    "A run in use: an export to ONNX without the extra, or of a network that is not converted",
    "1: what to install, or what jax2onnx or onnxruntime said; nothing is written",
)
def test_a_network_of_bfloat16_is_refused(converter):
    embed, widths = network(LateFusion(layers=Layers(hidden=(16,), size=6, compute="bfloat16")))
    with pytest.raises(ValueError, match=r"could not be converted to ONNX: .*bfloat16.*--onnx"):
        onnx_program.to_onnx(embed, widths)


@pytest.mark.fault(
    "A run in use: an export to ONNX without the extra, or of a network that is not converted"
)
@pytest.mark.parametrize("lacking", onnx_program.PACKAGES)
def test_without_the_extra_it_is_named(workdir, lacking, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == lacking else 1)
    assert main(["export", workdir, str(tmp_path / "new"), "--step", "latest", "--onnx"]) == 1
    error = capsys.readouterr().err
    assert lacking in error
    assert "pip install -e '.[onnx]'" in error
    assert not (tmp_path / "new").exists()
