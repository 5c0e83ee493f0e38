"""What reading from a bucket needs: a package of its own, and an error that says which."""

from collections.abc import Iterator
from contextlib import contextmanager

from vidembed.storage import is_remote


class RemoteError(ValueError):
    """A bucket that cannot be read because a package for it is not installed."""


@contextmanager
def installed_for(path: object) -> Iterator[None]:
    """Raise RemoteError, with the command that helps, where the package for `path` is missing."""
    try:
        yield
    except ImportError as error:
        if not is_remote(path):
            raise
        raise RemoteError(
            f"{path}: {error}; for gs:// that is pip install -e '.[gcs]', or copy the files to a "
            "local disk"
        ) from error
