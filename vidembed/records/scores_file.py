"""Per-query results and their Parquet file, local or remote: one row per query of a system.

Columns: `system`, `direction`, `video_id` (text; binary if an id is not UTF-8), and one f64 column
per metric. All result files have these columns, so several can be read as one table. Results with
lists also have a column of lists of equal length for each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from vidembed import files


@dataclass(frozen=True, kw_only=True, eq=False)
class PerQuery:
    """Metrics of each query, for intervals and paired comparisons."""

    ids: np.ndarray
    """S[Q]: the query videos, each once."""
    values: Mapping[str, np.ndarray]
    """f64[Q] by metric: `ndcg@10`, `recall@10`, `map` (average precision)."""
    lists: Mapping[str, np.ndarray] = field(default_factory=dict)
    """[Q, k] by name, of any number type or bool: what metrics over all queries need, such as the
    best classes of each video."""


Scores = Mapping[str, Mapping[str, PerQuery]]
"""System → direction → metrics of each query; the same metrics and lists everywhere."""
KEYS = ("system", "direction", "video_id")


def write_scores(path: epath.PathLike, scores: Scores) -> None:
    """Write or replace the file, whole or not at all; creates its folder."""
    parts = [
        (system, direction, result)
        for system, directions in scores.items()
        for direction, result in directions.items()
    ]
    sizes = [len(result.ids) for *_, result in parts]
    columns = {
        name: pa.array(np.repeat(np.array(of, object), sizes), pa.string()).dictionary_encode()
        for name, of in zip(KEYS, ([part[0] for part in parts], [part[1] for part in parts]))
    }
    ids = pa.array([name for *_, result in parts for name in result.ids.tolist()], pa.binary())
    try:
        columns["video_id"] = ids.cast(pa.string())
    except pa.ArrowInvalid:
        columns["video_id"] = ids
    for metric in parts[0][2].values if parts else ():
        columns[metric] = pa.array(np.concatenate([result.values[metric] for *_, result in parts]))
    for name in parts[0][2].lists if parts else ():
        rows = np.concatenate([result.lists[name] for *_, result in parts])
        flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), buffer, write_page_checksum=True)
    files.write_bytes(path, buffer.getvalue().to_pybytes())


def read_scores(path: epath.PathLike) -> dict[str, dict[str, PerQuery]]:
    """Read results written by `write_scores`; ValueError for another or a damaged file."""
    data = pa.BufferReader(epath.Path(path).read_bytes())
    try:
        table = pq.read_table(data, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it and run again to recreate it"
        ) from error
    if not set(KEYS) <= set(table.column_names):
        raise ValueError(
            f"{path} does not name its queries (columns {', '.join(table.column_names)}): an older "
            "version wrote it. Remove it and run again: the models are only evaluated again"
        )
    ids = np.array(table["video_id"].cast(pa.binary()).to_pylist() or [b""], "S")
    others = [name for name in table.column_names if name not in KEYS]
    values = {name: table[name].to_numpy() for name in others if not _is_list(table[name])}
    lists = {
        name: table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        for name in others
        if _is_list(table[name])
    }
    lists = {name: flat.reshape(-1, table[name].type.list_size) for name, flat in lists.items()}
    (systems, system), (directions, direction) = (_codes(table[name]) for name in KEYS[:2])
    scores: dict[str, dict[str, PerQuery]] = {}
    group = system * len(directions) + direction
    for number in dict.fromkeys(group.tolist()):
        rows = np.flatnonzero(group == number)
        system_code, direction_code = divmod(number, len(directions))
        scores.setdefault(systems[system_code], {})[directions[direction_code]] = PerQuery(
            ids=ids[rows],
            values={name: column[rows] for name, column in values.items()},
            lists={name: column[rows] for name, column in lists.items()},
        )
    return scores


def _is_list(column: pa.ChunkedArray) -> bool:
    return pa.types.is_fixed_size_list(column.type)


def _codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Distinct values, and for each row the index of its value, i64[rows]."""
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
