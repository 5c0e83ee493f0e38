"""The exported encoder of a run on clips as a backbone of extraction."""

import json

import numpy as np
import pytest

import vidembed
from tests.deploy.clip_run import RATE, SIZE, D, Rows, T
from vidembed.__main__ import main
from vidembed.deploy.clip_exporting import BACKBONE, export_clips
from vidembed.engine.model import load_model
from vidembed.media.backbone import Backbone
from vidembed.media.clip_frames import ClipFrames
from vidembed.records.table import FeatureTable
from vidembed.workdir.layout import Workdir


@pytest.fixture(scope="module")
def exported(of_files, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "encoder"
    export_clips(of_files, out, "latest", classes=(Rows,))
    return out


def cut(path):
    """The clips of a file, which follow each other."""
    options = {"fit": "crop", "longest_seconds": 60.0}
    frames = ClipFrames(rate=RATE, height=SIZE, width=SIZE, **options).read(path)
    return frames[: len(frames) // T * T].reshape(-1, T, SIZE, SIZE, 3)


def expected(run, clips):
    """Outputs of the model itself."""
    model = load_model(Workdir(run), "latest", outputs=("clip", "clip_deviation"), classes=(Rows,))
    arrays = {"clips": clips[:, None], "present": np.ones((len(clips), 1), bool)}
    made = {}
    for name in model:
        part = model.arrays(name)
        made[name] = model.function(name)(part["parameters"], part["state"], arrays)[:, 0]
    return made


def test_the_encoder_is_a_backbone_that_makes_what_the_model_makes(exported, of_files, shapes):
    backbone = Backbone.open(exported / BACKBONE)
    assert backbone.width == D
    assert (backbone.input.frames, backbone.input.rate, backbone.input.height) == (T, RATE, SIZE)
    clips = cut(next(shapes.glob("left/*.mp4")))
    assert len(clips) == 4
    made = expected(of_files, clips)
    np.testing.assert_allclose(backbone.runner()(clips), made["clip"], atol=1e-4)
    np.testing.assert_allclose(backbone.runner(batch=3)(clips), made["clip"], atol=1e-4)
    other = Backbone.open(exported / BACKBONE, output="clip_deviation")
    np.testing.assert_allclose(other.runner()(clips), made["clip_deviation"], atol=1e-4)
    assert other.space != backbone.space
    run = vidembed.load(of_files, "latest", classes=(Rows,))
    about = json.loads((exported / "model.json").read_text())
    assert about["space"] == run.clips.spaces["clip"]


@pytest.mark.fault(
    "A run in use: an encoder of clips exported over another export, of a run on windows, or taken "
    "for a run",
    "refused",
)
@pytest.mark.long
def test_exports_that_cannot_be_are_refused(exported, of_files, of_windows, tmp_path, capsys):
    with pytest.raises(ValueError, match="is an export already"):
        export_clips(of_files, exported, "latest", classes=(Rows,))
    with pytest.raises(ValueError, match="reads windows of stored features, which no backbone"):
        export_clips(of_windows, tmp_path / "out", "latest")
    with pytest.raises(ValueError, match="is a backbone of `vidembed extract`"):
        vidembed.load(exported)
    assert main(["export", of_windows, str(tmp_path / "out"), "--onnx"]) == 1
    assert "--onnx and --output are not for runs on clips" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_extraction_takes_it(exported, of_files, shapes, tmp_path):
    table = str(tmp_path / "table")
    options = ["--backbones", str(exported), "--dtype", "float32", "--workers", "1"]
    assert main(["extract", str(shapes / "left"), table, *options]) == 0
    made = FeatureTable.open(table)
    assert made.widths == {"clip": D}
    for row, name in enumerate(made.ids.tolist()):
        clips = expected(of_files, cut(shapes / "left" / f"{name.decode()}.mp4"))["clip"]
        np.testing.assert_allclose(made.features["clip"][row], clips.mean(axis=0), atol=1e-4)
