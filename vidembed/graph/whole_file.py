"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def local_path(path: str | os.PathLike[str]) -> Path:
    """The path, where it is on a local disk; ValueError for gs:// and its like.

    Path would make a folder `gs:` of it.
    """
    if "://" in os.fspath(path):
        raise ValueError(
            f"{path}: is not on a local disk, and this file can be written only there: give a "
            "local path, and copy the file afterwards"
        )
    return Path(path)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to, which becomes `path` when the block ends well.

    When it does not, what was written is removed and an older file stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        # That of a full disk names no file.
        why = f"{error.strerror}; nothing of it was kept, free some space and run it again"
        raise OSError(error.errno, why, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)
