"""Keep an index of records in a folder of the user's, so that the next run need not make it.

`records-<digest>.npz` holds the arrays of a RecordIndex (its CRC-32s detect damage) and the size,
modification time and digest of each file. It is a cache: another index is made if a file changed.
"""

import dataclasses
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from etils import epath

from vidembed.files import local_path, whole_file
from vidembed.records.counts import shard_names
from vidembed.records.frame_index import builder_of
from vidembed.records.record_index import Progress, RecordIndex
from vidembed.records.record_layout import RecordLayout
from vidembed.records.remote import ends_digest

# Increase this whenever an index would hold something else than before.
VERSION = 2
_ARRAYS = (
    "first_rows", "starts", "sizes", "crcs", "ids", "label_offsets", "label_values", "lengths",
)  # fmt: skip
_HEAD, _VECTORS = "head", "vectors/"
_DAMAGED = (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error)

_log = logging.getLogger(__name__)


def read_index(
    folder: str | os.PathLike[str],
    pattern: str,
    files: Sequence[epath.Path],
    layout: RecordLayout,
    *,
    progress: Progress = lambda *_: None,
) -> RecordIndex:
    """The index of the files: read from the local folder, or made and written.

    A stored index is used if each file has the same size, and the same modification time or the
    same first and last 64 KiB. Other changes are detected by the crcs when records are read.
    """
    path = _place(folder, files, layout)
    index = _load(path, files)
    if index is None:
        before = _identities(files)
        index = builder_of(layout)(pattern, files, layout, progress=progress)
        _store(path, before, index)
    return index


def _place(
    folder: str | os.PathLike[str], files: Sequence[epath.Path], layout: RecordLayout
) -> Path:
    content = dataclasses.asdict(dataclasses.replace(layout, space=()))
    digest = xxhash.xxh3_64_hexdigest(repr((VERSION, shard_names(files), content)).encode())
    return local_path(folder) / f"records-{digest}.npz"


def _identities(files: Sequence[epath.Path]) -> list[dict[str, Any]]:
    identities = []
    for file in files:
        status = os.stat(file)
        identities.append(
            {
                "bytes": status.st_size,
                "modified_ns": status.st_mtime_ns,
                "ends": ends_digest(file, status.st_size).hex(),
            }
        )
    return identities


def _load(path: Path, files: Sequence[epath.Path]) -> RecordIndex | None:
    """The stored index; None if there is none, it is damaged, or a file has changed."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            head = json.loads(stored[_HEAD].tobytes())
            arrays = {name: stored[name] for name in _ARRAYS}
            vectors = {name: stored[_VECTORS + name] for name in head["digests"]}
    except _DAMAGED as error:
        _log.warning("%s is damaged (%s): making the index again", path, error)
        return None
    for file, known in zip(files, head["files"], strict=True):
        if not _is_unchanged(file, known):
            _log.warning("%s has changed since %s was made: making it again", file, path)
            return None
    return RecordIndex(**arrays, vectors=vectors, digests=head["digests"])


def _is_unchanged(file: epath.Path, known: dict[str, Any]) -> bool:
    status = os.stat(file)
    if status.st_size != known["bytes"]:
        return False
    if status.st_mtime_ns == known["modified_ns"]:
        return True
    return ends_digest(file, status.st_size).hex() == known["ends"]


def _store(path: Path, identities: list[dict[str, Any]], index: RecordIndex) -> None:
    head = json.dumps({"files": identities, "digests": index.digests}).encode()
    arrays = {name: getattr(index, name) for name in _ARRAYS}
    arrays |= {_VECTORS + name: positions for name, positions in index.vectors.items()}
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **{_HEAD: np.frombuffer(head, np.uint8)})
