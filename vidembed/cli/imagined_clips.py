"""Imagined videos to compile a step of a run on clips for: shapes, no content.

Decoded clips are of one still picture, which stands for every video, and windows are of zeros.
"""

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vidembed.corpora.clip_files import ClipFilesCorpus
from vidembed.corpora.clips import Clips

CLIPS, CLASSES = 240_000, 400
"""About the train part of Kinetics-400."""
WIDTH, LENGTH = 1280, 60
"""Features of EfficientNet-Lite0, the default network for frames, and frames of each video."""
PICTURE = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00"
    b"\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
"""A black pixel, as a GIF."""


@dataclass(frozen=True, kw_only=True)
class ImaginedFrames:
    """Features of frames that are all zero; see `corpora.frame_sources.FrameSource`."""

    lengths: np.ndarray
    width: ClassVar[int] = WIDTH
    fingerprint: ClassVar[str] = "imagined"
    space: ClassVar[str] = "imagined"

    def read(self, row: int) -> np.ndarray:
        """See `FrameSource`."""
        return np.zeros((int(self.lengths[row]), WIDTH), np.float32)


def imagined_clips(videos: int, modality: str) -> ClipFilesCorpus:
    """Videos to train on, decoded or as features of a modality; all are one file, which is removed
    when the corpus is no longer used."""
    folder = tempfile.mkdtemp(prefix="vidembed")
    picture = Path(folder) / "picture.gif"
    picture.write_bytes(PICTURE)
    rows = np.arange(videos)
    frames: Any = ImaginedFrames(lengths=np.full(videos, LENGTH))
    corpus = ClipFilesCorpus(
        clips=Clips(
            ids=rows.astype("S12"),
            paths=(picture.name,) * videos,
            labels=(rows % CLASSES).astype(np.int32),
            classes=tuple(f"imagined {number}" for number in range(CLASSES)),
            groups=np.zeros(videos, np.int32),
            sources=("imagined",),
            part=np.full(videos, "train"),
        ),
        files=(str(picture),) * videos,
        sizes=np.full(videos, len(PICTURE)),
        stored={modality: frames},
        simulated=True,
    )
    weakref.finalize(corpus, shutil.rmtree, folder, ignore_errors=True)
    return corpus


def source_of(videos: int) -> str:
    """What is imagined, in words."""
    return (
        f"IMAGINED, because no clips are given: {videos:,} videos of {CLASSES} classes to train "
        f"on, with {WIDTH:,} "
        "features of each frame if it reads features (for your data add --corpus.folder FOLDER "
        "--corpus.clips CLIPS, or a run's --workdir; --videos changes the imagined size)"
    )
