"""The frames of some videos, for models that pool them with learned weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from vidembed.records.frame_reader import FrameReader


class FrameRows(NamedTuple):
    """The frames of B videos.

    values   u8[B, T, F]  as stored, zeros after a video's last frame
    lengths  i32[B]       the frames of each video
    """

    values: Any
    lengths: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """Where the frames of the N rows of a table are."""

    reader: "FrameReader"
    records: np.ndarray
    """i64[N]: the row of the reader for each row of the table."""

    def read(self, rows: np.ndarray, modalities: Iterable[str]) -> dict[str, FrameRows]:
        """The frames of rows i64[B] of the table, by modality.

        Raises ValueError for a modality that is not one of frames, and RecordError for files that
        changed.
        """
        records, widths = self.records[rows], self.reader.format.widths
        values = {}
        for modality in modalities:
            if modality not in widths:
                raise ValueError(f"the records have frames of {', '.join(widths)}: no {modality!r}")
            shape = (len(records), self.reader.steps, widths[modality])
            values[modality] = np.empty(shape, np.uint8)
        self.reader.read(records, values)
        lengths = self.reader.lengths[records]
        return {name: FrameRows(array, lengths) for name, array in values.items()}

    def part(self, rows: np.ndarray) -> "Frames":
        """The frames of some rows i64[n] of the table."""
        return Frames(reader=self.reader, records=self.records[rows])
