"""Read the features of any rows from TFRecord files, through an index of their records.

The index knows where each vector begins in its record and the crc of the record, so a read parses
nothing: it checks that the payload is the one that was indexed, and copies the vectors.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from etils import epath

from vidembed.records.formats import VideoLevel
from vidembed.records.record_index import ELSEWHERE, RecordIndex
from vidembed.records.record_payloads import Payloads
from vidembed.records.table_rows import as_stored
from vidembed.records.youtube8m import parse_video


class RecordReader:
    """Features of the rows of an index; safe to use from several threads."""

    def __init__(
        self, files: Sequence[epath.Path], index: RecordIndex, format: VideoLevel, dtype: np.dtype
    ) -> None:
        """files: the indexed files, which must be local. dtype: as which features are returned."""
        self.index, self.format, self.dtype = index, format, dtype
        self._payloads = Payloads(files, index)

    def read(self, rows: np.ndarray, out: Mapping[str, np.ndarray]) -> None:
        """Write the features of rows i64[n] to `out`, name -> [n, F] of `dtype`, C-contiguous.

        Modalities that `out` lacks are not copied. Zeros for a modality that a video lacks. Raises
        RecordError, naming file and record, for bytes that are not those that were indexed.
        """
        for numbers, some, data, places in self._payloads.blocks(rows):
            for name, stored in self._vectors(some, data, places, out):
                # One item per row, which NumPy copies bytewise.
                item = f"V{stored.shape[1] * stored.itemsize}"
                out[name].view(item)[numbers, 0] = stored.view(item)[:, 0]

    def _vectors(
        self, rows: np.ndarray, data: np.ndarray, places: np.ndarray, names: Mapping[str, object]
    ) -> Iterator[tuple[str, np.ndarray]]:
        """(name, [n, F] of `dtype`) of the modalities `names`."""
        for modality in self.format.modalities:
            if modality.name not in names:
                continue
            positions, size = self.index.vectors[modality.name][rows], 4 * modality.width
            # Each vector is one item of a void dtype, which NumPy copies bytewise.
            items = np.ndarray((max(len(data) - size + 1, 0),), f"V{size}", data, strides=(1,))
            usual = positions >= 0
            if usual.all():
                vectors = items[places + positions]
            else:
                vectors = np.zeros(len(rows), items.dtype)
                vectors[usual] = items[(places + positions)[usual]]
            floats = vectors.view("<f4").reshape(-1, modality.width)
            for row in np.flatnonzero(positions == ELSEWHERE).tolist():
                begin = int(places[row])
                payload = data[begin : begin + int(self.index.sizes[rows[row]])].tobytes()
                floats[row] = parse_video(payload, self.format).features[modality.name]
            if self.dtype != np.float32:
                floats = as_stored({modality.name: floats}, self.dtype)[modality.name]
            yield modality.name, floats
