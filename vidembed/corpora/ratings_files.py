"""Find and read files of ratings, with columns renamed to user, item, rating and time.

Two formats have no header: `u.data` (tabs) and `ratings.dat` (::); their columns are user, item,
rating, time.
"""

import io
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from etils import epath

from vidembed.files import is_remote, local_path
from vidembed.records import tabular, text_table

NAMES: Mapping[str, tuple[str, ...]] = {
    "user": ("user_id", "userId", "user_id:token", "user"),
    "item": ("item_id", "movieId", "movie_id", "video_id", "item_id:token", "item"),
    "rating": ("rating", "user_rating", "rating:float", "stars"),
    "time": ("timestamp", "timestamp:float", "time"),
}
"""Column name → accepted names in files; user and item are required."""
IN_A_FOLDER = ("ratings.csv", "u.data", "*.inter", "ratings.dat", "ratings.parquet", "*.parquet")
_NO_HEADER = re.compile(rb"\s*[^\t:\s]+(\t|::)[^\t:\s]+(\1[0-9.]+){1,2}\s*")


class RatingsError(ValueError):
    """A file of ratings that is malformed or ambiguous."""


RATINGS = tabular.Kind(
    what="Parquet or CSV ratings",
    give="a file with the columns user_id, item_id and optionally rating and timestamp, a "
    "MovieLens folder, or tfds:movielens/100k-ratings",
    refused=RatingsError,
)


def content_digest(path: str | os.PathLike[str]) -> str:
    """Digest of the bytes that `read_columns` reads, to detect a changed file at the same path.
    Empty for missing and remote files, and for tfds:, whose names have a version."""
    if not str(path) or str(path).startswith("tfds:") or is_remote(path):
        return ""
    if not local_path(path).exists():
        return ""
    file = _file_of(local_path(path))
    status = file.stat()
    return _digest(file, status.st_mtime_ns, status.st_size)


def read_columns(path: str | os.PathLike[str]) -> pa.Table:
    """Columns user, item and, if present, rating and time, with the values of the file."""
    if str(path).startswith("tfds:"):
        return _from_tfds(str(path).removeprefix("tfds:"))
    return _read_file(_file_of(local_path(path)))


@lru_cache(maxsize=8)
def _digest(file: Path, changed: int, size: int) -> str:
    """Digest of a file, cached until its modification time or size changes."""
    del changed, size
    digest = xxhash.xxh3_128()
    with file.open("rb") as bytes_of:
        while block := bytes_of.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in IN_A_FOLDER:
        if matches := sorted(path.glob(name)):
            return matches[0]
    beside = sorted(file.name for file in path.iterdir())[: tabular.LISTED] or "nothing"
    raise RatingsError(f"{path}: holds none of {', '.join(IN_A_FOLDER)}, found {beside}")


def _read_file(path: Path) -> pa.Table:
    """Columns user, item and, if present, rating and time."""
    if not path.exists():
        tabular.read_table(epath.Path(path), RATINGS)  # raises, and lists the existing files
    with tabular.reading(path, RATINGS), path.open("rb") as file:
        plain, _ = text_table.plain(file)
        first = plain.readline(text_table.HEAD_BYTES)
        if separated := _NO_HEADER.fullmatch(first):  # u.data, ratings.dat
            names = list(NAMES)[: first.count(separated[1]) + 1]
            text = io.BytesIO((first + plain.read()).replace(b"::", b"\t"))
            batches = text_table.rows(text, text_table.Header(names, "\t", False), names)
            return pa.Table.from_batches(batches, pa.schema([(n, pa.string()) for n in names]))
    known = [name for names in NAMES.values() for name in names]
    present = tabular.column_names(path, RATINGS, known)
    chosen = {
        column: next((n for n in names if n in present), "") for column, names in NAMES.items()
    }
    if not (chosen["user"] and chosen["item"]):
        tabular.check_columns(path, present, ("user_id", "item_id"), RATINGS)
        raise RatingsError(f"{path}: has neither user_id nor item_id, found {', '.join(present)}")
    renamed = {name: column for column, name in chosen.items() if name}
    table = tabular.read_table(epath.Path(path), RATINGS, list(renamed))
    return table.rename_columns([renamed[name] for name in table.column_names])


def _from_tfds(name: str) -> pa.Table:
    import tensorflow_datasets as tfds

    try:
        source = tfds.data_source(name, split="train")
    except Exception as error:  # from the network, the disk, or the builder
        # Only the first line: for an unknown name hundreds of known ones follow.
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RatingsError(
            f"tfds:{name}: TensorFlow Datasets cannot prepare it ({why}): check the name and the "
            "network, or give the ratings as a file"
        ) from error
    rows: list[Mapping[str, Any]] = [source[place] for place in range(len(source))]
    table: dict[str, Any] = {}
    for column, names in NAMES.items():
        if key := next((n for n in names if rows and n in rows[0]), ""):
            table[column] = pa.array([_plain(row[key]) for row in rows])
    if not {"user", "item"} <= table.keys():
        raise RatingsError(f"tfds:{name}: has no user and item, found {sorted(rows[0]) or 'none'}")
    return pa.table(table)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic | np.ndarray) else value
    return value.decode() if isinstance(value, bytes) else value
