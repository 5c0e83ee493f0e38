"""A digest of an edge file's rows and of what is said of them: Parquet notices no flipped bit."""

import numpy as np
import pyarrow as pa
import xxhash

DIGEST_KEY = b"vidembed_digest"


class EdgeDigest:
    """Taken up batch by batch, on the way to the disk and from it; batches may differ in size.

    mark: the text of the file's metadata, which is covered, too.
    """

    def __init__(self, mark: bytes) -> None:
        self._columns = {"mark": xxhash.xxh3_64(mark)}

    def update(self, batch: pa.RecordBatch) -> None:
        """The next rows: source and target as text, weight (and kept, in older files)."""
        for name, column in zip(batch.schema.names, batch.columns):
            if not pa.types.is_string(column.type):
                numbers = column.to_numpy(zero_copy_only=False)
                self._add(name, numbers.astype("<f8").tobytes())
            elif len(column):
                _, ends, letters = column.buffers()
                ends = np.frombuffer(ends, "<i4")[column.offset :][: len(column) + 1]
                self._add(f"{name} lengths", np.diff(ends).tobytes())
                self._add(name, memoryview(letters or b"")[ends[0] : ends[-1]])

    def hexdigest(self) -> bytes:
        """Of all that was taken up."""
        total = xxhash.xxh3_128()
        for name, column in sorted(self._columns.items()):
            total.update(f"{name} {column.hexdigest()}\n".encode())
        return total.hexdigest().encode()

    def _add(self, name: str, octets: bytes | memoryview) -> None:
        self._columns.setdefault(name, xxhash.xxh3_64()).update(octets)
