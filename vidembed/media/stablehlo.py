"""An export of vidembed as a backbone: its StableHLO program with the methods of a `Session`."""

from collections.abc import Mapping

import numpy as np
from etils import epath

from vidembed.media.onnx import Tensor
from vidembed.records.export_folder import CLIPS, read_export

VECTORS = "vectors"


class ExportSession:
    """An opened export, which runs on JAX's devices.

    Its inputs are called as in an export to ONNX: features_MODALITY f32[N, width] and
    present_MODALITY bool[N]; its output is `vectors`. The encoder of a run on clips takes `clips`
    u8[N, T, H, W, 3] and makes `clip` and `clip_deviation`. Raises ValueError for a
    damaged export, and ImportError without flatbuffers.
    """

    def __init__(self, folder: epath.PathLike) -> None:
        about, self._exported = read_export(epath.Path(folder))
        self.name, self._modalities = str(folder), tuple(about["features"])
        self._of_clips = CLIPS in about
        if self._of_clips:
            sizes = (about[CLIPS][name] for name in ("frames", "height", "width"))
            self.inputs = {CLIPS: Tensor("uint8", (None, *sizes, 3))}
            named = about["outputs"].items()
            self.outputs = {name: Tensor("float32", (None, size)) for name, size in named}
            return
        self.inputs = {
            f"features_{name}": Tensor("float32", (None, entry["width"]))
            for name, entry in about["features"].items()
        } | {f"present_{name}": Tensor("bool", (None,)) for name in about["features"]}
        self.outputs = {VECTORS: Tensor("float32", (None, about["vector"]["size"]))}

    def run(self, output: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The vectors f32[N, size] of these inputs."""
        if self._of_clips:
            clips = arrays[CLIPS]
            # Numbers of clips that are powers of two, so that few programs are compiled.
            padded = np.minimum(np.arange(1 << (len(clips) - 1).bit_length()), len(clips) - 1)
            return np.asarray(self._exported.run(clips[padded])[output])[: len(clips)]
        features = {name: arrays[f"features_{name}"] for name in self._modalities}
        present = {name: arrays[f"present_{name}"] for name in self._modalities}
        return self._exported.vectors(features, present)
