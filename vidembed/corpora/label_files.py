"""Read the labels of videos: those of a table, or those of a file of one's own."""

import os

import numpy as np
import pyarrow.compute as pc
from etils import epath

from vidembed.corpora.labels import Labels
from vidembed.corpora.numbered_labels import is_numbered, read_numbered
from vidembed.records import tabular
from vidembed.records.columns import ids_of
from vidembed.records.label_names import read_vocabulary
from vidembed.records.table import FeatureTable
from vidembed.records.vectors_by_id import some
from vidembed.records.window_ids import window_of
from vidembed.records.youtube8m import offsets_of


class LabelsError(ValueError):
    """Labels that cannot be read, or that do not fit the vocabulary or the table."""


LABELS = tabular.Kind(
    what="labels (Parquet, or CSV with a header: video_id, label)",
    give="one Parquet or CSV file with the columns video_id and label, or one in Sports-1M's form",
    refused=LabelsError,
)


def labels_of_table(table: FeatureTable, vocabulary: str | os.PathLike[str] = "") -> Labels:
    """The labels that the table's records carry, as class numbers.

    vocabulary: names of the classes, with Index and Name as in YouTube-8M's vocabulary.csv. Without
    it there are as many classes as the highest label needs, named "label 0" and so on. Raises
    LabelsError if no video has a label, and for labels beyond the vocabulary.
    """
    values, offsets = table.label_values, table.label_offsets
    if not len(values):
        raise LabelsError(
            "the table has no labels: import records that have them (--labels-key), or give a file "
            "of video_id, label (--corpus.labels)"
        )
    names = _names(vocabulary) if vocabulary else _numbered(int(values.max()) + 1)
    beyond = (values < 0) | (values >= len(names))
    if beyond.any():
        rows = np.unique(np.searchsorted(offsets, np.flatnonzero(beyond), side="right") - 1)
        raise LabelsError(
            f"{len(rows):,} videos have labels outside the {len(names):,} classes of "
            f"{vocabulary or 'the table'}, such as {int(values[beyond][0])} of "
            f"{some(table.ids[rows], 1)}: is it the vocabulary of another year? YouTube-8M has "
            "3,862 classes since 2018, and had 4,716 before"
        )
    rows = np.repeat(np.arange(len(table)), np.diff(offsets))
    return _sorted(rows, values, len(table), names)


def labels_of_file(
    path: str | os.PathLike[str], table: FeatureTable, vocabulary: str | os.PathLike[str] = ""
) -> tuple[Labels, tuple[str, ...]]:
    """The labels of a file of video_id and label (a name), one line per label, and remarks.

    Classes are the names of the vocabulary, in its order; without one, the names in the file,
    sorted. A file in Sports-1M's form has numbers of classes instead. Repeated lines count once.
    Videos that the table lacks are left out and counted. Raises LabelsError for another file, empty
    cells, and labels that the vocabulary lacks.
    """
    place = epath.Path(path)
    read = _by_number if is_numbered(place) else _by_name
    ids, values, names = read(place, vocabulary)
    rows = table.find(ids)
    known = rows >= 0
    notes: tuple[str, ...] = ()
    if not known.all():
        absent = np.unique(ids[~known])
        notes = (
            f"{path}: {len(absent):,} videos are not in the table, such as {some(absent, 1)}: left "
            "out",
        )
    if not known.any():
        why = "check that the ids agree"
        if window_of(table.ids[0].decode(errors="surrogateescape")) is not None:
            why = (
                "its rows are windows, so train on the table of whole videos and annotate this "
                "one, or label windows (VIDEO@START-END)"
            )
        raise LabelsError(f"{path}: none of its videos is in the table: {why}")
    return _sorted(rows[known], values[known], len(table), names), notes


def frequent(labels: Labels, rows: np.ndarray, least: int) -> Labels:
    """Only the classes with at least `least` videos among rows i64[n], numbered anew in order.

    Raises LabelsError if fewer than two are left.
    """
    chosen = np.flatnonzero(labels.counts(rows) >= least)
    if len(chosen) < 2:
        raise LabelsError(
            f"{len(chosen)} of {labels.classes:,} classes have {least:,} or more train videos: "
            "lower --corpus.min-class-videos"
        )
    number = np.full(labels.classes, -1, np.int32)
    number[chosen] = np.arange(len(chosen), dtype=np.int32)
    values = number[labels.values]
    rows_of = np.repeat(np.arange(len(labels)), labels.per_row)[values >= 0]
    names = tuple(labels.names[place] for place in chosen)
    return _sorted(rows_of, values[values >= 0], len(labels), names)


def _by_name(
    path: epath.Path, vocabulary: str | os.PathLike[str]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Ids S[L] and class numbers i32[L] of a file of names, and the names of all classes."""
    file = tabular.read_table(path, LABELS, ["video_id", "label"])
    ids, labels = (ids_of(path, file, column, LABELS) for column in ("video_id", "label"))
    if ids.null_count or labels.null_count:
        raise LabelsError(
            f"{path}: {ids.null_count:,} lines have no video_id, {labels.null_count:,} no label: "
            "remove them"
        )
    if not len(labels):
        raise LabelsError(f"{path}: holds no labels; give {LABELS.give}")
    names = _names(vocabulary) if vocabulary else tuple(sorted(pc.unique(labels).to_pylist()))
    number = {name: index for index, name in enumerate(names)}
    if len(number) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LabelsError(f"{vocabulary}: two classes are named {twice!r}: give each its own name")
    if unknown := [name for name in pc.unique(labels).to_pylist() if name not in number]:
        raise LabelsError(
            f"{path}: {len(unknown):,} labels are not in {vocabulary}, such as {unknown[0]!r}: add "
            "them to the vocabulary, at its end, or correct them"
        )
    values = np.array([number[name] for name in labels.to_pylist()], np.int32)
    return np.array([name.encode() for name in ids.to_pylist()], np.bytes_), values, names


def _by_number(
    path: epath.Path, vocabulary: str | os.PathLike[str]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """As `_by_name`, of a file of class numbers."""
    try:
        ids, values = read_numbered(path)
    except ValueError as error:
        raise LabelsError(str(error)) from error
    names = _names(vocabulary) if vocabulary else _numbered(int(values.max()) + 1)
    if (beyond := values >= len(names)).any():
        raise LabelsError(
            f"{path}: {len(np.unique(values[beyond])):,} labels are outside the {len(names):,} "
            f"classes of {vocabulary}, such as {values[beyond][0]} of {some(ids[beyond], 1)}"
        )
    return ids, values.astype(np.int32), names


def _sorted(rows: np.ndarray, values: np.ndarray, size: int, names: tuple[str, ...]) -> Labels:
    """Labels from (row, class) pairs in any order; repeated pairs count once."""
    both = np.unique(rows.astype(np.int64) * len(names) + values)
    rows, values = np.divmod(both, len(names))
    offsets = offsets_of(np.bincount(rows, minlength=size))
    return Labels(offsets=offsets, values=values.astype(np.int32), names=names)


def _names(vocabulary: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of classes 0, 1, ...; a number that the vocabulary skips has a stand-in."""
    known = read_vocabulary(epath.Path(vocabulary))
    if not known:
        raise LabelsError(f"{vocabulary}: lists no class")
    return tuple(known.get(index, f"label {index}") for index in range(max(known) + 1))


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(f"label {index}" for index in range(classes))
