"""Arrays on disk that notice damage: Zarr v3 through TensorStore, on local disks and buckets.

TensorStore checks each chunk (crc32c). What it cannot see (a chunk put in another's place, an
edited shape) is seen by the digest of the whole array, which the owner keeps beside the array.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorstore as ts
import xxhash

CHUNK_BYTES = 8 << 20
_REMEDY = "The table is damaged: import it again, or restore it from a copy."


class TableError(ValueError):
    """Stored arrays that are damaged, unfinished or absent, or rows that do not fit together."""


@contextlib.contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Say which file a failure of the storage library is about, and what to do."""
    try:
        yield
    except TableError:
        raise
    except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        reason = lines[0] if len(lines[0]) < 600 else lines[0][:600] + " ..."
        raise TableError(f"{what}: {reason}. {remedy}") from error


def location(path: str | os.PathLike) -> dict[str, Any]:
    """The storage (TensorStore's key-value store) of a folder: a local path, gs:// or s3://."""
    text = os.fspath(path)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return {"driver": "file", "path": os.path.abspath(text) + "/"}
    if scheme == "file":
        return {"driver": "file", "path": os.path.abspath(rest) + "/"}
    drivers = {"gs": "gcs", "s3": "s3"}
    if scheme not in drivers:
        raise TableError(f"{text}: {scheme}:// is not supported; use a local path, gs:// or s3://")
    bucket, _, key = rest.partition("/")
    key = key.rstrip("/") + "/" if key.strip("/") else ""
    return {"driver": drivers[scheme], "bucket": bucket, "path": key}


def folder(path: str | os.PathLike) -> ts.KvStore:
    """The small files of a folder; a write is durable and all or nothing."""
    with explained(os.fspath(path), "Check the path and the rights on it."):
        return ts.KvStore.open(location(path)).result()


def _spec(path: str | os.PathLike, name: str) -> dict[str, Any]:
    store = location(path)
    return {"driver": "zarr3", "kvstore": {**store, "path": f"{store['path']}{name}/"}}


class ArrayWriter:
    """Appends rows [n, ...] to an array; holds one chunk in memory, however many rows come.

    after: what `finish` returned of the array that there is, whose rows are verified and kept.
    Until the owner says otherwise, those are all that `read_array` sees of it.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        name: str,
        dtype: np.dtype,
        width: tuple[int, ...],
        *,
        after: dict[str, Any] | None = None,
    ) -> None:
        row_bytes = max(1, int(np.prod(width, dtype=np.int64)) * dtype.itemsize)
        self.chunk_rows = max(1, CHUNK_BYTES // row_bytes)
        self._what, self._dtype, self._width = f"{os.fspath(path)}/{name}", dtype, width
        self._digest = xxhash.xxh3_128()
        self._written = self._filled = 0
        self._chunk = np.empty((self.chunk_rows, *width), dtype)
        self._pending: Any = None
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        metadata = {
            # The number of rows is known at the end; finish() sets it.
            "shape": [1 << 48, *width],
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [self.chunk_rows, *width]},
            },
            "data_type": dtype.name,
            "fill_value": False if dtype == np.bool_ else 0,
            "codecs": codecs,
        }
        spec = {
            **_spec(path, name),
            "metadata": metadata,
            # Else a chunk of real zeros is not written, and reading takes it for a lost one.
            "store_data_equal_to_fill_value": True,
        }
        if after is not None:
            del spec["metadata"]
        with self._explained():
            self._store = ts.open(spec, create=after is None, open=after is not None).result()
        if after is not None:
            self._go_on(path, name, after)

    def _go_on(self, path: str | os.PathLike, name: str, after: dict[str, Any]) -> None:
        """Read what there is, chunk by chunk, to its end; raises TableError where it is damaged."""
        layout: Any = self._store.chunk_layout
        self.chunk_rows = layout.read_chunk.shape[0]
        self._chunk = np.empty((self.chunk_rows, *self._width), self._dtype)
        for first in range(0, after["shape"][0], self.chunk_rows):
            block = slice(first, min(first + self.chunk_rows, after["shape"][0]))
            part = read_array(path, name, after, verify=False, rows=block)
            self._filled, self._chunk[: len(part)] = len(part), part
            if len(part) == self.chunk_rows:
                self._digest.update(_bytes(part))
                self._written, self._filled = first + len(part), 0
        digest = self._digest.copy()
        digest.update(_bytes(self._chunk[: self._filled]))
        if digest.hexdigest() != after["xxh3"]:
            raise TableError(f"{self._what}: the content is not what was written. {_REMEDY}")
        with self._explained():
            # The end is known when it comes, as of a new array.
            self._store = self._store.resize(
                exclusive_max=[1 << 48, *self._width], expand_only=True, resize_metadata_only=True
            ).result()

    def cut(self, rows: int) -> None:
        """Give up what was appended to that many rows; only chunks that were written are sought."""
        self.stop()
        with self._explained():
            for end, of_metadata in ((max(rows, self._written), True), (rows, False)):
                self._store = self._store.resize(
                    exclusive_max=[end, *self._width], resize_metadata_only=of_metadata
                ).result()

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(
            f"cannot write {self._what}", "Check the rights and the free space, then run it again."
        )

    def append(self, rows: np.ndarray) -> None:
        """Rows [n, *width] of the array's own dtype."""
        if rows.dtype != self._dtype or rows.shape[1:] != self._width:
            raise TableError(
                f"{self._what}: rows are {rows.dtype}{list(rows.shape[1:])}, "
                f"the array is {self._dtype}{list(self._width)}"
            )
        taken = 0
        while taken < len(rows):
            step = min(len(rows) - taken, self.chunk_rows - self._filled)
            self._chunk[self._filled : self._filled + step] = rows[taken : taken + step]
            self._filled += step
            taken += step
            if self._filled == self.chunk_rows:
                self.flush()

    def flush(self) -> None:
        """Start writing the rows of the current chunk; only the last may be less than full."""
        if not self._filled:
            return
        rows = self._chunk[: self._filled]
        self._digest.update(_bytes(rows))
        with self._explained():
            if self._pending is not None:
                self._pending.result()
            end = self._written + len(rows)
            self._pending = self._store[self._written : end].write(rows)
            # TensorStore reads the rows while it writes: the next ones need memory of their own.
            self._chunk = np.empty_like(self._chunk)
        self._written, self._filled = end, 0

    def stop(self) -> None:
        """Give up: afterwards nothing is being written any more."""
        if self._pending is not None:
            with contextlib.suppress(Exception):
                self._pending.result()

    def finish(self) -> dict[str, Any]:
        """Write what is left, set the shape; returns {dtype, shape, xxh3}."""
        self.flush()
        with self._explained():
            if self._pending is not None:
                self._pending.result()
            self._store.resize(
                exclusive_max=[self._written, *self._width], resize_metadata_only=True
            ).result()
        return {
            "dtype": self._dtype.name,
            "shape": [self._written, *self._width],
            "xxh3": self._digest.hexdigest(),
        }


def describe(array: np.ndarray) -> dict[str, Any]:
    """{dtype, shape, xxh3} of an array: what says that two are the same."""
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "xxh3": xxhash.xxh3_128_hexdigest(_bytes(array)),
    }


def read_array(
    path: str | os.PathLike,
    name: str,
    expected: dict[str, Any],
    *,
    verify: bool,
    rows: slice = slice(None),
) -> np.ndarray:
    """The whole array, or some rows of it, in memory of its own.

    `expected` is what `finish` returned. Further rows are those of appending that was broken off.
    Raises TableError for a missing or damaged chunk, a changed shape or dtype, and, when
    `verify`, for any content other than what was written.
    """
    what = f"{os.fspath(path)}/{name}"
    # Else a lost chunk reads as zeros.
    spec = {**_spec(path, name), "fill_missing_data_reads": False}
    with explained(what, _REMEDY):
        store = ts.open(spec, open=True, read=True).result()
        found = {"dtype": store.dtype.name, "shape": list(store.shape)}
        wanted = {"dtype": expected["dtype"], "shape": list(expected["shape"])}
        longer = store.shape[0] > expected["shape"][0] and found["shape"][1:] == wanted["shape"][1:]
        if found != wanted and not (longer and found["dtype"] == wanted["dtype"]):
            raise TableError(
                f"{what} is {found['dtype']}{found['shape']}, "
                f"the manifest says {wanted['dtype']}{wanted['shape']}. {_REMEDY}"
            )
        store = store[: expected["shape"][0]][rows]
        array = np.empty(store.shape, store.dtype.numpy_dtype)
        # Into memory allocated here: twice as fast as letting TensorStore allocate.
        ts.array(array).write(store).result()
    if verify and (digest := describe(array)["xxh3"]) != expected["xxh3"]:
        raise TableError(
            f"{what}: the content has digest {digest}, written was {expected['xxh3']}: chunks were "
            f"exchanged or replaced. {_REMEDY}"
        )
    return array


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
