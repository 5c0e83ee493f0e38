"""An export of vidembed as a backbone: its StableHLO program with the methods of a `Session`."""

from collections.abc import Mapping

import numpy as np
from etils import epath

from vidembed.media.onnx import Tensor
from vidembed.records.export_folder import read_export

VECTORS = "vectors"


class ExportSession:
    """An opened export, which runs on JAX's devices.

    Its inputs are called as in an export to ONNX: features_MODALITY f32[N, width] and
    present_MODALITY bool[N]; its output is `vectors`. Raises ValueError for a damaged export, and
    ImportError without flatbuffers.
    """

    def __init__(self, folder: epath.PathLike) -> None:
        about, self._exported = read_export(epath.Path(folder))
        self.name, self._modalities = str(folder), tuple(about["features"])
        self.inputs = {
            f"features_{name}": Tensor("float32", (None, entry["width"]))
            for name, entry in about["features"].items()
        } | {f"present_{name}": Tensor("bool", (None,)) for name in about["features"]}
        self.outputs = {VECTORS: Tensor("float32", (None, about["vector"]["size"]))}

    def run(self, output: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The vectors f32[N, size] of these inputs."""
        features = {name: arrays[f"features_{name}"] for name in self._modalities}
        present = {name: arrays[f"present_{name}"] for name in self._modalities}
        return self._exported.vectors(features, present)
