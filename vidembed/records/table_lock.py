"""One writer at a time in the folder of a table."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from vidembed.records.arrays import TableError, explained, location


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Inside, no other process writes this table; raises TableError where one does.

    The folder itself is locked, so that nothing is left of a lock; it is made, and removed again
    where it stays empty. Object storage has no locks, nor have some network disks: there it is for
    the user to run one at a time.
    """
    place, name = location(path), os.fspath(path)
    if place["driver"] != "file":
        yield
        return
    with explained(f"cannot write the feature table {name}", "Check the path and the rights."):
        os.makedirs(place["path"], exist_ok=True)
        folder = os.open(place["path"], os.O_RDONLY)
    try:
        if not _alone(folder, place["path"]):
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


def _alone(folder: int, path: str) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a network disk without locks
    # Another writer may have removed the folder just before we locked it.
    return os.path.exists(path) and os.path.samestat(os.fstat(folder), os.stat(path))
