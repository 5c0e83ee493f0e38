"""Features of frames as frame-level records, in the layout of YouTube-8M.

As there, features are whitened principal components of frames, stored as bytes over [-2, 2]. One
SequenceExample per video; sound is given at the times of the frames.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath

from vidembed.media.feature_store import FrameFeatures
from vidembed.media.video_table import Column
from vidembed.records.bytecode import YOUTUBE_8M
from vidembed.records.formats import FrameLevel, Modality
from vidembed.records.frames import encode_frames
from vidembed.records.framing import write_records

KEYS = {"visual": "rgb"}
"""Modality → key in the records, if it is not its name."""
VIDEOS_PER_FILE = 1000


def frame_format(columns: Sequence[Column]) -> FrameLevel:
    """The keys and widths of the records. Raises ValueError for features without components."""
    bare = [column.modality for column in columns if column.frames_whitening is None]
    if bare:
        raise ValueError(
            f"{bare[0]}: frame-level records hold whitened components over [-2, 2]: add --pca N "
            "and --pca-on frames"
        )
    return FrameLevel(
        modalities=tuple(
            Modality(name=c.modality, key=KEYS.get(c.modality, c.modality), width=c.frame_width)
            for c in columns
        ),
        max_frames=2**31 - 1,
        missing="mask",
    )


def write_frame_records(
    folder: epath.PathLike, columns: Sequence[Column], ids: Sequence[str]
) -> tuple[int, float]:
    """Write the videos' frames to FOLDER/frames-I-of-N.tfrecord, each file whole or not at all.

    Returns the number of videos, and the share of values beyond [-2, 2], which are clipped.
    """
    columns = list({column.store.folder: column for column in columns}.values())
    format, place = frame_format(columns), epath.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    count, counts = 0, np.zeros(2, np.int64)
    files = math.ceil(len(ids) / VIDEOS_PER_FILE)
    for number in range(files):
        part = ids[number * VIDEOS_PER_FILE : (number + 1) * VIDEOS_PER_FILE]
        path = place / f"frames-{number:05d}-of-{files:05d}.tfrecord"
        count += write_records(path, _payloads(columns, format, part, counts))
    return count, float(counts[0] / max(1, counts[1]))


def _payloads(
    columns: Sequence[Column], format: FrameLevel, ids: Sequence[str], counts: np.ndarray
) -> Iterator[bytes]:
    for video in ids:
        features = {column.modality: column.store.read(video) for column in columns}
        present = {name: of for name, of in features.items() if of and len(of.values)}
        if not present:
            continue
        times = next(iter(present.values())).times
        frames = {}
        for column in columns:
            if column.modality in present and column.frames_whitening is not None:
                values = column.frames_whitening(at_times(present[column.modality], times))
                counts += YOUTUBE_8M.clipped(values), values.size
                frames[column.modality] = YOUTUBE_8M.quantise(values)
        yield encode_frames(video, [], frames, format=format)


def at_times(features: FrameFeatures, times: np.ndarray) -> np.ndarray:
    """The features f32[T, D] at times f64[T]: of the last frame or window that begins by then."""
    rows = np.searchsorted(features.times, times, side="right") - 1
    return np.asarray(features.values[np.maximum(rows, 0)])
