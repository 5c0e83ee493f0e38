"""Embeddings of other runs as modalities of a table: the output of one run is another's input."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidembed.records.space import SpaceError
from vidembed.records.table import FeatureTable
from vidembed.records.vector_files import made_as
from vidembed.records.vectors_by_id import join, refuse_not_finite


def with_embeddings(
    table: FeatureTable,
    paths: Sequence[str | os.PathLike[str]],
    *,
    split: Mapping[str, Any] = {},
) -> tuple[FeatureTable, tuple[str, ...]]:
    """The table with one more modality per file, and remarks on the videos without a vector.

    paths: files of vectors as `vidembed embed` writes them. A modality has the name of its file
    without its ending; its space is the one that the file records. split: options of the table's
    split; a run that was trained on another one is remarked on. Raises SpaceError for vectors
    computed from features of another space than the table's, and ValueError for a name that the
    table has already, for vectors that are not finite, and if no video has one.
    """
    notes: tuple[str, ...] = ()
    for path in paths:
        table, more = _with(table, os.fspath(path))
        notes += (*more, *_of_another_split(os.fspath(path), split))
    return table, notes


def _with(table: FeatureTable, path: str) -> tuple[FeatureTable, tuple[str, ...]]:
    name = Path(path.rstrip("/")).name
    name = name.removesuffix(Path(name).suffix)
    if name in table.features:
        raise ValueError(
            f"{path} would become the modality {name!r}, which the table has already: rename the "
            "file"
        )
    record = made_as(path) or {}
    _check_inputs(path, record.get("inputs", {}), table)
    joined = join(path, table, what="embeddings")
    refuse_not_finite(path, joined.vectors, joined.rows, table, what="embeddings")
    if not len(joined.rows):
        raise ValueError(
            f"{path} has no vector of any of the table's {len(table):,} videos: embed this table "
            "(python -m vidembed embed RUN TABLE OUT)"
        )
    vectors = np.zeros((len(table), joined.vectors.shape[1]), np.float32)
    vectors[joined.rows] = joined.vectors
    present, notes = dict(table.present), joined.notes
    if (missing := len(table) - len(joined.rows)) > 0:
        present[name] = np.zeros(len(table), bool)
        present[name][joined.rows] = True
        notes += (f"{missing:,} of {len(table):,} videos have no embedding in {path}",)
    # The digests of the stored arrays do not cover the new one.
    manifest = {entry: value for entry, value in table.manifest.items() if entry != "arrays"}
    if space := record.get("space"):
        manifest["space"] = {**manifest.get("space", {}), name: str(space)}
    features = {**table.features, name: vectors}
    return dataclasses.replace(table, features=features, present=present, manifest=manifest), notes


def _of_another_split(path: str, split: Mapping[str, Any]) -> Iterator[str]:
    """A warning if the run behind vectors was trained on other videos than `split` trains on."""
    theirs = (made_as(path) or {}).get("split") or {}
    different = [name for name, value in split.items() if theirs.get(name, value) != value]
    if different:
        yield (
            f"WARNING: the run behind {path} used another split ({', '.join(different)}): it may "
            "have trained on test videos of this run, whose scores would then be too high"
        )


def _check_inputs(path: str, inputs: dict[str, str], table: FeatureTable) -> None:
    """Refuse vectors made from features of other spaces."""
    for modality, space in inputs.items():
        if modality in table.features and table.space[modality] != space:
            raise SpaceError(
                f"{path} was computed from {modality} of the space {space!r}, but {modality} of "
                f"this table is {table.space[modality]!r}: use a run trained on these features, or "
                "the table that the run embeds"
            )
