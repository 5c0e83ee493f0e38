"""Videos as files, without a feature table: for clips that are decoded while training.

Optionally with the features of their frames, which extraction has stored.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import xxhash
from etils import epath

from vidembed import PATH
from vidembed.corpora.clip_source import ClipSource
from vidembed.corpora.clips import Clips, read_clips
from vidembed.corpora.frame_sources import FrameSource, Motion, StoredFrames
from vidembed.corpora.labels import Labels
from vidembed.corpora.other_videos import other_videos
from vidembed.corpora.published_clips import hmdb51, kinetics, ucf101
from vidembed.corpora.split_videos import check_rows

PIXELS = "pixels"
"""The name of decoded frames among modalities."""
SPACE = "RGB frames"
Form = Literal["list", "kinetics", "ucf101", "hmdb51"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipFilesCorpus:
    """N videos with a class, a source and a part each: row i is clip i of the list."""

    clips: Clips
    files: tuple[str, ...]
    """The file of each video."""
    sizes: np.ndarray
    """i64[N]: its size in bytes, by which changed files are noticed."""
    stored: Mapping[str, StoredFrames] = field(default_factory=dict)
    """Modality → the features of the frames."""
    simulated: bool = False
    """Whether the videos are made by a program."""

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def ids(self) -> np.ndarray:
        """S[N]: the names of the files without folder and suffix."""
        return self.clips.ids

    @cached_property
    def table(self) -> ClipSource:
        """What outputs read, as other corpora have a feature table."""
        return ClipSource(ids=self.ids, files=self.files, stored=self.stored)

    @cached_property
    def is_train(self) -> np.ndarray:
        """bool[N]"""
        return np.asarray(self.clips.part == "train")

    @cached_property
    def is_validation(self) -> np.ndarray:
        """bool[N]"""
        return np.asarray(self.clips.part == "validation")

    @property
    def parts(self) -> Mapping[str, np.ndarray]:
        """The videos to evaluate, bool[N], by part: test, and validation if there is any."""
        parts = {"test": np.asarray(self.clips.part == "test")}
        return parts | ({"validation": self.is_validation} if self.is_validation.any() else {})

    @property
    def groups(self) -> np.ndarray:
        """i32[N]: the number of each video's source."""
        return self.clips.groups

    @property
    def sources(self) -> tuple[str, ...]:
        """The name of each source."""
        return self.clips.sources

    @cached_property
    def labels(self) -> Labels:
        """The class of each video, one per row, for evaluation."""
        clips = self.clips
        return Labels(offsets=np.arange(len(clips) + 1), values=clips.labels, names=clips.classes)

    @property
    def frame_sources(self) -> Mapping[str, FrameSource]:
        """Modality → the features of the frames."""
        return self.stored

    @property
    def space(self) -> Mapping[str, str]:
        """Modality → its space; decoded frames are pixels."""
        return {PIXELS: SPACE} | {name: of.space for name, of in self.stored.items()}

    @cached_property
    def rows(self) -> str:
        """Digest of names, sizes, classes, sources and split, and of the stored features."""
        clips, stored = self.clips, sorted(self.stored.items())
        known = (clips.classes, clips.sources, [(n, of.fingerprint) for n, of in stored])
        digest = xxhash.xxh3_128(repr(known).encode())
        digest.update(b"\0".join(clips.ids.tolist()))
        digest.update(" ".join(clips.part.tolist()).encode())
        for array in (self.sizes, clips.labels, clips.groups):
            digest.update(np.ascontiguousarray(array, np.int64).tobytes())
        return digest.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the data for the user."""
        counts = {"training": self.is_train, **self.parts}
        parts = ", ".join(f"{int(mask.sum()):,} for {name}" for name, mask in counts.items())
        size = self.sizes.sum() / 1e6
        note = (
            f"{len(self):,} video files ({size:,.0f} MB) of {len(self.sources):,} sources: "
            f"{parts}; {len(self.clips.classes):,} classes"
        )
        made = ("the videos are simulated: made by a program",) * self.simulated
        return (note, *made)

    def report(self) -> dict[str, object]:
        """Counts of videos, classes and sources, for reports."""
        return {
            "videos": len(self),
            "train_videos": int(self.is_train.sum()),
            **{f"{part}_videos": int(mask.sum()) for part, mask in self.parts.items()},
            "classes": len(self.clips.classes),
            "sources": len(self.sources),
            "megabytes": round(float(self.sizes.sum()) / 1e6, 1),
            **({"simulated_videos": True} if self.simulated else {}),
        }

    def check(self, batch: Mapping[str, Any]) -> None:
        """Raise LeakError if a batch holds a video outside train: `rows`, i[...]."""
        check_rows(batch, self.is_train, self.ids)


@dataclass(frozen=True, kw_only=True)
class ClipFilesPaths:
    """A folder of video files, and the list of their classes, sources and parts."""

    folder: Annotated[str, PATH] = ""
    """The folder of the videos: the paths of the list start there."""
    clips: Annotated[str, PATH] = ""
    """The list. With form list: path, class, group, split; Parquet or CSV. kinetics: the folder of
    its CSV files. ucf101, hmdb51: the folder of its split files."""
    form: Form = "list"
    """list, or the form in which a data set is published: kinetics, ucf101, hmdb51."""
    split_number: int = 1
    """Which of the three published splits (ucf101, hmdb51)."""
    frames: Annotated[str, PATH] = ""
    """Stored features of the frames, to cut windows from: the folder of one backbone that
    extraction has made (FEATURES/BACKBONE-DIGEST)."""
    modality: str = "visual"
    """The name of these features."""
    motion: Motion = "none"
    """What is read of them. only: absolute differences of the features of consecutive frames.
    beside: the features, then these differences; twice the width."""

    def open(self) -> ClipFilesCorpus:
        """Read and check the data; raises if a file is missing or does not fit."""
        for name in ("folder", "clips"):
            if not getattr(self, name):
                raise ValueError(f"no {name} given: set --corpus.{name} PATH")
        clips = self._listed()
        files = clips.files(self.folder)
        stored = {}
        if self.frames:
            ids = tuple(name.decode(errors="surrogateescape") for name in clips.ids.tolist())
            stored[self.modality] = StoredFrames.open(self.frames, ids, self.motion)
        return ClipFilesCorpus(
            clips=clips,
            files=files,
            sizes=np.array([epath.Path(file).stat().length for file in files], np.int64),
            stored=stored,
            simulated=(epath.Path(self.folder) / SIMULATED).exists(),
        )

    def others(self, paths: Sequence[str | os.PathLike[str]]) -> ClipSource:
        """Other videos for a trained run; see `other_videos`."""
        return other_videos(paths, modality=self.modality, motion=self.motion)

    def _listed(self) -> Clips:
        if self.form == "list":
            return read_clips(self.clips)
        if self.form == "kinetics":
            return kinetics(self.clips, self.folder)
        if self.form not in ("ucf101", "hmdb51"):
            raise ValueError(f"form must be list, kinetics, ucf101 or hmdb51, found {self.form!r}")
        read = {"ucf101": ucf101, "hmdb51": hmdb51}[self.form]
        return read(self.clips, self.folder, split=self.split_number)


SIMULATED = "SIMULATED.txt"
"""A file of this name in the folder says that the videos are made by a program."""
