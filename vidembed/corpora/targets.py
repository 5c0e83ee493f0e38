"""Target vectors for videos: from a file, a modality of the table, or relations."""

import os
from dataclasses import dataclass

import numpy as np

from vidembed.graph.factors import log_factors
from vidembed.graph.relation import RelationGraph
from vidembed.records.rows import float_rows
from vidembed.records.table import FeatureTable
from vidembed.records.vectors_by_id import join, refuse_not_finite


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """Target vectors for some of the train videos.

    rows: i64[n] of the table, ascending. values: f32[n, K], with their mean f64[K] subtracted,
    because a large mean would cost precision of their differences in float32. notes: videos left
    out, with counts, one sentence each.
    """

    rows: np.ndarray
    values: np.ndarray
    mean: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """K, the dimension of a target."""
        return int(self.values.shape[1])


def from_file(path: str | os.PathLike[str], table: FeatureTable, is_train: np.ndarray) -> Targets:
    """The vectors of a Parquet or NumPy file, or of a table with a single modality, joined by id.

    Ids that the table lacks, and videos outside train, are left out; the former are counted. Raises
    VectorsError for other files, and ValueError for repeated ids, for targets that are not finite,
    and if no train video has one.
    """
    name, joined = os.fspath(path), join(path, table, what="targets")
    return _targets(name, table, is_train, joined.rows, joined.vectors, joined.notes)


def from_modality(modality: str, table: FeatureTable, is_train: np.ndarray) -> Targets:
    """Targets from a modality of the table; videos without it have no target. Raises ValueError as
    `from_file` does, and for an unknown modality."""
    if modality not in table.features:
        raise ValueError(
            f"the table has no modality {modality!r} to take targets from; it has "
            f"{', '.join(table.features)} (--feed.modality)"
        )
    rows = np.flatnonzero(table.has(modality))
    vectors = float_rows(table, modality, rows)
    return _targets(f"modality {modality}", table, is_train, rows, vectors, ())


def from_relations(graph: RelationGraph, is_train: np.ndarray, rank: int) -> Targets:
    """Targets from factors of the train videos' relations; see `log_factors`. Videos with zero
    factors have no target.

    Raises ValueError for more factors than videos with relations.
    """
    rows = np.flatnonzero((graph.degrees() > 0) & is_train)
    if not len(rows):
        raise ValueError(
            "no train video is related to another, so there are no factors to learn: give "
            "--feed.targets or --feed.modality, or check that edges and table have the same ids"
        )
    if rank > len(rows):
        raise ValueError(
            f"only {len(rows):,} train videos have relations: give at most {len(rows)} "
            f"--feed.factors, found {rank}"
        )
    values = log_factors(graph.matrix()[rows][:, rows], rank)
    reached = values.any(axis=1)
    notes = (
        f"{int(is_train.sum() - reached.sum()):,} of {int(is_train.sum()):,} train videos have no "
        f"part in the {rank} leading factors of the relations, and so no target: left out",
    )
    return _centred(rows[reached], values[reached], notes if not reached.all() else ())


def _targets(
    name: str,
    table: FeatureTable,
    is_train: np.ndarray,
    rows: np.ndarray,
    vectors: np.ndarray,
    notes: tuple[str, ...],
) -> Targets:
    refuse_not_finite(name, vectors, rows, table, what="targets")
    of_train = is_train[rows]
    rows, vectors = rows[of_train], vectors[of_train]
    if not len(rows):
        raise ValueError(
            f"{name}: none of the {int(is_train.sum()):,} train videos has a target "
            f"({int((~of_train).sum()):,} videos outside train have): check that the ids are those "
            "of the table"
        )
    order = np.argsort(rows)
    missing = int(is_train.sum()) - len(rows)
    if missing:
        notes += (f"{missing:,} of {int(is_train.sum()):,} train videos have no target: left out",)
    return _centred(rows[order], vectors[order], notes)


def _centred(rows: np.ndarray, vectors: np.ndarray, notes: tuple[str, ...]) -> Targets:
    mean = vectors.mean(axis=0, dtype=np.float64)
    values = np.asarray(vectors - mean, np.float32)
    if not values.any():
        raise ValueError(f"the targets of all {len(rows):,} train videos are equal")
    return Targets(rows=rows, values=values, mean=mean, notes=notes)
