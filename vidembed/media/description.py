"""The JSON file that describes a backbone, written by hand or by vidembed.

A minimal one, `my-network.json` beside `my-network.onnx`:

    {
      "name": "my-network",
      "input": {"kind": "frame", "height": 224, "width": 224, "fit": "crop", "rate": 1.0},
      "layout": "NCHW",
      "mean": [123.675, 116.28, 103.53],
      "scale": [58.395, 57.12, 57.375],
      "output": "features"
    }

`input`: its kind is one of `frame`, `clip`, `log-mel` and `waveform`; the other entries are the
fields of the classes in `vidembed.media.inputs`, and have their defaults. `mean` and `scale` are of
bytes from 0 to 255 (for pixels from 0 to 1, multiply them by 255); the network gets
(value - mean) / scale. Optional: `onnx` (the file, by default that of the same name), `export` (in
its place, the folder of a `vidembed export`, whose input is features_MODALITY and whose output is
vectors), `input_name`, `width`, `modality`, `licence`, `source`, and `digest`, the sha256 of the
ONNX file: with it, a changed file is refused.
"""

import json
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from vidembed.media.inputs import ClipInput, FrameInput, Input, LogMelInput, WaveformInput

KINDS: dict[str, type] = {
    "frame": FrameInput,
    "clip": ClipInput,
    "log-mel": LogMelInput,
    "waveform": WaveformInput,
}
MODALITIES = {"frame": "visual", "clip": "activity", "log-mel": "audio", "waveform": "audio"}
"""The modality of each kind of input, unless the description names another."""
REQUIRED = {"name": str, "input": dict, "layout": str, "output": str}
OPTIONAL = {
    "onnx": str, "export": str, "input_name": str, "mean": (int, float, list),
    "scale": (int, float, list), "width": int, "modality": str, "licence": str, "source": str,
    "digest": str,
}  # fmt: skip
EXAMPLE = "see vidembed/media/description.py for a minimal example"


def kind_of(taken: Input) -> str:
    """The input's name in a description."""
    return next(kind for kind, of in KINDS.items() if type(taken) is of)


def paths_of(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The description and the ONNX file of which `path` is one. Raises ValueError."""
    path = Path(path).expanduser()
    if path.suffix not in (".json", ".onnx"):
        raise ValueError(f"{path}: a backbone is named by its description, a .json file, or .onnx")
    return path.with_suffix(".json"), path.with_suffix(".onnx")


def read(path: Path) -> dict[str, Any]:
    """The fields of a Backbone that the description states. Raises ValueError, saying which entry
    is wrong and what it may be; FileNotFoundError without the file."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: there is no such file; a backbone is an ONNX file with a description, a JSON "
            f"file of the same name ({EXAMPLE})"
        )
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    try:
        return _read(stated)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def written(backbone: Any, onnx_name: str) -> dict[str, Any]:
    """The description of a backbone whose ONNX file has this name."""
    taken = {"kind": kind_of(backbone.input), **asdict(backbone.input)}
    entries = ("layout", "mean", "scale", "input_name", "output", "width", "modality")
    return {
        "name": backbone.name,
        "onnx": onnx_name,
        "digest": backbone.digest,
        "input": taken,
        **{entry: getattr(backbone, entry) for entry in entries},
        "licence": backbone.licence,
        "source": backbone.source,
    }


def _read(stated: Any) -> dict[str, Any]:
    if not isinstance(stated, dict):
        raise ValueError(f"expected an object with {', '.join(REQUIRED)} ({EXAMPLE})")
    lacking = [entry for entry in REQUIRED if entry not in stated]
    if lacking:
        raise ValueError(f"there is no {lacking[0]!r}: it has to stand there ({EXAMPLE})")
    allowed: dict[str, Any] = {**REQUIRED, **OPTIONAL}
    for entry, value in stated.items():
        if entry not in allowed:
            raise ValueError(f"{entry!r} is unknown: the entries are {', '.join(allowed)}")
        if not isinstance(value, allowed[entry]) or isinstance(value, bool):
            raise ValueError(f"{entry!r} is {value!r}: expected {_named(allowed[entry])}")
    read = dict(stated)
    read["input"] = _input(stated["input"])
    for entry in ("mean", "scale"):
        if entry in stated:
            read[entry] = _numbers(entry, stated[entry])
    return read


def _input(stated: Mapping[str, Any]) -> Input:
    kind = stated.get("kind")
    if kind not in KINDS:
        raise ValueError(f"input: 'kind' is {kind!r}: expected one of {', '.join(KINDS)}")
    rest = {name: value for name, value in stated.items() if name != "kind"}
    taken: Input = _built(KINDS[kind], rest, "input")
    return taken


def _built(of: type, stated: Mapping[str, Any], place: str) -> Any:
    """The dataclass with these values. JSON has no tuples and writes 1.0 as 1: both are turned."""
    declared, types_of = {field.name: field for field in fields(of)}, typing.get_type_hints(of)
    values: dict[str, Any] = {}
    for name, value in stated.items():
        if name not in declared:
            raise ValueError(f"{place}: {name!r} is unknown: expected {', '.join(declared)}")
        values[name] = _value(types_of[name], value, f"{place}: {name!r}")
    for name, field in declared.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{place}: there is no {name!r}")
    return of(**values)


def _value(declared: Any, value: Any, place: str) -> Any:
    if is_dataclass(declared) and isinstance(declared, type) and isinstance(value, dict):
        return _built(declared, value, place)
    origin, choices = typing.get_origin(declared), typing.get_args(declared)
    if origin is typing.Literal:
        if value not in choices:
            raise ValueError(
                f"{place} is {value!r}: expected one of {', '.join(map(str, choices))}"
            )
        return value
    if origin in (types.UnionType, typing.Union):
        kinds = [choice for choice in choices if choice is not type(None)]
        return (
            value if value is None and len(kinds) < len(choices) else _value(kinds[0], value, place)
        )
    if origin is tuple and isinstance(value, list):
        return tuple(value)
    if declared is float and type(value) is int:
        return float(value)
    if isinstance(declared, type) and type(value) is not declared:
        raise ValueError(f"{place} is {value!r}: expected {_named(declared)}")
    return value


def _numbers(entry: str, value: Any) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else [value]
    if not numbers or any(type(number) not in (int, float) for number in numbers):
        raise ValueError(f"{entry!r} is {value!r}: expected a number, or one for each channel")
    return tuple(map(float, numbers))


def _named(declared: Any) -> str:
    words = {str: "text", dict: "an object", int: "a whole number", float: "a number"}
    return words.get(
        declared,
        "a number or a list of numbers" if isinstance(declared, tuple) else declared.__name__,
    )
