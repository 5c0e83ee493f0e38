"""A range of a file's bytes, by one request where the file is remote."""

import fsspec
from etils import epath

from vidembed.records.remote import installed_for
from vidembed.storage import is_remote


def read_range(path: epath.Path, start: int, stop: int) -> bytes:
    """The bytes [start, stop) of a file; fewer where it ends before. Raises RemoteError."""
    if is_remote(path):
        # An opened remote file asks for its size first, and then reads megabytes ahead.
        with installed_for(path):
            system, name = fsspec.url_to_fs(str(path))
        return bytes(system.cat_file(name, start, stop))
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        return file.read(stop - start)
