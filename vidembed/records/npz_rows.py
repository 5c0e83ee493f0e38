"""Read videos from `.npz` files: arrays f[N, F], named after their modalities, and one of N ids.

Arrays are streamed in chunks, so that a file may be larger than memory.
"""

import contextlib
import errno
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from os import PathLike
from typing import IO, Any, NamedTuple

import numpy as np
from etils import epath

from vidembed.records.example import MessageError
from vidembed.records.faults import ContentError, Faults, Skips
from vidembed.records.formats import Modality, VideoLevel, check_id, name_of
from vidembed.records.youtube8m import Videos

IDS = ("ids", "id", "video_ids", "video_id", "names")
"""Names of the array of ids, if --id-key gives none."""
_SUFFIX = ".npy"
_DAMAGE = (
    OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What `zipfile` raises for a damaged file."""


class Header(NamedTuple):
    """The shape and dtype of an array, and whether it is stored column by column."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_columns: bool

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def headers(path: str | PathLike[str]) -> dict[str, Header]:
    """Name → header of each array of a file. Raises ContentError if it cannot be read."""
    with _opened(path) as archive:
        found = {}
        for member in archive.namelist():
            with archive.open(member) as stream:
                found[member.removesuffix(_SUFFIX)] = _header(path, member, stream)
        return found


def format_of(path: str | PathLike[str], id_key: str = "") -> VideoLevel:
    """One modality per array of floats f[N, F]. Raises ContentError if there is none."""
    found = headers(path)
    modalities = [
        Modality(name=name_of(name), key=name, width=header.shape[1])
        for name, header in found.items()
        if header.dtype.kind == "f" and len(header.shape) == 2 and header.shape[1]
    ]
    if not modalities:
        raise ContentError(path, 0, None, f"has no array of floats [videos, width]: {_all(found)}")
    keys = (id_key,) if id_key else VideoLevel.id_keys
    return VideoLevel(modalities=tuple(modalities), labels_key=None, id_keys=keys)


def read_rows(
    path: str | PathLike[str],
    format: VideoLevel,
    *,
    skips: Skips | None = None,
    chunk_records: int = 2048,
) -> Iterator[Videos]:
    """The videos of one file, in chunks.

    Raises ContentError for arrays that are not there, hold Python objects, or differ in their
    number of rows or from the format, and for a row without an id; `skips` skips such rows.
    """
    found, faults = headers(path), Faults(path, skips)
    names = _ids(path, found, format.id_keys)
    for modality in format.modalities:
        header = found.get(modality.key)
        if header is None:
            fault = f"no array {modality.key!r}: {_all(found)}"
        elif header.dtype.kind != "f" or header.shape[1:] != (modality.width,):
            fault = f"{modality.key} is {header}; expected floats [videos, {modality.width}]"
        elif header.shape[0] != len(names):
            fault = f"{modality.key} has {header.shape[0]:,} rows, for {len(names):,} ids"
        else:
            continue
        raise ContentError(path, 0, None, fault)
    if not names:
        raise ContentError(path, 0, None, "has no videos")
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(_opened(path))
        arrays = {
            m.name: stack.enter_context(_rows(path, archive, m.key)) for m in format.modalities
        }
        for start in range(0, len(names), chunk_records):
            chunk = names[start : start + chunk_records]
            keep = np.ones(len(chunk), bool)
            for row, name in enumerate(chunk):
                try:
                    check_id(name)
                except MessageError as error:
                    faults.add(start + row, None, str(error), content=True)
                    keep[row] = False
            read = {name: rows(len(chunk))[keep] for name, rows in arrays.items()}
            yield Videos(
                np.array([name for name, valid in zip(chunk, keep.tolist()) if valid], np.bytes_),
                np.zeros(int(keep.sum()) + 1, np.int64),
                np.empty(0, np.int32),
                read,
                {name: np.ones(int(keep.sum()), bool) for name in read},
            )


@contextlib.contextmanager
def _opened(path: str | PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """The archive; damage of the zip file, of a member or of its checksum is a ContentError."""
    try:
        with epath.Path(path).open("rb") as file, zipfile.ZipFile(file) as archive:
            yield archive
    except ContentError:
        raise
    except _DAMAGE as error:
        # A damaged directory leads to a place before the file's beginning.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise ContentError(path, 0, None, f"cannot be read as .npz: {error}") from error


def _header(path: str | PathLike[str], member: str, stream: IO[bytes]) -> Header:
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, in_columns, dtype = read(stream)
    except (OSError, zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # the header is a Python literal and can fail in many ways
        fault = f"{member} cannot be read as .npy: {error}"
        raise ContentError(path, 0, None, fault) from error
    if dtype.hasobject:
        fault = f"{member} holds Python objects: save it as text or numbers"
        raise ContentError(path, 0, None, fault)
    return Header(tuple(shape), dtype, in_columns)


def _ids(
    path: str | PathLike[str], found: Mapping[str, Header], id_keys: Sequence[str]
) -> list[bytes]:
    """The ids of a file: of the array of that name, or of the usual names."""
    keys = IDS if tuple(id_keys) == VideoLevel.id_keys else tuple(id_keys)
    key = next((key for key in keys if key in found), None)
    if key is None:
        fault = f"no array of ids ({', '.join(keys)}; --id-key gives another): {_all(found)}"
        raise ContentError(path, 0, None, fault)
    header = found[key]
    if len(header.shape) != 1 or header.dtype.kind not in "SUiu":
        fault = f"{key} is {header}; ids are text, bytes or integers, one per video"
        raise ContentError(path, 0, None, fault)
    with _opened(path) as archive, archive.open(key + _SUFFIX) as stream:
        values = _whole(path, key, stream).tolist()
    return [v if isinstance(v, bytes) else str(v).encode() for v in values]


@contextlib.contextmanager
def _rows(
    path: str | PathLike[str], archive: zipfile.ZipFile, key: str
) -> Iterator[Callable[[int], np.ndarray]]:
    """A function that reads the next rows of an array, f32[n, F]."""
    with archive.open(key + _SUFFIX) as stream:
        header = _header(path, key, stream)
        if header.in_columns:
            with archive.open(key + _SUFFIX) as again:
                whole = iter(_whole(path, key, again))

        def read(count: int) -> np.ndarray:
            if header.in_columns:
                rows = np.stack(list(islice(whole, count)))
            else:
                data = stream.read(count * header.shape[1] * header.dtype.itemsize)
                if len(data) != count * header.shape[1] * header.dtype.itemsize:
                    raise ContentError(path, 0, None, f"{key} ends early: it was cut")
                rows = np.frombuffer(data, header.dtype).reshape(count, -1)
            with np.errstate(over="ignore"):  # overflow to infinity is counted later
                return rows.astype(np.float32)

        yield read


def _whole(path: str | PathLike[str], key: str, stream: IO[bytes]) -> np.ndarray:
    try:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        raise ContentError(path, 0, None, f"{key} cannot be read as .npy: {error}") from error
    return array


def _all(found: Mapping[str, Header]) -> str:
    return f"it has {', '.join(f'{name} {header}' for name, header in found.items()) or 'nothing'}"
