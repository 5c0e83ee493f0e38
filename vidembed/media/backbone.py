"""A backbone: a network in an ONNX file that turns frames, clips or sound into features.

The description beside the file says what the network takes (`vidembed.media.description` shows a
minimal one). Any ONNX file with one array as input can be a backbone, and so can an export of
vidembed. Further inputs `present_*`, as exports have, are true: all features of a frame are there.
"""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidembed.media import description
from vidembed.media.fitting import facts
from vidembed.media.inputs import FrameInput, Input, LogMelInput, WaveformInput
from vidembed.media.layout import arranged
from vidembed.media.onnx import CPU, Session
from vidembed.media.stablehlo import ExportSession
from vidembed.records.export_folder import ABOUT

BATCH = 8
"""Frames or windows that the network sees at once. More are no faster on a CPU, and take memory:
EfficientNet-Lite0 240 MB with 8 frames, 840 MB with 64. A GPU runs faster with more."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """What a network takes and makes. `Backbone.open` reads and checks it."""

    name: str
    path: str
    """The ONNX file, or the folder of an export."""
    input: Input
    input_name: str
    output: str
    """The graph's output that is the features, [N, width]; further axes must have size 1."""
    width: int
    layout: str
    """The network's order of axes, such as NCHW; letters as in `vidembed.media.layout`."""
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    """The network gets (value - mean) / scale; one number, or one for each colour or band."""
    modality: str = ""
    licence: str = ""
    source: str = ""
    digest: str = ""
    """sha256 of the ONNX file, or of an export's model.json, in hexadecimal."""

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, output: str | None = None) -> "Backbone":
        """Read a description and check the ONNX file against it.

        path: the JSON file, or the ONNX file with the JSON beside it. output: another output than
        the description's. Raises ValueError if the file was changed, or the input or the output
        does not fit, FileNotFoundError if one of the two files is missing, and ImportError without
        onnxruntime.
        """
        about, place = description.paths_of(path)
        stated = description.read(about)
        for named in ("onnx", "export"):
            if named in stated:
                place = about.parent / stated.pop(named)
        content = _content(place)
        digest = hashlib.sha256(content).hexdigest()
        if stated.setdefault("digest", digest) != digest:
            raise ValueError(
                f"{place} is not the file that {about} describes: its sha256 is {digest}, "
                f"expected {stated['digest']}. Restore it from a copy; if the change is meant, "
                "write the new digest there (vectors of the old and new file must not be mixed)"
            )
        if output is not None and output != stated["output"]:
            stated |= {"output": output}
            stated.pop("width", None)
        session = _session(place, content, optimise=False)
        try:
            return cls(**{**stated, **facts(session, stated), "path": str(place)})
        except ValueError as error:
            raise ValueError(f"{about}: {error}") from error

    @property
    def space(self) -> str:
        """What made the numbers: name, output, and a digest of the network and what it sees.

        How often it looks at a file (`rate` of frames, the hop of windows) is no part of it.
        """
        seen = dataclasses.asdict(self.input)
        often = {FrameInput: "rate", LogMelInput: "hop_frames", WaveformInput: "hop_seconds"}
        seen.pop(often.get(type(self.input), ""), None)
        facts = (self.digest, sorted(seen.items()), self.layout, self.mean, self.scale)
        return f"{self.name}/{self.output}/{hashlib.sha256(repr(facts).encode()).hexdigest()[:8]}"

    def runner(
        self, *, providers: Sequence[str] = (CPU,), threads: int = 0, batch: int = BATCH
    ) -> "Runner":
        """The network, ready to run. providers, threads: as for `Session`. batch: frames or windows
        that it sees at once; a graph with a fixed batch size has its own. An export runs on JAX's
        devices, whatever providers and threads say."""
        content = _content(Path(self.path))
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise ValueError(f"{self.path} was changed after it was opened: start again")
        session = _session(Path(self.path), content, providers=providers, threads=threads)
        return Runner(self, session, batch)


class Runner:
    """Turns values into features."""

    def __init__(self, backbone: Backbone, session: Session | ExportSession, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}: give a positive number")
        self.backbone, self.session = backbone, session
        tensor = session.inputs[backbone.input_name]
        self._dtype, fixed = tensor.dtype, tensor.shape[0]
        self._batch, self._fixed = fixed or batch, fixed is not None
        self._flags = [name for name in session.inputs if name != backbone.input_name]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """f32[n, width] of u8[n, H, W, 3], u8[n, T, H, W, 3], f32[n, frames, bands] or f32[n,
        samples]. Raises ValueError for another shape, or if a feature is not finite."""
        starts = range(0, len(values), self._batch)
        parts = [self._features(values[start : start + self._batch]) for start in starts]
        return np.concatenate([np.zeros((0, self.backbone.width), np.float32), *parts])

    def _features(self, values: np.ndarray) -> np.ndarray:
        of, count = self.backbone, len(values)
        if self._fixed and count < self._batch:  # repeat the last one, and drop the results
            values = np.concatenate([values, *[values[-1:]] * (self._batch - count)])
        given = arranged(
            values, of.layout, of.input, mean=of.mean, scale=of.scale, dtype=self._dtype
        )
        flags = {name: np.ones(len(values), np.bool_) for name in self._flags}
        made = self.session.run(of.output, {of.input_name: given, **flags})
        if made.size != len(values) * of.width or len(made) != len(values):
            raise ValueError(
                f"{of.path}: output {of.output!r} has shape {made.shape} for {len(values)} inputs: "
                f"expected [{len(values)}, {of.width}]"
            )
        features = made.reshape(len(values), of.width)[:count].astype(np.float32)
        if not np.isfinite(features).all():
            raise ValueError(
                f"{of.path}: output {of.output!r} is not finite: check mean, scale and layout in "
                "its description"
            )
        return features


def _session(path: Path, content: bytes, **options: Any) -> Session | ExportSession:
    """The network of an ONNX file, or of an export."""
    return ExportSession(path) if path.is_dir() else Session(content, name=str(path), **options)


def _content(path: Path) -> bytes:
    """What says which network it is: the ONNX file, or an export's model.json, which has the
    digests of the other files."""
    try:
        return (path / ABOUT if path.is_dir() else path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: there is no such file; the description beside it names the ONNX file under "
            "'onnx' (by default that of its own name), or the folder of an export under 'export'"
        ) from None
