"""Read the folder of an export: a StableHLO program with its weights, and what describes it.

`model.json` is written last: a folder without it is an interrupted export. `vidembed.deploy` writes
exports; what they take and make stands there.
"""

import importlib.util
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import xxhash
from etils import epath
from jax import export as jax_export

from vidembed import files
from vidembed.records import safetensors
from vidembed.records.rows import Rows, float_rows

KIND, VERSION = "vidembed export", 1
ABOUT, PROGRAM, WEIGHTS = "model.json", "model.stablehlo", "model.safetensors"
CLIPS = "clips"
"""The entry of model.json that says which clips an encoder of clips takes."""


def read_export(folder: epath.Path) -> tuple[dict[str, Any], "Exported"]:
    """The contents of model.json, and the program; ValueError for a damaged or newer export."""
    needs_flatbuffers()
    about = files.read_json(folder / ABOUT)
    if not isinstance(about, dict) or about.get("kind") != KIND or about.get("version") != VERSION:
        raise ValueError(f"{folder / ABOUT} does not describe an export of version {VERSION}")
    if about.get("digest") != digest_of(about):
        raise ValueError(
            f"{folder / ABOUT} was changed after it was written: restore it from a copy, or export "
            "again"
        )
    contents = {name: (folder / name).read_bytes() for name in (PROGRAM, WEIGHTS)}
    for name, content in contents.items():
        if xxhash.xxh3_128_hexdigest(content) != about["files"][name]:
            raise ValueError(
                f"{folder / name} is damaged or belongs to another export: export again"
            )
    return about, Exported(contents[PROGRAM], safetensors.from_bytes(contents[WEIGHTS]))


class Exported:
    """The program with its weights on the devices."""

    def __init__(self, program: bytes, weights: Mapping[str, np.ndarray]) -> None:
        self.weights, self.program = dict(weights), jax_export.deserialize(bytearray(program)).call
        self._call = jax.jit(self.program)
        self._weights = jax.device_put(dict(weights))

    def __call__(self, source: Rows, rows: np.ndarray) -> np.ndarray:
        """f32[N, D] for the rows i64[N]."""
        features = {m: float_rows(source, m, rows) for m in source.features}
        every = np.ones(len(rows), np.bool_)
        present = {m: source.present[m][rows] if m in source.present else every for m in features}
        return self.vectors(features, present)

    def vectors(
        self, features: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """f32[N, D] from features f32[N, F] and present bool[N] by modality."""
        return np.asarray(self.run(features, present))

    def run(self, *inputs: Any) -> Any:
        """What the program makes of its inputs, on the devices."""
        return self._call(self._weights, *inputs)


def digest_of(about: Mapping[str, Any]) -> str:
    """Digest of the other entries of model.json, so that an edited space is noticed."""
    rest = {name: value for name, value in about.items() if name != "digest"}
    return xxhash.xxh3_128_hexdigest(json.dumps(rest, sort_keys=True).encode())


def needs_flatbuffers() -> None:
    """Raise ImportError unless flatbuffers is installed, with which jax.export stores programs."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise ImportError(
            "jax.export stores programs with flatbuffers, which is not installed: "
            "pip install -e '.[serve]'"
        )
