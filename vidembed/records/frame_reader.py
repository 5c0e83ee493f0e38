"""Read the frames of any rows from frame-level TFRecords, through an index of their records."""

from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from vidembed.records.formats import FrameLevel, Modality
from vidembed.records.frame_layout import FrameList, stride_of
from vidembed.records.frame_pooling import BLOCK_VIDEOS, pool_block, pooled_name
from vidembed.records.frames import parse_frames
from vidembed.records.record_index import ABSENT, ELSEWHERE, RecordIndex
from vidembed.records.record_payloads import Payloads

HELD_BYTES = 1 << 30
"""Pooled vectors of a statistic stay in memory if those of all videos take at most this much."""


class FrameReader:
    """Frames and pooled vectors of the rows of an index.

    lengths: i32[N], the frames of each video, at most T = `steps` of them.
    """

    def __init__(self, files: Sequence[epath.Path], index: RecordIndex, format: FrameLevel) -> None:
        """files: the indexed files, which must be local."""
        self.index, self.format = index, format
        self.lengths = np.minimum(index.lengths, np.int32(format.max_frames))
        self.steps = int(self.lengths.max(initial=1)) or 1
        self._payloads = Payloads(files, index)
        self._held: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def read(self, rows: np.ndarray, out: Mapping[str, np.ndarray]) -> None:
        """Write the frames of rows i64[n] to `out`, name -> u8[n, T, F]; safe from several threads.

        Zeros after the frames of a video, and for a modality that it lacks. Modalities that `out`
        lacks are not copied. Raises RecordError for bytes that are not those that were indexed.
        """
        for numbers, some, data, places in self._payloads.blocks(rows):
            for number, row, place in zip(numbers.tolist(), some.tolist(), places.tolist()):
                payload = data[place : place + int(self.index.sizes[row])]
                for modality in self.format.modalities:
                    if modality.name in out:
                        frames = self._frames(payload, row, modality)
                        target = out[modality.name][number]
                        target[: len(frames)] = frames
                        target[len(frames) :] = 0

    def pooled(self, modality: str, statistic: str, rows: np.ndarray) -> np.ndarray:
        """The pooled vectors f32[n, F] of rows i64[n]; zeros for a video without the modality.

        Vectors that are held in memory are read and pooled once, all modalities together.
        """
        name, widths = pooled_name(modality, statistic), self.format.widths
        if 4 * len(self.lengths) * sum(widths.values()) > HELD_BYTES:
            vectors = np.empty((len(rows), widths[modality]), np.float32)
            self._pool(rows, {modality: vectors}, np.arange(len(rows)), statistic)
            return vectors
        if name not in self._held:
            for each, width in widths.items():
                filled = np.zeros(len(self.lengths), bool)
                vectors = np.empty((len(filled), width), np.float32)
                self._held[pooled_name(each, statistic)] = vectors, filled
        vectors, filled = self._held[name]
        if len(new := np.unique(rows[~filled[rows]])):
            held = {each: self._held[pooled_name(each, statistic)] for each in widths}
            self._pool(new, {each: array for each, (array, _) in held.items()}, new, statistic)
            for _, known in held.values():
                known[new] = True
        return vectors[rows]

    def _pool(
        self, rows: np.ndarray, out: Mapping[str, np.ndarray], places: np.ndarray, statistic: str
    ) -> None:
        """Write a statistic of rows i64[n] to the `places` i64[n] of `out`."""
        widths = self.format.widths
        frames = {
            m: np.empty((min(BLOCK_VIDEOS, len(rows)), self.steps, widths[m]), np.uint8)
            for m in out
        }
        for start in range(0, len(rows), BLOCK_VIDEOS):
            some = rows[start : start + BLOCK_VIDEOS]
            block = {m: array[: len(some)] for m, array in frames.items()}
            self.read(some, block)
            vectors = pool_block(block, self.lengths[some], (statistic,))
            for m, array in out.items():
                has = (self.index.vectors[m][some] != ABSENT)[:, None]
                pooled = np.where(has, vectors[pooled_name(m, statistic)], np.float32(0))
                array[places[start : start + BLOCK_VIDEOS]] = pooled

    def _frames(self, payload: np.ndarray, row: int, modality: Modality) -> np.ndarray:
        """u8[t, F]: the frames of a modality in a payload, none if the video lacks it."""
        position, count = int(self.index.vectors[modality.name][row]), int(self.lengths[row])
        if position == ABSENT:
            return np.empty((0, modality.width), np.uint8)
        if position == ELSEWHERE:
            return parse_frames(payload.tobytes(), self.format).frames[modality.name]
        place = FrameList(position, stride_of(modality.width), count)
        return place.bytes_of(payload, modality.width, count)
