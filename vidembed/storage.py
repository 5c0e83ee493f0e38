"""Small files that readers see whole or not at all, on a local disk or remote (gs://)."""

import contextlib
import json
import os
import re
import threading
import time
from typing import Any

from etils import epath

# What `write_bytes` calls a file that is not whole yet: by process and thread.
_UNFINISHED = re.compile(r"\..+\.(?P<pid>\d+)\.\d+")


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path names object storage: no appending, no locks, each write whole."""
    return "://" in str(path)


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes or replaces a file at once, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Writes or replaces a file at once."""
    path = epath.Path(path)
    if is_remote(path):
        path.write_bytes(data)
        return
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        new.write_bytes(data)
        new.replace(path)
    except OSError as error:
        # That of a full disk names no file.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        new.unlink(missing_ok=True)


def remove_unfinished(folder: epath.PathLike, *, older_than_seconds: float = 0.0) -> None:
    """Removes what writers of this folder left when they were killed; remote storage has none.

    Others may be writing here just now: theirs are younger than a minute, for a write takes
    milliseconds. This process's own are left alone.
    """
    if is_remote(folder) or not os.path.isdir(folder):
        return
    for entry in list(os.scandir(folder)):
        unfinished = _UNFINISHED.fullmatch(entry.name)
        if unfinished and unfinished["pid"] != str(os.getpid()):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat().st_mtime >= older_than_seconds:
                    os.unlink(entry.path)


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes or replaces a file at once; its folder is made. NaN is refused: it is not JSON."""
    path = epath.Path(path)
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


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
