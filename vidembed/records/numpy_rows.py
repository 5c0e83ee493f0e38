"""Read videos from `.npy` files: one array of features per modality, and a file of ids."""

from collections.abc import Iterator, Mapping
from os import PathLike

import numpy as np
from etils import epath

from vidembed.files import local_path
from vidembed.records.example import MessageError
from vidembed.records.faults import ContentError, Faults, Skips
from vidembed.records.formats import VideoLevel, check_id
from vidembed.records.kind import NUMPY, TEXT, kind_of
from vidembed.records.youtube8m import Videos

_BOM = b"\xef\xbb\xbf"


def read_array(path: str | PathLike[str], *, dimensions: int) -> np.ndarray:
    """The array of one local .npy file, memory-mapped.

    Raises ContentError for a file that is damaged, of objects, or of other dimensions.
    """
    try:
        array = np.load(local_path(path), mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # the header is a Python literal and can fail in many ways
        raise ContentError(path, 0, None, f"cannot be read as .npy: {error}") from error
    if array.ndim != dimensions:
        shape = "videos x width" if dimensions == 2 else "one id per video"
        raise ContentError(path, 0, None, f"has the shape {list(array.shape)}; expected {shape}")
    return array


def read_features(path: str | PathLike[str]) -> np.ndarray:
    """f16|f32|f64[N, F] of one .npy file. Raises ContentError for another array."""
    array = read_array(path, dimensions=2)
    if array.dtype.kind != "f" or not array.shape[1]:
        fault = (
            f"holds {array.dtype}{list(array.shape)}; features are floats, at least one per video"
        )
        raise ContentError(path, 0, None, fault)
    return array


def read_ids(file: str | PathLike[str]) -> list[bytes]:
    """The ids of a UTF-8 text file, one per line, or of a .npy file of text, bytes or integers."""
    path = epath.Path(file)
    kind = kind_of(path)
    if kind == NUMPY:
        array = read_array(path, dimensions=1)
        if array.dtype.kind not in "SUiu":
            fault = f"holds {array.dtype}; ids are text, bytes or integers"
            raise ContentError(path, 0, None, fault)
        return [v if isinstance(v, bytes) else str(v).encode() for v in array.tolist()]
    data = path.read_bytes().removeprefix(_BOM)
    if kind != TEXT and b"\0" in data:
        fault = f"is {kind}; give the ids as a text file with one id per line, or as .npy"
        raise ContentError(path, 0, None, fault)
    lines = data.split(b"\n")
    return [line.removesuffix(b"\r") for line in (lines if lines[-1] else lines[:-1])]


def read_rows(
    ids: str | PathLike[str],
    format: VideoLevel,
    *,
    arrays: Mapping[str, epath.Path],
    skips: Skips | None = None,
    chunk_records: int = 2048,
) -> Iterator[Videos]:
    """The videos of an id file and feature arrays, in chunks; row i of each file is video i.

    arrays: key of a modality -> its file. Raises ContentError if the files differ in their number
    of rows or from the format, and for a row without an id; `skips` skips such rows.
    """
    names, faults = read_ids(ids), Faults(ids, skips)
    features, rows = {}, {str(ids): len(names)}
    for modality in format.modalities:
        if modality.key not in arrays:
            known = ", ".join(f"{key}.npy" for key in arrays)
            raise ContentError(ids, 0, None, f"no {modality.key}.npy is among {known}")
        path = arrays[modality.key]
        features[modality.name] = array = read_features(path)
        rows[str(path)] = len(array)
        if array.shape[1] != modality.width:
            fault = f"has width {array.shape[1]}, but {modality.name!r} needs {modality.width}"
            raise ContentError(path, 0, None, fault)
    if len({*rows.values()}) > 1 or not names:
        counts = ", ".join(f"{count:,} in {path}" for path, count in rows.items())
        raise ContentError(ids, 0, None, f"expected one row per id, found {counts}")
    for start in range(0, len(names), chunk_records):
        chunk = names[start : start + chunk_records]
        keep = np.ones(len(chunk), bool)
        for row, name in enumerate(chunk):
            try:
                check_id(name)
            except MessageError as error:
                faults.add(start + row, None, str(error), content=True)
                keep[row] = False
        with np.errstate(over="ignore"):  # overflow to infinity is counted later
            read = {
                name: np.asarray(array[start : start + chunk_records], np.float32)[keep]
                for name, array in features.items()
            }
        yield Videos(
            np.array([name for name, valid in zip(chunk, keep.tolist()) if valid], np.bytes_),
            np.zeros(int(keep.sum()) + 1, np.int64),
            np.empty(0, np.int32),
            read,
            {name: np.ones(int(keep.sum()), bool) for name in features},
        )
