"""A backbone's description against its graph, and its features against an average by hand."""

import hashlib
import importlib.util
import json
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
import xxhash
from onnx import TensorProto

from tests.media.graphs import CLIP, FRAME, SOUND, WAVE, graph, pixels, write
from vidembed.media import description
from vidembed.media.backbone import Backbone
from vidembed.media.onnx import CPU, Session
from vidembed.records import safetensors
from vidembed.records.export_folder import digest_of

IMAGE = graph((3, 4, 6), (2, 3))
MEAN, SCALE = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


@pytest.mark.parametrize(
    ("shape", "axes", "layout"),
    [
        ((3, 4, 6), (2, 3), "NCHW"),
        ((4, 6, 3), (1, 2), "NHWC"),
        ((1, 3, 6, 4), (1, 3, 4), "N1CWH"),
    ],
)
def test_frames_in_any_layout(tmp_path, shape, axes, layout):
    path = write(tmp_path, graph(shape, axes), layout=layout, mean=MEAN, scale=SCALE)
    backbone, values = Backbone.open(path), pixels(5)
    assert (backbone.width, backbone.modality, backbone.input_name) == (3, "visual", "data")
    expected = ((values - np.array(MEAN)) / SCALE).mean((1, 2))
    for batch in (1, 2, 5, 64):
        features = backbone.runner(batch=batch)(values)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, expected, atol=1e-6)
    assert backbone.runner()(values[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("taken", "shape", "axes", "layout", "modality"),
    [
        (CLIP, (3, 3, 4, 6), (2, 3, 4), "NCTHW", "activity"),
        (SOUND, (1, 7, 5), (1, 2), "N1TB", "audio"),
        (SOUND, (5, 7), (2,), "NBT", "audio"),
        (WAVE, (8,), (), "NS", "audio"),
        (SOUND, (35,), (), "NF", "audio"),
    ],
)
def test_clips_and_sound(tmp_path, taken, shape, axes, layout, modality):
    backbone = Backbone.open(write(tmp_path, graph(shape, axes), taken, layout, mean=3, scale=2))
    assert backbone.modality == modality
    if taken is CLIP:
        values = pixels(4, shape=(3, 4, 6, 3))
        expected = values.mean((1, 2, 3), dtype=np.float64)
    else:
        raw = {"N1TB": (7, 5), "NBT": (7, 5), "NF": (7, 5), "NS": (8,)}[layout]
        values = np.random.default_rng(0).normal(size=(4, *raw)).astype(np.float32)
        expected = values.mean(1) if axes else values.reshape(4, -1)
    np.testing.assert_allclose(backbone.runner()(values), (expected - 3) / 2, atol=1e-5)


def test_a_graph_of_bytes_of_half_precision_or_of_a_fixed_batch(tmp_path):
    values = pixels(7)
    expected = values.mean((1, 2), dtype=np.float64)
    for options in ({"dtype": TensorProto.UINT8}, {"dtype": TensorProto.FLOAT16}, {"batch": 4}):
        backbone = Backbone.open(write(tmp_path, graph((3, 4, 6), (2, 3), **options)))
        np.testing.assert_allclose(backbone.runner()(values), expected, rtol=1e-3)


def test_inputs_that_say_whether_features_are_present_are_true(tmp_path):
    """As in `vidembed export --onnx`: features_audio f32[N, F] and present_audio bool[N]."""
    content = graph((8,), (), flags=("present_audio",))
    backbone = Backbone.open(write(tmp_path, content, WAVE, "NS"))
    values = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    runner = backbone.runner()
    np.testing.assert_array_equal(runner(values), values)
    flags = {"present_audio": np.ones(3, np.bool_)}
    assert runner.session.run("seen_0", {"data": values, **flags}).all()


def test_an_export_is_a_backbone(tmp_path):
    """An export of one modality of 8 numbers, here the samples of a window of sound."""
    weights = {"w": np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)}
    (videos,) = jax.export.symbolic_shape("videos")
    float32 = jnp.float32
    shapes = (
        {"w": jax.ShapeDtypeStruct((8, 3), float32)},
        {"audio": jax.ShapeDtypeStruct((videos, 8), float32)},
        {"audio": jax.ShapeDtypeStruct((videos,), jnp.bool_)},
    )

    def program(weights, features, present):
        return jnp.where(present["audio"][:, None], features["audio"] @ weights["w"], 0)

    folder = tmp_path / "model"
    folder.mkdir()
    stored = {
        "model.stablehlo": bytes(jax.export.export(jax.jit(program))(*shapes).serialize()),
        "model.safetensors": safetensors.to_bytes(weights, {}),
    }
    about = {"kind": "vidembed export", "version": 1, "features": {"audio": {"width": 8}},
             "vector": {"size": 3},
             "files": {n: xxhash.xxh3_128_hexdigest(c) for n, c in stored.items()}}  # fmt: skip
    about["digest"] = digest_of(about)
    (folder / "model.json").write_text(json.dumps(about))
    for name, content in stored.items():
        (folder / name).write_bytes(content)
    stated = {"name": "encoder", "export": "model", "input": WAVE, "layout": "NS", "mean": 1.0,
              "output": "vectors"}  # fmt: skip
    (tmp_path / "encoder.json").write_text(json.dumps(stated))
    backbone = Backbone.open(tmp_path / "encoder.json")
    assert (backbone.width, backbone.modality) == (3, "audio")
    values = np.random.default_rng(0).normal(size=(11, 8)).astype(np.float32)
    np.testing.assert_allclose(backbone.runner()(values), (values - 1) @ weights["w"], atol=1e-5)
    (folder / "model.safetensors").write_bytes(safetensors.to_bytes({"w": 2 * weights["w"]}, {}))
    with pytest.raises(ValueError, match="is damaged or belongs to another export"):
        Backbone.open(tmp_path / "encoder.json")


def test_the_space_says_what_made_the_numbers(tmp_path):
    def space(content=IMAGE, **entries):
        return Backbone.open(write(tmp_path, content, **entries)).space

    same = space(mean=MEAN, scale=SCALE)
    assert re.fullmatch(r"net/features/[0-9a-f]{8}", same)
    # Another rate looks more often at the same thing; all else makes other numbers.
    assert space(mean=MEAN, scale=SCALE, taken=FRAME | {"rate": 8.0}) == same
    others = [
        space(mean=MEAN),
        space(mean=MEAN, scale=SCALE, taken=FRAME | {"fit": "squeeze"}),
        space(mean=MEAN, scale=SCALE, name="other"),
        space(graph((4, 6, 3), (1, 2)), layout="NHWC", mean=MEAN, scale=SCALE),
    ]
    assert len({same, *others}) == 5


def test_a_description_is_read_as_it_was_written(tmp_path):
    for taken, shape, axes, layout in (
        (FRAME, (3, 4, 6), (2, 3), "NCHW"),
        (SOUND, (7, 5), (1,), "NTB"),
    ):
        backbone = Backbone.open(write(tmp_path, graph(shape, axes), taken, layout))
        about = description.written(backbone, "net.onnx")
        (tmp_path / "net.json").write_text(json.dumps(about))
        assert Backbone.open(tmp_path / "net.onnx") == backbone
        assert about["digest"] == hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()


@pytest.mark.fault(
    "Video files: a backbone that does not fit its description",
    "1: which entry of the description or which input or output of the graph, what it is, what was "
    "expected, and a layout that would fit",
)
@pytest.mark.parametrize(
    ("content", "entries", "message"),
    [
        (IMAGE, {"layout": "NHWC"}, r"'data' is float32\[any, 3, 4, 6\], but .* make float32\[any, "
         r"4, 6, 3\]: layout 'NCHW' would fit"),
        (IMAGE, {"taken": FRAME | {"height": 8}}, r"make float32\[any, 3, 8, 6\]: change the inp"),
        (IMAGE, {"layout": "NCH"}, r"layout 'NCH': expected N, then each of H, W, C once"),
        (IMAGE, {"output": "pooled"}, r"no output 'pooled': it makes 'features' \(float32\[any, 3"),
        (graph((3, 4, 6), (3,)), {}, r"output 'features' is float32\[any, 3, 4\]: .*pool inside"),
        (graph((3, 4, 6), (2, 3), free=True), {}, r"size of 'features' free: state"),
        (IMAGE, {"width": 4}, r"'width' is 4, but .* 'features' is float32\[any, 3"),
        (IMAGE, {"input_name": "image"}, r"no input 'image': it takes 'data' \(float32\[any, 3, 4"),
        (graph((3, 4, 6), (2, 3), extra=["more"]), {}, r"'data' .*, 'more' .*: name one of them"),
        (graph((3, 4, 6), (2, 3), extra=["more"]), {"input_name": "data"}, r"beside 'data': a bac"),
        (graph((3, 4, 6), (2, 3), dtype=TensorProto.INT32), {}, r"tensor\(int32\).*expected one"),
        (graph((7, 5), (1,), dtype=TensorProto.UINT8), {"taken": SOUND, "layout": "NTB"}, "uint8"),
        (graph((3, 4, 6), (2, 3), dtype=TensorProto.UINT8), {"mean": 3}, "takes uint8: leave out"),
        (IMAGE, {"mean": [1, 2]}, r"'mean' has 2 numbers: expected one, or 3 of them"),
        (IMAGE, {"scale": 0}, r"'scale' is 0"),
        (IMAGE, {"mean": [0.485, 0.456, 0.406], "scale": [0.229, 0.224, 0.225]}, "both by 255"),
        (b"no graph", {}, r"net.onnx: onnxruntime cannot open this graph"),
        (IMAGE, {"colour": 1}, r"'colour' is unknown: the entries are name, input"),
        (IMAGE, {"width": "3"}, r"'width' is '3': expected a whole number"),
        (IMAGE, {"mean": ["3"]}, r"'mean' is \['3'\]: expected a number"),
        (IMAGE, {"taken": {"kind": "video"}}, r"'kind' is 'video': expected one of frame, clip"),
        (IMAGE, {"taken": FRAME | {"depth": 3}}, r"input: 'depth' is unknown: expected height"),
        (IMAGE, {"taken": FRAME | {"fit": "pad"}}, r"'fit' is 'pad': expected one of squ"),
        (IMAGE, {"taken": FRAME | {"height": "4"}}, r"'height' is '4': expected a whole number"),
        (IMAGE, {"taken": FRAME | {"rate": 0}}, r"rate is 0"),
        (IMAGE, {"taken": SOUND | {"log_mel": {"band": 5}}}, r"'log_mel': 'band' is unknown"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path, content, entries, message):
    path = write(tmp_path, content, **entries)
    with pytest.raises(ValueError, match=message):
        Backbone.open(path)


@pytest.mark.fault("Video files: a backbone that does not fit its description")
@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{", "net.json is not JSON"),
        ("[]", "expected an object with name, input, layout, output"),
        ("{}", "no 'name': it has to stand there .*description.py for a minimal example"),
    ],
)
def test_a_description_that_is_none(tmp_path, about, message):
    write(tmp_path, IMAGE).write_text(about)
    with pytest.raises(ValueError, match=message):
        Backbone.open(tmp_path / "net.json")


@pytest.mark.fault(
    "Video files: a backbone's file was changed, or is missing",
    "1: both digests and what to do; which of the two files is missing",
)
def test_a_changed_or_missing_file_is_refused(tmp_path):
    digest = hashlib.sha256(IMAGE).hexdigest()
    path = write(tmp_path, IMAGE, digest=digest)
    backbone = Backbone.open(path)
    (tmp_path / "net.onnx").write_bytes(graph((3, 4, 6), (2, 3), batch=1))
    with pytest.raises(ValueError, match=f"not the file that .*net.json describes.*{digest}. Rest"):
        Backbone.open(path)
    with pytest.raises(ValueError, match="was changed after it was opened"):
        backbone.runner()
    (tmp_path / "net.onnx").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"net.onnx: there is no such file; the description"
    ):
        Backbone.open(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"net.json: there is no such file; a backbone is"):
        Backbone.open(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"a backbone is named by its description"):
        Backbone.open(tmp_path)


def test_values_that_do_not_fit_and_features_that_are_no_numbers(tmp_path):
    runner = Backbone.open(write(tmp_path, IMAGE)).runner()
    with pytest.raises(
        ValueError, match=r"shape \(2, 6, 4, 3\): expected \[n, H = 4, W = 6, C = 3"
    ):
        runner(pixels(2, shape=(6, 4, 3)))
    runner = Backbone.open(write(tmp_path, graph((8,), ()), WAVE, "NS")).runner()
    with pytest.raises(ValueError, match="not finite: check mean, scale and layout"):
        runner(np.full((1, 8), np.inf, np.float32))
    path = write(tmp_path, graph((3, 4, 6), (2, 3), free=True), width=5)
    with pytest.raises(ValueError, match=r"has shape \(2, 3\) for 2 inputs: expected \[2, 5\]"):
        Backbone.open(path).runner()(pixels(2))


@pytest.mark.fault(
    "Video files: onnxruntime is missing, or has no such provider",
    "1: the pip command; the providers that it offers",
)
def test_providers_and_threads(tmp_path, monkeypatch):
    path = write(tmp_path, IMAGE)
    backbone = Backbone.open(path)
    offered = re.escape(", ".join(onnxruntime.get_available_providers()))
    with pytest.raises(
        ValueError, match=f"provider TPU: the installed onnxruntime offers {offered}"
    ):
        backbone.runner(providers=("TPU", CPU))
    with pytest.raises(ValueError, match=r"provider \(none\)"):
        backbone.runner(providers=())
    with pytest.raises(ValueError, match="threads is -1"):
        backbone.runner(threads=-1)
    with pytest.raises(ValueError, match="batch is 0"):
        backbone.runner(batch=0)
    one = backbone.runner(threads=1)(pixels(3))
    np.testing.assert_array_equal(backbone.runner(threads=2)(pixels(3)), one)
    # A provider that is offered, but whose libraries do not load, is left out by onnxruntime.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["Other", CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: Started())
    with pytest.raises(ValueError, match=f"Other is offered but did not start .*used {CPU}"):
        Session(IMAGE, name="net", providers=("Other", CPU))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"needs onnxruntime, .*: pip install 'vidembed\[media\]'"
    ):
        Backbone.open(path)


class Started:
    """A session that fell back to the CPU."""

    def get_providers(self):
        return [CPU]
