"""Edges from a file, checked and turned from ids into table rows."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from etils import epath

from vidembed.graph.edge_digest import DIGEST_KEY, EdgeDigest

METADATA_KEY = b"vidembed"
REQUIRED = ("source", "target", "weight")
LISTED = 10
KEPT_UNUSED = (
    "its column kept is not used: the strongest relations of a video are now chosen within the "
    "train partition (--corpus.max-degree, and --max-degree of `cluster`). To leave edges out, "
    "drop their rows"
)
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
# Text that is none shows where Arrow hands it to Python: in names of columns.
_ARROW_FAULTS = (pa.ArrowException, UnicodeDecodeError)


class EdgeError(ValueError):
    """An edge file that must not be used as it is."""


class Lookup(Protocol):
    """What turns ids into rows: a FeatureTable is one."""

    def __len__(self) -> int: ...
    def find(self, ids: np.ndarray) -> np.ndarray: ...


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


def read_edges(path: epath.PathLike, table: Lookup, *, max_unknown_share: float = 0.01) -> Edges:
    """Read `source, target, weight` (Parquet, or CSV with a header) as rows of `table`.

    A CSV file may be compressed (.csv.gz, .csv.bz2, .csv.zst). Edges that name an id outside the
    table are dropped and reported while they are at most `max_unknown_share` of all edges. Self
    loops are dropped. An edge given more than once, either way round, becomes one: weights add up.
    Other columns are not used. Raises EdgeError for what is no such file, missing columns, an
    empty file, missing ids, more unknown ids than allowed, and weights that are not finite and
    positive.
    """
    edges, metadata, notes = _load(epath.Path(path))
    weight = edges["weight"].to_numpy().astype(np.float64)
    bad = np.flatnonzero(~(weight > 0) | ~np.isfinite(weight))
    if len(bad):
        named = "; ".join(_name(edges, row) for row in bad[:LISTED])
        raise EdgeError(
            f"{path}: {len(bad)} of {len(weight)} weights are not finite and positive ({named}); a "
            "weight is how often two videos were watched together: mend or drop them"
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
    with reading(path):
        there, is_folder = path.exists(), path.is_dir()
    if is_folder:
        raise EdgeError(f"{path}: is a folder; give the one Parquet or CSV file with the edges")
    if not there:
        beside = sorted(other.name for other in path.parent.glob("*"))[:LISTED]
        raise EdgeError(f"{path}: no such edge file; {path.parent} holds {beside or 'nothing'}")
    with reading(path), path.open("rb") as file:
        packed = COMPRESSIONS.get(path.suffix)
        if (path.with_suffix("") if packed else path).suffix == ".csv":
            text = {"source": pa.string(), "target": pa.string()}
            options = pyarrow.csv.ConvertOptions(column_types=text)
            plain = pa.input_stream(file, compression=packed)
            table = pyarrow.csv.read_csv(plain, convert_options=options)
        else:
            table = _read_parquet(file)
        found = table.column_names
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise EdgeError(
            f"{path}: column {', '.join(missing)} is missing; expected source, target, weight, "
            f"found {', '.join(found)}"
        )
    if not len(table):
        raise EdgeError(f"{path}: holds no edges; was the threshold of the co-watches too high?")
    wanted = {"source": pa.string(), "target": pa.string(), "weight": pa.float64()}
    stored = table.schema.metadata or {}
    if "kept" in found and DIGEST_KEY in stored:
        wanted["kept"] = pa.bool_()  # older versions wrote it, and their digest covers it
    metadata = read_mark(path, stored)
    with reading(path):
        table = table.select(list(wanted)).cast(pa.schema(wanted)).combine_chunks()
        table.validate(full=True)  # text that is no UTF-8, among others
    if DIGEST_KEY in stored and stored[DIGEST_KEY] != _digest(stored, table):
        raise EdgeError(
            f"{path}: is damaged: its rows, or what it says of them, are not what was written. "
            "Make it again with `python -m vidembed cowatch`, or restore it from a copy"
        )
    for name in REQUIRED:
        # An empty cell of a CSV file arrives as "", not as null.
        empty = pc.equal(table[name], "") if pa.types.is_string(wanted[name]) else None
        missing_cells = table[name].null_count + (pc.sum(empty).as_py() or 0 if empty else 0)
        if missing_cells:
            raise EdgeError(
                f"{path}: {missing_cells} of {len(table)} edges have no {name}; mend or drop them"
            )
    return table, metadata, [f"{path}: {KEPT_UNUSED}"] if "kept" in found else []


def _read_parquet(file: Any) -> pa.Table:
    """The table, with its digest (b"" where a fault of the footer hides it) in the metadata."""
    parquet = pyarrow.parquet.ParquetFile(file)
    table, said = parquet.read(), parquet.metadata.metadata or {}
    file.seek(-8, io.SEEK_END)
    file.seek(-8 - int.from_bytes(file.read(4), "little"), io.SEEK_END)
    if DIGEST_KEY in file.read():
        digest = {DIGEST_KEY: said.get(DIGEST_KEY, b"")}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **digest})
    return table


def _digest(stored: Mapping[bytes, bytes], table: pa.Table) -> bytes:
    digest = EdgeDigest(stored.get(METADATA_KEY, b""))
    for batch in table.to_batches():
        digest.update(batch)
    return digest.hexdigest()


def read_mark(path: epath.PathLike, metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """What the writer of a Parquet file said of it in its schema; empty for other people's files.

    Raises EdgeError where something else stands under our key.
    """
    text = (metadata or {}).get(METADATA_KEY, b"{}")
    try:
        mark = json.loads(text)
    except ValueError:
        mark = None
    if not isinstance(mark, dict):
        raise EdgeError(
            f"{path}: its metadata {METADATA_KEY.decode()!r} is not JSON as vidembed writes it, "
            f"found {text[:60]!r}: write the file anew without that key"
        )
    return mark


@contextmanager
def reading(
    path: epath.Path,
    what: str = "edges (Parquet, or CSV with a header, of text, text, number)",
    refused: type[ValueError] = EdgeError,
) -> Iterator[None]:
    """Turns faults of a file, but not of the disk or the network, into `refused` with its name."""
    try:
        yield
    except ImportError as error:
        raise refused(
            f"{path}: {error}; for gs:// that is pip install -e '.[gcs]', or copy the file to a "
            "local disk"
        ) from error
    except (*_ARROW_FAULTS, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk or the network, and no fault of the file
        raise refused(f"{path}: cannot be read as {what}: {error}") from error


def _rows(
    path: epath.PathLike, edges: pa.Table, table: Lookup, max_unknown_share: float
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


def _name(edges: pa.Table, row: int) -> str:
    source, target, weight = (edges[name][int(row)].as_py() for name in REQUIRED)
    return f"row {row}: {source} - {target}, {weight}"
