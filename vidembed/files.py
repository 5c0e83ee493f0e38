"""Files that readers see whole or not at all, on a local disk or remote (gs://)."""

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

_UNFINISHED = re.compile(r"\..+\.(?P<pid>\d+)\.[0-9a-f]+")


def is_remote(path: object) -> bool:
    """Whether a path names object storage: no appending, no locks, each write whole."""
    return "://" in str(path)


def local_path(path: str | os.PathLike[str]) -> Path:
    """The path, if it is on a local disk; ValueError for gs:// and its like.

    Path would make a folder `gs:` of it.
    """
    if is_remote(path):
        raise ValueError(
            f"{path}: is not on a local disk, and this file can be written only there: give a "
            "local path, and copy the file afterwards"
        )
    return Path(path)


def is_unfinished(name: str) -> bool:
    """Whether a file of this name is still being written, or was when its writer was killed."""
    return _UNFINISHED.fullmatch(name) is not None


@contextlib.contextmanager
def whole_file(path: epath.PathLike) -> Iterator[epath.Path]:
    """A place beside `path` to write to, which becomes `path` when the block ends well.

    If the block raises, what was written is removed and an older file stays as it was. The folder
    is made. An OSError of the disk names `path`.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # By process, and by a random part: other hosts may write the same file.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(unfinished)):
            raise
        why = error.strerror
        if error.filename is None:
            # A full disk, most likely; the system names no file then.
            why = f"{why}; nothing of it was kept, free some space and run it again"
        raise OSError(error.errno, why, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Writes or replaces a file at once; its folder is made."""
    if is_remote(path):
        path = epath.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return
    with whole_file(path) as unfinished:
        unfinished.write_bytes(data)


def write_text(path: epath.PathLike, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def remove_unfinished(folder: epath.PathLike, *, older_than_seconds: float = 0.0) -> None:
    """Removes what writers of this folder left when they were killed; remote storage has none.

    Others may be writing here just now: on this machine their processes live, on another the file
    is younger than a minute, for such a write takes milliseconds.
    """
    if is_remote(folder) or not os.path.isdir(folder):
        return
    for entry in list(os.scandir(folder)):
        unfinished = _UNFINISHED.fullmatch(entry.name)
        if unfinished and not _lives(int(unfinished["pid"])):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat().st_mtime >= older_than_seconds:
                    os.unlink(entry.path)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True


def write_json(path: epath.PathLike, value: Any) -> None:
    """As `write_bytes`, indented JSON. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: epath.PathLike) -> Any:
    """What `write_json` wrote, or None if there is no such file."""
    try:
        return json.loads(epath.Path(path).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged, it is no JSON ({error}): restore it from a copy; without one "
            "remove it, and what it held is made again"
        ) from error
