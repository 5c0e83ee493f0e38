"""Edges from a file, checked and turned from ids into table rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from vidembed.records import tabular
from vidembed.records.columns import ids_of, numbers_of
from vidembed.records.table import FeatureTable
from vidembed.records.tabular import DIGEST_KEY, LISTED

REQUIRED = ("source", "target", "weight")
LEAST_WEIGHT, MOST_WEIGHT = 1e-30, 1e30
KEPT_UNUSED = (
    "its column kept is not used: the strongest relations of a video are now chosen within the "
    "train partition (--corpus.max-degree, and --max-degree of `cluster`). To leave edges out, "
    "drop their rows"
)


class EdgeError(ValueError):
    """An edge file that must not be used as it is."""


EDGES = tabular.Kind(
    what="edges (Parquet, or CSV with a header, of text, text, number)",
    give="the one Parquet or CSV file with the edges",
    refused=EdgeError,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Edges:
    """E undirected edges between table rows, each pair once, source < target, in that order.

    source, target: i32[E]; weight: f32[E]. `metadata` is what the writer said of the file (empty
    for other people's files), `report` what reading found: rows, unknown, loops, merged, edges,
    and notes, sentences for people.
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    metadata: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether the sessions behind the edges were made up: everything measured must say so."""
        return bool(self.metadata.get("simulated", False))

    def __len__(self) -> int:
        return len(self.source)


def read_edges(
    path: epath.PathLike, table: FeatureTable, *, max_unknown_share: float = 0.01
) -> Edges:
    """Read `source, target, weight` (Parquet, or CSV with a header) as rows of `table`.

    A CSV file may be compressed (gzip, bzip2, zstd). Ids are text, UTF-8 bytes or whole numbers.
    Edges that name an id outside the table are dropped and reported while they are at most
    `max_unknown_share` of all edges. Self loops are dropped. An edge given more than once, either
    way round, becomes one: weights add up. Other columns are not used.
    Raises EdgeError for what is no such file, missing columns, an empty file, missing ids, ids of
    another type, more unknown ids than allowed, and weights that are no positive numbers, or none
    that float32 sums can hold.
    """
    edges, metadata, notes = _load(epath.Path(path))
    weight = edges["weight"].to_numpy().astype(np.float64)
    bad = np.flatnonzero(~((weight >= LEAST_WEIGHT) & (weight <= MOST_WEIGHT)))
    if len(bad):
        rows = zip(bad, edges.take(bad[:LISTED]).to_pylist())
        named = "; ".join("row {}: {source} - {target}, {weight}".format(i, **r) for i, r in rows)
        raise EdgeError(
            f"{path}: {len(bad)} of {len(weight)} weights are not positive numbers from "
            f"{LEAST_WEIGHT:g} to {MOST_WEIGHT:g} ({named}); a weight is how often two videos were "
            "watched together: mend, scale or drop them"
        )
    source, target, unknown = _rows(path, edges, table, max_unknown_share)
    known = (source >= 0) & (target >= 0)
    loops = known & (source == target)
    chosen = known & ~loops
    if not chosen.any():
        raise EdgeError(
            f"{path}: none of its {len(weight)} edges joins two different videos of the table "
            f"({len(weight) - int(known.sum())} name an unknown id, {int(loops.sum())} are loops)"
        )
    low = np.minimum(source, target)[chosen].astype(np.int64)
    high = np.maximum(source, target)[chosen].astype(np.int64)
    pairs, place = np.unique(low * len(table) + high, return_inverse=True)
    return Edges(
        source=(pairs // len(table)).astype(np.int32),
        target=(pairs % len(table)).astype(np.int32),
        weight=np.bincount(place, weight[chosen], minlength=len(pairs)).astype(np.float32),
        metadata=metadata,
        report={
            "rows": len(weight),
            **unknown,
            "loops": int(loops.sum()),
            "merged": int(chosen.sum()) - len(pairs),
            "edges": len(pairs),
            "notes": notes,
        },
    )


def _load(path: epath.Path) -> tuple[pa.Table, dict[str, Any], list[str]]:
    file = tabular.read_table(path, EDGES, REQUIRED, optional=("kept",))
    if not len(file):
        raise EdgeError(f"{path}: holds no edges; was the threshold of the co-watches too high?")
    stored, found = file.schema.metadata or {}, file.column_names
    metadata = tabular.read_mark(path, stored, EDGES)
    read = {name: ids_of(path, file, name, EDGES) for name in REQUIRED[:2]}
    read["weight"] = numbers_of(path, file, "weight", EDGES)
    if "kept" in found and DIGEST_KEY in stored:  # older versions' digest covers it
        with tabular.reading(path, EDGES):
            read["kept"] = file["kept"].cast(pa.bool_())
    table = pa.table(read, metadata=stored)
    remedy = "Make it again with `python -m vidembed cowatch`, or restore it from a copy"
    tabular.check_digest(path, table, remedy, EDGES)
    for name in REQUIRED:
        if missing := table[name].null_count:
            raise EdgeError(
                f"{path}: {missing} of {len(table)} edges have no {name}; mend or drop them"
            )
    return table, metadata, [f"{path}: {KEPT_UNUSED}"] if "kept" in found else []


def _rows(
    path: epath.PathLike, edges: pa.Table, table: FeatureTable, max_unknown_share: float
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Rows of both ends (-1 where unknown), each i64[E], and what was unknown."""
    # Each id is looked up once, however many edges it has.
    ends = pa.chunked_array([*edges["source"].chunks, *edges["target"].chunks])
    coded = pc.dictionary_encode(ends).combine_chunks()
    names = coded.dictionary.to_pylist()
    found = table.find(np.array([name.encode() for name in names], dtype=np.bytes_))
    rows = np.asarray(found)[coded.indices.to_numpy()]
    source, target = rows[: len(edges)], rows[len(edges) :]
    lost = int(np.sum((source < 0) | (target < 0)))
    ids = [name for name, row in zip(names, found, strict=True) if row < 0]
    if lost > max_unknown_share * len(edges):
        raise EdgeError(
            f"{path}: {lost} of {len(edges)} edges ({lost / len(edges):.1%}) name {len(ids)} ids "
            f"that are not in the table, above the allowed {max_unknown_share:.1%}; the first: "
            f"{', '.join(ids[:LISTED])}. Is it the right table? Otherwise raise max_unknown_share"
        )
    return source, target, {"unknown_edges": lost, "unknown_ids": len(ids), "unknown": ids[:LISTED]}
