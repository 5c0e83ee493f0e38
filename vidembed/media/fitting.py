"""Whether a description fits its ONNX graph: input, layout, scale, output and width."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidembed.media.description import MODALITIES, kind_of
from vidembed.media.inputs import Input
from vidembed.media.layout import axes_of, check_layout, fits, fitting, shape_in
from vidembed.media.onnx import Session, Tensor
from vidembed.media.stablehlo import ExportSession

FLOATS = ("float32", "float16", "float64")


def facts(session: Session | ExportSession, stated: Mapping[str, Any]) -> dict[str, Any]:
    """What a description may leave out: input_name, width and modality. Raises ValueError, saying
    what the graph has, where the description does not fit it."""
    taken: Input = stated["input"]
    name = stated.get("input_name") or _only_input(session.inputs)
    check_layout(stated["layout"], taken)
    _check_input(session.inputs, name, stated["layout"], taken)
    width = _width(session.outputs, stated["output"], stated.get("width"))
    _check_scale(stated, taken, session.inputs[name].dtype)
    modality = stated.get("modality") or MODALITIES[kind_of(taken)]
    return {"input_name": name, "width": width, "modality": modality}


def _only_input(inputs: Mapping[str, Tensor]) -> str:
    arrays = [name for name, tensor in inputs.items() if tensor.dtype != "bool"]
    if len(arrays) != 1:
        raise ValueError(f"the graph takes {_listed(inputs)}: name one of them as 'input_name'")
    return arrays[0]


def _check_input(inputs: Mapping[str, Tensor], name: str, layout: str, taken: Input) -> None:
    if name not in inputs:
        raise ValueError(f"the graph has no input {name!r}: it takes {_listed(inputs)}")
    others = {other: tensor for other, tensor in inputs.items() if other != name}
    if any(tensor.dtype != "bool" or len(tensor.shape) != 1 for tensor in others.values()):
        raise ValueError(
            f"the graph takes {_listed(others)} beside {name!r}: a backbone has one array as input "
            "(beside it, only bool[N], which will be true)"
        )
    tensor, expected = inputs[name], shape_in(layout, taken)
    if not fits(expected, tensor.shape):
        better = fitting(taken, tensor.shape)
        hint = f"layout {better[0]!r} would fit" if better else "change the input's sizes"
        given = Tensor(tensor.dtype, expected)
        raise ValueError(
            f"the graph's input {name!r} is {tensor}, but input and layout {layout!r} make {given}:"
            f" {hint}"
        )
    bytes_fit = set(axes_of(taken)) >= {"C"}
    if tensor.dtype not in (*FLOATS, *(["uint8"] if bytes_fit else [])):
        raise ValueError(
            f"the graph's input {name!r} is {tensor}: expected one of {', '.join(FLOATS)}"
            + (", uint8" if bytes_fit else "")
        )


def _width(outputs: Mapping[str, Tensor], output: str, stated: int | None) -> int:
    """The number of features. Raises ValueError."""
    if output not in outputs:
        raise ValueError(f"the graph has no output {output!r}: it makes {_listed(outputs)}")
    tensor = outputs[output]
    width, rest = (tensor.shape[1], tensor.shape[2:]) if len(tensor.shape) > 1 else (None, (0,))
    if len(tensor.shape) < 2 or any(size not in (1, None) for size in rest):
        raise ValueError(
            f"the graph's output {output!r} is {tensor}: expected [N, features], one row for each "
            f"input, so pool inside the graph; its outputs are {_listed(outputs)}"
        )
    if tensor.dtype not in FLOATS:
        raise ValueError(
            f"the graph's output {output!r} is {tensor}: expected one of {', '.join(FLOATS)}"
        )
    if width is None and stated is None:
        raise ValueError(f"the graph leaves the size of {output!r} free: state it as 'width'")
    if None not in (width, stated) and width != stated:
        raise ValueError(f"'width' is {stated}, but the graph's output {output!r} is {tensor}")
    return int(width if width is not None else stated or 0)


def _check_scale(stated: Mapping[str, Any], taken: Input, dtype: str) -> None:
    mean, scale = stated.get("mean", (0.0,)), stated.get("scale", (1.0,))
    last, size = list(axes_of(taken).items())[-1]
    for entry, numbers in (("mean", mean), ("scale", scale)):
        if len(numbers) not in (1, size if last in "CB" else 1) or not np.isfinite(numbers).all():
            each = f", or {size} of them" if last in "CB" else ""
            raise ValueError(f"{entry!r} has {len(numbers)} numbers: expected one{each}, finite")
    if 0.0 in scale:
        raise ValueError("'scale' is 0: values are divided by it")
    pixels = last == "C" and max(map(abs, mean)) <= 1 and max(map(abs, scale)) < 1
    if pixels:
        raise ValueError(
            f"'mean' {list(mean)} and 'scale' {list(scale)} are of pixels from 0 to 1, but the "
            "network gets bytes from 0 to 255: multiply both by 255"
        )
    if dtype == "uint8" and (any(mean) or set(scale) != {1.0}):
        raise ValueError("the graph takes uint8: leave out 'mean' and 'scale', which make floats")


def _listed(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name!r} ({tensor})" for name, tensor in tensors.items()) or "nothing"
