"""Arrays on disk that detect damage: Zarr v3 through TensorStore, on local disks and in buckets.

TensorStore checks each chunk (crc32c). It cannot detect swapped chunks or an edited shape; the
digest of the whole array, which the caller stores separately, does.
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
    """Stored arrays that are damaged, unfinished or missing, or rows that do not match."""


@contextlib.contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Turn errors of the storage library into TableError with the file and a remedy."""
    try:
        yield
    except TableError:
        raise
    except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        reason = lines[0] if len(lines[0]) < 600 else lines[0][:600] + " ..."
        raise TableError(f"{what}: {reason}. {remedy}") from error


def location(path: str | os.PathLike) -> dict[str, Any]:
    """TensorStore's key-value store spec for a folder: a local path, gs:// or s3://."""
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
    """A key-value store for the small files of a folder; writes are durable and atomic."""
    with explained(os.fspath(path), "Check the path and the rights on it."):
        return ts.KvStore.open(location(path)).result()


def _spec(path: str | os.PathLike, name: str) -> dict[str, Any]:
    store = location(path)
    return {"driver": "zarr3", "kvstore": {**store, "path": f"{store['path']}{name}/"}}


class ArrayWriter:
    """Append rows [n, ...] to an array, with one chunk in memory.

    after: the result of `finish` for an existing array, whose rows are verified and kept.
    `read_array` sees only those rows until the caller records the new shape and digest.
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
            # The number of rows is not known yet; finish() sets it.
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
            # Otherwise a chunk of real zeros is not stored, and reads as a lost one.
            "store_data_equal_to_fill_value": True,
        }
        if after is not None:
            del spec["metadata"]
        with self._explained():
            self._store = ts.open(spec, create=after is None, open=after is not None).result()
        if after is not None:
            self._resume(path, name, after)

    def _resume(self, path: str | os.PathLike, name: str, after: dict[str, Any]) -> None:
        """Read and verify the existing rows, chunk by chunk; raises TableError for damage."""
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
        with self._explained():  # as for a new array, finish() sets the number of rows
            self._store = self._store.resize(
                exclusive_max=[1 << 48, *self._width], expand_only=True, resize_metadata_only=True
            ).result()

    def cut(self, rows: int) -> None:
        """Remove rows appended after the first `rows`; looks only at chunks written so far."""
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
        """Append rows [n, *width] of the array's dtype."""
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
        """Start writing the current chunk; only the last chunk may be partial."""
        if not self._filled:
            return
        rows = self._chunk[: self._filled]
        self._digest.update(_bytes(rows))
        with self._explained():
            if self._pending is not None:
                self._pending.result()
            end = self._written + len(rows)
            self._pending = self._store[self._written : end].write(rows)
            # TensorStore still reads this memory while it writes, so the next rows need new memory.
            self._chunk = np.empty_like(self._chunk)
        self._written, self._filled = end, 0

    def stop(self) -> None:
        """Wait for the pending write, ignoring its errors; afterwards nothing is being written."""
        if self._pending is not None:
            with contextlib.suppress(Exception):
                self._pending.result()

    def finish(self) -> dict[str, Any]:
        """Write the last chunk and set the shape; returns {dtype, shape, xxh3}."""
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
    """{dtype, shape, xxh3} of an array, equal exactly for equal arrays."""
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
    """The whole array, or some of its rows, in newly allocated memory.

    `expected` is the result of `finish`. Rows beyond it are left from an interrupted append and
    are ignored. Raises TableError for a missing or damaged chunk, a changed shape or dtype, and,
    with `verify`, for content that differs from what was written.
    """
    what = f"{os.fspath(path)}/{name}"
    # Otherwise a lost chunk reads as zeros.
    spec = {**_spec(path, name), "fill_missing_data_reads": False}
    with explained(what, _REMEDY):
        store = ts.open(spec, open=True, read=True).result()
        stored = {"dtype": store.dtype.name, "shape": list(store.shape)}
        written = {"dtype": expected["dtype"], "shape": list(expected["shape"])}
        same_width = stored["shape"][1:] == written["shape"][1:]
        longer = store.shape[0] > expected["shape"][0] and same_width
        if stored != written and not (longer and stored["dtype"] == written["dtype"]):
            raise TableError(
                f"{what} is {stored['dtype']}{stored['shape']}, "
                f"the manifest says {written['dtype']}{written['shape']}. {_REMEDY}"
            )
        store = store[: expected["shape"][0]][rows]
        array = np.empty(store.shape, store.dtype.numpy_dtype)
        # Twice as fast into memory allocated here as into TensorStore's own.
        ts.array(array).write(store).result()
    if verify and (digest := describe(array)["xxh3"]) != expected["xxh3"]:
        raise TableError(
            f"{what}: the content has digest {digest}, expected {expected['xxh3']}: chunks were "
            f"exchanged or replaced. {_REMEDY}"
        )
    return array


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
