"""Labelled clips: the class, source and part of each clip, joined to a feature table."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated

import numpy as np
import pyarrow as pa
import xxhash
from etils import epath

from vidembed import PATH
from vidembed.corpora.labelled import LabelledCorpus
from vidembed.corpora.labels import Labels
from vidembed.records import tabular
from vidembed.records.columns import ids_of
from vidembed.records.split_file import named_parts
from vidembed.records.table import FeatureTable
from vidembed.records.tabular import LISTED

COLUMNS = ("path", "class", "group", "split")


class ClipsError(ValueError):
    """A list of clips that is malformed, or that does not fit the videos."""


CLIPS = tabular.Kind(
    what="clips (Parquet, or CSV with a header, of text: path, class, group, split)",
    give="the one Parquet or CSV file that lists the clips",
    refused=ClipsError,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """A list of n clips.

    ids: S[n], the names of their files without folder and suffix, unique. paths: as in the list.
    labels: i32[n], numbers of `classes`. groups: i32[n], numbers of `sources`: clips of one source
    video have one group, and are in one part. part: U[n], train, validation or test.
    """

    ids: np.ndarray
    paths: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray
    sources: tuple[str, ...]
    part: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def files(self, folder: str | os.PathLike[str]) -> tuple[str, ...]:
        """The file of each clip; paths are relative to the folder. ClipsError if one is missing."""
        files = [epath.Path(folder) / path for path in self.paths]
        missing = [path for path, file in zip(self.paths, files) if not file.exists()]
        if missing:
            raise ClipsError(
                f"{os.fspath(folder)}: {len(missing):,} of {len(self):,} clips are missing: "
                f"{_some(missing)}. Give the folder that the paths of the list start from"
            )
        return tuple(os.fspath(file) for file in files)


def read_clips(path: str | os.PathLike[str]) -> Clips:
    """Read a CSV or Parquet file with the columns path, class, group and split.

    Classes are numbered by name, in alphabetical order. split: train, validation (val, valid) or
    test. Raises ClipsError for another file, empty cells, two clips of one name, a class with one
    clip, fewer than two classes, and a list without train or test clips; SplitError for unknown
    parts and a group in more than one part.
    """
    place = epath.Path(path)
    table = tabular.read_table(place, CLIPS, COLUMNS)
    file = pa.table({name: ids_of(place, table, name, CLIPS) for name in COLUMNS})
    if not len(file):
        raise ClipsError(f"{path}: lists no clips; give {CLIPS.give}")
    for name in COLUMNS:
        if empty := file[name].null_count:
            remedy = ": give a clip of its own source its own name" if name == "group" else ""
            raise ClipsError(f"{path}: {empty:,} of {len(file):,} clips have no {name}{remedy}")
    paths, part = file["path"].to_pylist(), named_parts(path, file)
    return clips_of(path, paths, file["class"].to_pylist(), file["group"].to_pylist(), part)


def clips_of(
    path: str | os.PathLike[str],
    paths: list[str],
    class_names: list[str],
    group_names: list[str],
    part: np.ndarray,
) -> Clips:
    """The list of these n clips; `path` names it in messages. part: U[n].

    Raises ClipsError for two clips of one name, a class with one clip, fewer than two classes, and
    a list without train or test clips.
    """
    ids = _ids(path, paths)
    classes, labels = np.unique(np.array(class_names), return_inverse=True)
    sources, groups = np.unique(np.array(group_names), return_inverse=True)
    if len(classes) < 2:
        raise ClipsError(f"{path}: every clip is of the class {classes[0]!r}: give two classes")
    if single := classes[np.bincount(labels) < 2].tolist():
        raise ClipsError(
            f"{path}: {len(single):,} classes have a single clip: {_some(single)}. A class needs "
            "clips on both sides of the split: add some, or remove the class"
        )
    for name in ("train", "test"):
        if not (part == name).any():
            raise ClipsError(f"{path}: none of the {len(paths):,} clips is for {name}")
    return Clips(
        ids=ids,
        paths=tuple(paths),
        labels=labels.astype(np.int32),
        classes=tuple(classes.tolist()),
        groups=groups.astype(np.int32),
        sources=tuple(sources.tolist()),
        part=part,
    )


@dataclass(frozen=True, kw_only=True)
class ClipCorpus(LabelledCorpus):
    """A feature table of N videos of which some are clips with a class, a source and a part.

    Videos of the table that are not in the list have no label, and are measured nowhere.
    """

    groups: np.ndarray
    """i32[N]: the number of the source of each clip; -1 for videos that are not in the list."""
    sources: tuple[str, ...]
    """The name of each source."""

    @property
    def parts(self) -> Mapping[str, np.ndarray]:
        """The clips to evaluate, bool[N], by part: test, and validation if there is any."""
        return {name: mask & self.has_labels for name, mask in super().parts.items()}

    @cached_property
    def rows(self) -> str:
        """Digest of features, labels, sources and split."""
        known = (self.table.fingerprint, self.labels.fingerprint, self.sources)
        digest = xxhash.xxh3_128(repr(known).encode())
        digest.update(np.ascontiguousarray(self.groups).tobytes() + self.split_bytes)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class ClipPaths:
    """A feature table, and the list of its clips."""

    table: Annotated[str, PATH] = ""
    """A feature table whose ids are the names of the clips' files, without folder and suffix."""
    clips: Annotated[str, PATH] = ""
    """The list of the clips: path, class, group, split; Parquet or CSV. Clips of one source video
    have one group, and must be in one part (train, validation or test)."""

    def open(self) -> ClipCorpus:
        """Read and join the data; raises if a file is missing or does not fit."""
        for name in ("table", "clips"):
            if not getattr(self, name):
                raise ValueError(f"no {name} given: set --corpus.{name} PATH")
        return joined(FeatureTable.open(self.table), read_clips(self.clips), self.clips)


def joined(table: FeatureTable, clips: Clips, name: str | os.PathLike[str]) -> ClipCorpus:
    """The clips of a table; `name` is that of the list in messages.

    Raises ClipsError, with the first ids, for clips that the table lacks.
    """
    rows = table.find(clips.ids)
    if (missing := rows < 0).any():
        some = _some([clips.paths[place] for place in np.flatnonzero(missing)])
        raise ClipsError(
            f"{os.fspath(name)}: {int(missing.sum()):,} of {len(clips):,} clips are not in the "
            f"table: {some}. Ids are file names without folder and suffix: extract the missing "
            "clips, or remove them from the list"
        )
    order = np.argsort(rows)
    in_list = np.zeros(len(table), bool)
    in_list[rows] = True
    groups = np.full(len(table), -1, np.int32)
    groups[rows] = clips.groups
    part = np.full(len(table), "", clips.part.dtype)
    part[rows] = clips.part
    notes: tuple[str, ...] = ()
    if others := len(table) - len(clips):
        notes = (f"{others:,} of {len(table):,} videos of the table are not in {name}: left out",)
    return ClipCorpus(
        table=table,
        is_train=part == "train",
        is_validation=part == "validation",
        labels=Labels(
            offsets=np.concatenate([[0], np.cumsum(in_list)]),
            values=clips.labels[order],
            names=clips.classes,
        ),
        groups=groups,
        sources=clips.sources,
        reading_notes=notes,
    )


def _ids(path: str | os.PathLike[str], paths: list[str]) -> np.ndarray:
    """S[n]; refuses two clips of one name."""
    by_id: dict[str, str] = {}
    for clip in paths:
        stem = PurePosixPath(clip).stem
        if stem in by_id:
            raise ClipsError(
                f"{path}: {by_id[stem]} and {clip} have the same name {stem!r}, which is the id: "
                "rename one of them"
            )
        by_id[stem] = clip
    return np.array([name.encode() for name in by_id])


def _some(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (" ..." if len(names) > LISTED else "")
