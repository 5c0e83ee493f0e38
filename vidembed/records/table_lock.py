"""Lock the folder of a table, so that only one process writes it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from vidembed.records.arrays import TableError, explained, location


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Hold the write lock of a table; raises TableError if another process holds it.

    The folder itself is locked, so no lock file remains; it is created, and removed again if it
    stays empty. Object storage and some network disks have no locks: there the user must run one
    writer at a time.
    """
    place, name = location(path), os.fspath(path)
    if place["driver"] != "file":
        yield
        return
    with explained(f"cannot write the feature table {name}", "Check the path and the rights."):
        os.makedirs(place["path"], exist_ok=True)
        folder = os.open(place["path"], os.O_RDONLY)
    try:
        if not _lock(folder, place["path"]):
            raise TableError(
                f"{name} is being written by another process: wait for it to end, and run this "
                "again"
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(place["path"])
    finally:
        os.close(folder)


def _lock(folder: int, path: str) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a network disk without locks
    # Another writer may have removed the folder just before we locked it.
    return os.path.exists(path) and os.path.samestat(os.fstat(folder), os.stat(path))
