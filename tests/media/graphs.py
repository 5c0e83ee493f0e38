"""Small ONNX graphs that average what they are given: backbones whose every number is known."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper


def graph(shape, axes, *, dtype=TensorProto.FLOAT, batch="N", flags=(), free=False, extra=()):
    """data → features, the average over these axes (none: the data itself), as a file's content.

    free: the number of features is not declared. flags, extra: further inputs.
    """
    nodes, value, average = [], "data", "average" if free else "features"
    if dtype != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [value], ["cast"], to=TensorProto.FLOAT))
        value = "cast"
    if axes:
        nodes.append(helper.make_node("ReduceMean", [value], [average], axes=axes, keepdims=0))
    else:
        nodes.append(helper.make_node("Identity", [value], [average]))
    width = [size for axis, size in enumerate(shape, 1) if axis not in axes]
    every = helper.make_tensor("every", TensorProto.BOOL, width[:1], [True] * width[0])
    if free:  # how many a mask leaves is only known when it runs
        nodes.append(helper.make_node("Compress", [average, "every"], ["features"], axis=1))
        width = ["D"]
    for number, flag in enumerate(flags):
        nodes.append(helper.make_node("Identity", [flag], [f"seen_{number}"]))
    float_, bool_ = TensorProto.FLOAT, TensorProto.BOOL
    inputs = [helper.make_tensor_value_info("data", dtype, [batch, *shape])]
    inputs += [helper.make_tensor_value_info(flag, bool_, [batch]) for flag in flags]
    inputs += [helper.make_tensor_value_info(name, float_, ["N", 2]) for name in extra]
    outputs = [helper.make_tensor_value_info("features", float_, [batch, *width])]
    outputs += [
        helper.make_tensor_value_info(f"seen_{number}", bool_, [batch])
        for number in range(len(flags))
    ]
    made = helper.make_graph(nodes, "average", inputs, outputs, [every] if free else [])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


FRAME = {"kind": "frame", "height": 4, "width": 6, "fit": "crop", "rate": 2.0}
CLIP = {"kind": "clip", "frames": 3, "stride": 2, "height": 4, "width": 6}
SOUND = {"kind": "log-mel", "window_frames": 7, "hop_frames": 7, "log_mel": {"bands": 5}}
WAVE = {"kind": "waveform", "seconds": 0.5, "hop_seconds": 0.25, "sample_rate": 16}


def write(folder, content, taken=FRAME, layout="NCHW", **entries):
    """Write the graph and its description; return the path of the description."""
    (folder / "net.onnx").write_bytes(content)
    about = {"name": "net", "input": taken, "layout": layout, "output": "features", **entries}
    (folder / "net.json").write_text(json.dumps(about))
    return folder / "net.json"


def pixels(count, seed=0, *, shape=(4, 6, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
