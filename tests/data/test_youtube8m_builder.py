"""The TFDS builder gives the records of the shards, without TensorFlow."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vidembed.records.framing import read_records, write_records
from vidembed.records.youtube8m import read_videos

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "data/youtube8m"


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Prepares the shards of a folder and returns the builder."""
    monkeypatch.syspath_prepend(str(ROOT))

    def prepare(folder, config="manual"):
        import tensorflow_datasets as tfds

        from data.youtube8m.youtube8m import Youtube8m

        builder = Youtube8m(config=config, data_dir=tmp_path / "prepared")
        manual = tfds.download.DownloadConfig(manual_dir=folder)
        builder.download_and_prepare(download_config=manual)
        return builder

    return prepare


def test_values_are_those_of_the_shards(prepare, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    shard = SAMPLE / "validate0003.tfrecord"
    shutil.copy(shard, folder)
    write_records(folder / "train0001.tfrecord", list(read_records(shard))[:5])
    builder = prepare(folder)
    videos = next(read_videos(shard))
    source = builder.as_data_source(split="validation")
    assert len(source) == len(videos.ids) == 300
    for row, example in enumerate(source):
        assert example["id"] == videos.ids[row]
        first, last = videos.label_offsets[row : row + 2]
        assert example["labels"] == videos.label_values[first:last].tolist()
        for name in ("visual", "audio"):
            assert example[name].dtype == np.float32
            np.testing.assert_array_equal(example[name], videos.features[name][row])
    assert len(builder.as_data_source(split="train")) == 5
    assert builder.info.splits["validation"].num_examples == 300


def test_sample_is_complete_and_needs_no_tensorflow(tmp_path):
    # In a process of its own: another test may have imported whatever it likes.
    program = (
        "import sys\n"
        "from data.youtube8m.youtube8m import Youtube8m\n"
        "builder = Youtube8m(data_dir=sys.argv[1])\n"
        "builder.download_and_prepare()\n"
        "print(len(builder.as_data_source(split='validation')))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    counts = json.loads((SAMPLE / "counts.json").read_text())
    assert int(done.stdout.split()[-1]) == sum(counts.values())


def test_folder_without_the_shards(prepare, tmp_path):
    shutil.copy(SAMPLE / "validate0003.tfrecord", tmp_path / "x.tfrecord")
    with pytest.raises(ValueError, match=r"no shard is named train\* or validate\*.*x.tfrecord"):
        prepare(tmp_path)


def test_counts_and_checksums_are_those_of_the_files():
    import hashlib

    counts = json.loads((SAMPLE / "counts.json").read_text())
    files = sorted(SAMPLE.glob("*.tfrecord"))
    assert counts == {file.name: sum(1 for _ in read_records(file)) for file in files}
    lines = (SAMPLE / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    assert sums.keys() == {file.name for file in files} | {"SjJ3.npz", "vocabulary.csv"}
    for name, digest in sums.items():
        assert hashlib.sha256((SAMPLE / name).read_bytes()).hexdigest() == digest
