"""Small TFRecords of videos with labels, in three files, for tests of records on disk."""

import numpy as np

from tests.messages import encode_video
from vidembed.records.example import encode_example
from vidembed.records.framing import write_records
from vidembed.records.record_layout import RecordLayout

LAYOUT = RecordLayout(modalities=("visual:v:5", "audio:a:3"), missing="mask")
SIZES = (37, 1, 60)
VIDEOS = sum(SIZES)


def payloads(*, seed=0, videos=VIDEOS):
    """Records of which some have no audio, and some a layout that only the general parser reads."""
    rng, format = np.random.default_rng(seed), LAYOUT.format()
    for number in range(videos):
        features = {"visual": rng.uniform(-1.9, 1.9, 5), "audio": rng.uniform(-1.9, 1.9, 3)}
        if rng.random() < 0.2:
            del features["audio"]
        labels = rng.permutation(6)[: rng.integers(0, 4)]
        payload = encode_video(f"v{number:03d}", labels, features, format)
        yield payload + encode_example({"more": b"x" * number}) if number % 9 == 4 else payload


def write(folder, **options):
    """The paths of the files, which a folder gets."""
    records, paths = list(payloads(**options)), []
    for number, size in enumerate(SIZES):
        paths.append(folder / f"videos{number}.tfrecord")
        write_records(paths[-1], records[:size])
        records = records[size:]
    return paths
