"""A bucket for tests: what `epath` and fsspec reach as gs://, in memory."""

from typing import ClassVar

from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile


class Bucket(MemoryFileSystem):
    """A gs:// that lives in memory, is opened as buckets are, and counts what is asked of it."""

    protocol = ("gs", "gcs")
    store, pseudo_dirs = {}, [""]  # as fsspec shares them
    requests: ClassVar = []

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.split("://")[-1])

    def glob(self, path, **kwargs):
        return [found.lstrip("/") for found in super().glob(path, **kwargs)]

    def _open(self, path, mode="rb", **kwargs):
        if mode != "rb":
            return super()._open(self._strip_protocol(path), mode, **kwargs)
        return BucketFile(self, path, mode, **kwargs | {"block_size": 1 << 12})

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.requests.append((path, start, end))
        return self.store[self._strip_protocol(path)].getvalue()[start:end]


class BucketFile(AbstractBufferedFile):
    def _fetch_range(self, start, end):
        return self.fs.cat_file(self.path, start, end)
