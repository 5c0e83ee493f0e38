"""Write files atomically, on a local disk or remote (gs://), and read small JSON files."""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from etils import epath

_UNFINISHED = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.[0-9a-f]+")

_NO_UTF8 = re.compile("[\ud800-\udfff]")
"""Surrogates, by which Python represents bytes in file names that are not valid text."""


def is_remote(path: object) -> bool:
    """Whether a path is on object storage: no appending, no locks, files written as a whole."""
    return "://" in str(path)


def local_path(path: str | os.PathLike[str]) -> Path:
    """The path, if it is on a local disk; ValueError for gs:// and the like.

    (Path would turn those into a folder `gs:`.)
    """
    if is_remote(path):
        raise ValueError(
            f"{path}: is not on a local disk, where this file must be written: give a local path, "
            "and copy the file afterwards"
        )
    return Path(path).expanduser()


def is_unfinished(name: str) -> bool:
    """Whether a file of this name is still being written, or was when its writer was killed."""
    return _UNFINISHED.fullmatch(name) is not None


def is_full(error: OSError) -> bool:
    """Whether a write failed for lack of space: disk, quota, or limit on the file size."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def whole_file(path: epath.PathLike) -> Iterator[epath.Path]:
    """A temporary path beside `path` to write to, renamed to `path` when the block succeeds.

    If the block raises, the temporary file is removed and an older file stays as it was. Creates
    the folder. An OSError of the disk names `path`.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # With the process id and a random part, because other hosts may write the same file.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(unfinished)):
            raise
        why = f"{error.strerror}; nothing was written"
        if is_full(error):
            why += ", free some space and run it again"
        raise OSError(error.errno, why, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(
    path: epath.PathLike, *, verb: str, inside: epath.PathLike | None = None
) -> Iterator[Path]:
    """A folder for data beyond memory while `verb` makes the local file `path`.

    It is created beside `path`, or `inside` another folder, and removed when the block ends in any
    way; leftovers of a killed process for the same `path` are removed first. Because databases
    accept only UTF-8 paths, other paths are replaced by the folder for temporary files.
    """
    path = local_path(path)
    place = Path(inside or path.parent)
    if _NO_UTF8.search(str(place.absolute())):
        place = Path(tempfile.gettempdir())
    place.mkdir(parents=True, exist_ok=True)
    name = _NO_UTF8.sub("_", f"{verb}-{path.name}")
    remove_unfinished(place, of=name)
    folder = place / f".{name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Write or replace a file atomically; creates its folder."""
    if is_remote(path):
        path = epath.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return
    with whole_file(path) as unfinished:
        unfinished.write_bytes(data)


def write_text(path: epath.PathLike, text: str) -> None:
    """As `write_bytes`, for text in UTF-8."""
    write_bytes(path, text.encode())


def remove_unfinished(
    folder: epath.PathLike, *, older_than_seconds: float = 0.0, of: str = ""
) -> None:
    """Remove leftovers of killed writers from this folder; remote storage has none.

    of: only scratch folders of this name.

    Files being written by live processes of this machine are not touched. Writers on other machines
    are recognised by `older_than_seconds`: such a write takes milliseconds, so a minute suffices.
    """
    if is_remote(folder) or not os.path.isdir(folder):
        return
    for entry in list(os.scandir(folder)):
        unfinished = _UNFINISHED.fullmatch(entry.name)
        if not unfinished or of not in ("", unfinished["name"]) or _lives(int(unfinished["pid"])):
            continue
        with contextlib.suppress(FileNotFoundError):
            if time.time() - entry.stat().st_mtime < older_than_seconds:
                continue
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
            elif of:
                shutil.rmtree(entry.path, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # a process of another user
        pass
    return True


def write_json(path: epath.PathLike, value: Any) -> None:
    """As `write_bytes`, for indented JSON. Refuses NaN, which is not JSON."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: epath.PathLike) -> Any:
    """Read a file written by `write_json`; None if there is no such file."""
    try:
        return json.loads(epath.Path(path).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged, it is not JSON ({error}): restore it from a copy; without a copy "
            "remove it, and its content will be created again"
        ) from error


def read_record(path: epath.PathLike, needed: Collection[str], what: str) -> dict[str, Any] | None:
    """As `read_json`, for an object with at least these names; ValueError for anything else.

    what: the expected kind of file, such as "of a run", for the message.
    """
    record = read_json(path)
    if record is None and not epath.Path(path).exists():
        return None
    if not isinstance(record, dict) or not record.keys() >= set(needed):
        raise ValueError(
            f"{path} is damaged, or not {what} (it lacks {', '.join(needed)}): restore it from a "
            "copy, choose another folder, or remove it"
        )
    return record
