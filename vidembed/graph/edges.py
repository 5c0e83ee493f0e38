"""Read edges from a file, check them, and turn ids into table rows."""

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
    "train partition (--corpus.max-degree, and --max-degree of `cluster`). To exclude edges, "
    "delete their rows"
)


class EdgeError(ValueError):
    """An edge file that cannot be used as it is."""


EDGES = tabular.Kind(
    what="edges (Parquet, or CSV with a header, of text, text, number)",
    give="the one Parquet or CSV file with the edges",
    refused=EdgeError,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Edges:
    """E undirected edges between table rows, each pair once, source < target, in that order.

    source, target: i32[E]; weight: f32[E]. `metadata` is what vidembed stored with the file (empty
    for files from elsewhere). `report` counts what was read: rows, unknown, loops, merged, edges,
    and `notes`, sentences to show the user.
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    metadata: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether the edges come from simulated sessions; every result from them must say so."""
        return bool(self.metadata.get("simulated", False))

    def __len__(self) -> int:
        return len(self.source)


def read_edges(
    path: epath.PathLike, table: FeatureTable, *, max_unknown_share: float = 0.01
) -> Edges:
    """Read `source, target, weight` (Parquet, or CSV with a header) as rows of `table`.

    A CSV file may be compressed (gzip, bzip2, zstd). Ids are text, UTF-8 bytes or whole numbers.
    Edges that name an id outside the table are dropped and reported, up to `max_unknown_share` of
    all edges. Self loops are dropped. An edge given more than once, in either direction, becomes
    one edge with the summed weight. Other columns are ignored.
    Raises EdgeError for a missing or unreadable file, missing columns, an empty file, missing ids,
    ids of another type, more unknown ids than allowed, and weights that are not positive or outside
    the range that float32 sums can hold.
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
            "watched together: correct, scale or drop them"
        )
    source, target, unknown = _rows(path, edges, table, max_unknown_share)
    both_known = (source >= 0) & (target >= 0)
    loops = both_known & (source == target)
    chosen = both_known & ~loops
    if not chosen.any():
        raise EdgeError(
            f"{path}: none of its {len(weight)} edges joins two different videos in the table "
            f"({len(weight) - int(both_known.sum())} name an unknown id, {int(loops.sum())} are "
            "loops)"
        )
    low = np.minimum(source, target)[chosen].astype(np.int64)
    high = np.maximum(source, target)[chosen].astype(np.int64)
    pairs, pair_of_edge = np.unique(low * len(table) + high, return_inverse=True)
    return Edges(
        source=(pairs // len(table)).astype(np.int32),
        target=(pairs % len(table)).astype(np.int32),
        weight=np.bincount(pair_of_edge, weight[chosen], minlength=len(pairs)).astype(np.float32),
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
        raise EdgeError(f"{path}: holds no edges; was --min-weight of `cowatch` too high?")
    stored, columns = file.schema.metadata or {}, file.column_names
    metadata = tabular.read_mark(path, stored, EDGES)
    arrays = {name: ids_of(path, file, name, EDGES) for name in REQUIRED[:2]}
    arrays["weight"] = numbers_of(path, file, "weight", EDGES)
    if "kept" in columns and DIGEST_KEY in stored:  # the digest of older versions covers it
        with tabular.reading(path, EDGES):
            arrays["kept"] = file["kept"].cast(pa.bool_())
    table = pa.table(arrays, metadata=stored)
    remedy = "Make it again with `python -m vidembed cowatch`, or restore it from a copy"
    tabular.check_digest(path, table, remedy, EDGES)
    for name in REQUIRED:
        if missing := table[name].null_count:
            raise EdgeError(
                f"{path}: {missing} of {len(table)} edges have no {name}; add it or drop them"
            )
    return table, metadata, [f"{path}: {KEPT_UNUSED}"] if "kept" in columns else []


def _rows(
    path: epath.PathLike, edges: pa.Table, table: FeatureTable, max_unknown_share: float
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return the rows i64[E] of both ends (-1 if unknown), and a report of the unknown ids."""
    # Look up each id once, however many edges it has.
    ends = pa.chunked_array([*edges["source"].chunks, *edges["target"].chunks])
    coded = pc.dictionary_encode(ends).combine_chunks()
    names = coded.dictionary.to_pylist()
    row_of_name = table.find(np.array([name.encode() for name in names], dtype=np.bytes_))
    rows = np.asarray(row_of_name)[coded.indices.to_numpy()]
    source, target = rows[: len(edges)], rows[len(edges) :]
    unknown_edges = int(np.sum((source < 0) | (target < 0)))
    unknown_ids = [name for name, row in zip(names, row_of_name, strict=True) if row < 0]
    if unknown_edges > max_unknown_share * len(edges):
        raise EdgeError(
            f"{path}: {unknown_edges} of {len(edges)} edges ({unknown_edges / len(edges):.1%}) "
            f"name {len(unknown_ids)} ids that are not in the table, above the allowed "
            f"{max_unknown_share:.1%}; the first: {', '.join(unknown_ids[:LISTED])}. Is this the "
            "right table? If so, raise --corpus.max-unknown-share"
        )
    report = {
        "unknown_edges": unknown_edges,
        "unknown_ids": len(unknown_ids),
        "unknown": unknown_ids[:LISTED],
    }
    return source, target, report
