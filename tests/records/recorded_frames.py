"""Small frame-level TFRecords of videos with labels, ragged, and their pooling by loops."""

import numpy as np

from vidembed.records.bytecode import dequantise
from vidembed.records.example import encode_example
from vidembed.records.formats import YOUTUBE_8M
from vidembed.records.frames import encode_frames
from vidembed.records.framing import write_records
from vidembed.records.record_layout import RecordLayout
from vidembed.records.table import FeatureTable

MOST = 9
LAYOUT = RecordLayout(
    level="frame", modalities=("visual:rgb:7", "audio:audio:3"), missing="mask", max_frames=MOST
)
POOLED = tuple(
    f"{modality}{statistic}"
    for modality in ("visual", "audio")
    for statistic in ("", "_deviation", "_top5", "_max")
)
SIZES = (75, 1, 84)
VIDEOS, CLASSES = sum(SIZES), 5
EMPTY = 13
"""The video without a frame."""


def made_videos():
    """(id, labels, frames u8[t, F] by modality) of each video; classes follow the features."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(4, 10)) * 20, rng.normal(size=(4, CLASSES))
    for number in range(VIDEOS):
        hidden = rng.normal(size=4)
        length = 0 if number == EMPTY else int(rng.integers(1, 13))
        values = hidden @ maps[0] + 128 + rng.normal(size=(length, 10)) * 30
        frames = {"visual": np.clip(values, 0, 255).astype(np.uint8)[:, :7]}
        if number % 6:
            frames["audio"] = np.clip(values, 0, 255).astype(np.uint8)[:, 7:]
        labels = np.flatnonzero(hidden @ maps[1] + rng.normal(size=CLASSES) > 0.5)
        yield f"v{number:03d}", labels, frames


def write(folder):
    """The paths of the files, which a folder gets; some records have another layout."""
    records, paths = [], []
    for number, (name, labels, frames) in enumerate(made_videos()):
        payload = encode_frames(name, labels, frames, format=LAYOUT.frame_format())
        more = encode_example({"more": b"x" * number})
        records.append(payload + more if number % 9 == 4 else payload)
    for number, size in enumerate(SIZES):
        paths.append(folder / f"videos{number}.tfrecord")
        write_records(paths[-1], records[:size])
        records = records[size:]
    return paths


def pooled_by_loops(frames):
    """{"": mean, "_deviation", "_top5", "_max"} of u8[t, F] in float64, feature by feature."""
    columns = dequantise(frames[:MOST]).astype(np.float64).T.tolist()
    means = [sum(column) / len(column) for column in columns]
    squares = [
        sum((value - mean) ** 2 for value in column) / len(column)
        for column, mean in zip(columns, means)
    ]
    largest = [sorted(column)[-5:] for column in columns]
    return {
        "": np.array(means),
        "_deviation": np.sqrt(squares),
        "_top5": np.array([sum(five) / len(five) for five in largest]),
        "_max": np.array([five[-1] for five in largest]),
    }


def pooled_table():
    """The same videos at video level, pooled on the host by loops."""
    videos = list(made_videos())
    features = {
        name: np.zeros((VIDEOS, 7 if name.startswith("visual") else 3), np.float32)
        for name in POOLED
    }
    present = {name: np.zeros(VIDEOS, bool) for name in POOLED}
    for row, (_, _, frames) in enumerate(videos):
        for modality, each in frames.items():
            if len(each):
                for statistic, vector in pooled_by_loops(each).items():
                    features[modality + statistic][row] = vector
                    present[modality + statistic][row] = True
    labels = [labels for _, labels, _ in videos]
    return FeatureTable(
        ids=np.array([name for name, _, _ in videos], "S4"),
        features=features,
        present=present,
        label_offsets=np.concatenate([[0], np.cumsum([len(each) for each in labels])]),
        label_values=np.concatenate(labels).astype(np.int32),
    )


def video_level_record():
    """A record of YouTube-8M's video level."""
    values = {m.key: np.zeros(m.width, np.float32) for m in YOUTUBE_8M.modalities}
    return encode_example({"id": b"abcd", "labels": np.array([1]), **values})
