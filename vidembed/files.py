"""Files that readers see whole or not at all, on a local disk or remote (gs://)."""

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
"""What Python makes of bytes in names that are no text in the encoding of the machine."""


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
    return Path(path).expanduser()


def is_unfinished(name: str) -> bool:
    """Whether a file of this name is still being written, or was when its writer was killed."""
    return _UNFINISHED.fullmatch(name) is not None


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of room: on the disk, by a quota, or by a limit on files."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        why = f"{error.strerror}; nothing of it was kept"
        if is_full(error):
            why += ", free some space and run it again"
        raise OSError(error.errno, why, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(
    path: epath.PathLike, *, verb: str, inside: epath.PathLike | None = None
) -> Iterator[Path]:
    """A folder for what is too large for the memory while `verb` makes the local file `path`.

    It lies beside `path`, or `inside` another folder, and is removed when the block ends, however
    it ends; what a killed process left there for the same `path` is removed first. Databases take
    UTF-8 alone: where the name of that folder is none, it lies in the one for temporary files.
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


def remove_unfinished(
    folder: epath.PathLike, *, older_than_seconds: float = 0.0, of: str = ""
) -> None:
    """Removes what writers of this folder left when they were killed; remote storage has none.

    of: only the scratch folders of this name.

    Others may be writing here just now: on this machine their processes live, on another the file
    is younger than a minute, for such a write takes milliseconds.
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
    except PermissionError:  # another user's
        pass
    return True


def write_json(path: epath.PathLike, value: Any) -> None:
    """As `write_bytes`, indented JSON. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: epath.PathLike) -> Any:
    """What `write_json` wrote, or None if there is no such file."""
    try:
        return json.loads(epath.Path(path).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged, it is no JSON ({error}): restore it from a copy; without one "
            "remove it, and what it held is made again"
        ) from error


def read_record(path: epath.PathLike, needed: Collection[str], what: str) -> dict[str, Any] | None:
    """As `read_json`, an object that has at least these names; ValueError for anything else.

    what: what it should be, "of a run".
    """
    found = read_json(path)
    if found is None and not epath.Path(path).exists():
        return None
    if not isinstance(found, dict) or not found.keys() >= set(needed):
        raise ValueError(
            f"{path} is damaged, or not {what} (it lacks {', '.join(needed)}): restore it from a "
            "copy, choose another folder, or remove it"
        )
    return found
