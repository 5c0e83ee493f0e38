"""Written videos are read back unchanged; features that a record cannot hold are refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import many
from vidembed.records.formats import Modality, VideoLevel
from vidembed.records.importing import Importing, import_videos
from vidembed.records.table import FeatureTable
from vidembed.records.writer import write_videos
from vidembed.records.youtube8m import read_videos

GUIDE = Path(__file__).parents[2] / "GUIDE.md"
IDS = st.lists(
    st.text(min_size=1, max_size=4).filter(lambda s: "\0" not in s), unique=True, min_size=1
)
LABELS = st.lists(st.integers(0, 2**31 - 1), max_size=3)
FLOATS = st.floats(width=32, allow_nan=False)


@many(40)
@given(st.data(), IDS, st.booleans(), st.booleans())
def test_round_trip(tmp_path_factory, data, ids, labelled, compress):
    path = tmp_path_factory.mktemp("w") / "a.tfrecord"
    rows = st.lists(FLOATS, min_size=3, max_size=3).map(lambda x: np.array(x, np.float32))
    v = [data.draw(rows) for _ in ids]
    a = [data.draw(rows | st.none()) for _ in ids]
    labels = [data.draw(LABELS) for _ in ids] if labelled else None
    assert write_videos(path, ids, {"v": v, "a": a}, labels, compress=compress) == len(ids)
    format = VideoLevel(
        modalities=(Modality(name="v", key="v", width=3), Modality(name="a", key="a", width=3)),
        labels_key="labels" if labelled else None,
        missing="mask",
    )
    [videos] = read_videos(path, format)
    assert videos.ids.tolist() == [name.encode() for name in ids]
    np.testing.assert_array_equal(videos.features["v"], v)
    assert videos.present["a"].tolist() == [row is not None for row in a]
    for i, given_labels in enumerate(labels or []):
        begin, end = videos.label_offsets[i : i + 2]
        assert videos.label_values[begin:end].tolist() == given_labels


def test_the_snippet_of_the_guide_writes_a_file_that_can_be_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [snippet] = re.findall(r"```python\n(.*?write_videos.*?)```", GUIDE.read_text(), re.DOTALL)
    exec(snippet, {})
    options = Importing(modalities=("visual:clip:512",))
    assert import_videos("own.tfrecord", "table", options)["rows"] == 2
    assert FeatureTable.open("table").labels(0).tolist() == [3, 7]


ROWS = np.ones((2, 3), np.float32)


@pytest.mark.fault(
    "Records: own features that no record can hold",
    "refused with the video; nothing is written",
)
@pytest.mark.parametrize(
    ("ids", "features", "labels", "message"),
    [
        (["a", "a"], {"v": ROWS}, None, "the id b'a' occurs twice"),
        (["a", ""], {"v": ROWS}, None, "video 1: id b'': expected at least one byte"),
        (["a"], {"v": ROWS}, None, "one row per id.*'v': 2"),
        (["a", "b"], {}, None, "at least one modality"),
        (["a", "b"], {"id": ROWS}, None, "not called id or labels"),
        (["a", "b"], {"v": ROWS.astype(int)}, None, r"v is int64\[3\]; expected floats \[3\]"),
        (["a", "b"], {"v": [ROWS[0], ROWS[0, :2]]}, None, r"b'b': v is float32\[2\]; exp.*\[3\]"),
        (["a", "b"], {"v": ROWS}, [[1], [-1]], "video b'b': labels are integers from 0"),
        (["a", "b"], {"v": ROWS}, [[1], [0.5]], "video b'b': labels are integers from 0"),
    ],
)  # fmt: skip
def test_invalid_videos_are_refused_and_nothing_is_written(
    tmp_path, ids, features, labels, message
):
    with pytest.raises(ValueError, match=message):
        write_videos(tmp_path / "a", ids, features, labels)
    assert list(tmp_path.iterdir()) == []
