"""Labels of windows: video, start and end instead of the window's id, in both forms of file."""

import csv

import numpy as np
import pyarrow.parquet as pq
import pytest

from vidembed.deploy.label_output import label_writer


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_windows_have_their_start_and_end(tmp_path, suffix):
    ids = np.array([b"a@b@0-1.5", b"v@1.5-3", b"plain"])
    labels = [(np.array([1, 0]), np.array([0.75, 0.25])), (np.array([0]), np.array([0.5]))]
    labels.append((np.array([1]), np.array([0.125])))
    path = tmp_path / f"out.{suffix}"
    with label_writer(path, "rows", ["cat", "dog"], {}, windows=True) as write:
        assert write(ids, iter(labels)) == 4
    if suffix == "parquet":
        rows = [tuple(row.values()) for row in pq.read_table(path).to_pylist()]
    else:
        with path.open() as file:
            _, *lines = csv.reader(file)
        rows = [
            (video, *(float(x) if x else None for x in times), label, int(number), float(score))
            for video, *times, label, number, score in lines
        ]
    assert rows == [
        ("a@b", 0.0, 1.5, "dog", 1, 0.75), ("a@b", 0.0, 1.5, "cat", 0, 0.25),
        ("v", 1.5, 3.0, "cat", 0, 0.5), ("plain", None, None, "dog", 1, 0.125),
    ]  # fmt: skip
