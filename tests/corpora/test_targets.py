"""Target vectors from a table of one modality, joined by id."""

import numpy as np
import pytest

from vidembed.corpora.targets import from_file
from vidembed.records.bytecode import dequantise
from vidembed.records.table import FeatureTable


def table(ids, features, present=None):
    return FeatureTable(
        ids=np.array(ids, "S"),
        features=features,
        present=present or {},
        label_offsets=np.zeros(len(ids) + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )


@pytest.fixture
def videos():
    return table([f"v{n}" for n in range(6)], {"visual": np.zeros((6, 2), np.uint8)})


def test_a_table_of_one_modality_gives_the_vectors_of_its_videos(videos, tmp_path):
    """In another order, as uint8, one without the modality, one unknown, one outside train."""
    ids = ["v4", "v0", "x", "v3", "v1"]
    vectors = np.random.default_rng(0).integers(0, 256, (5, 3)).astype(np.uint8)
    has = np.array([True, True, True, False, True])
    table(ids, {"text": vectors}, {"text": has}).write(tmp_path / "t")
    is_train = np.array([True, True, True, True, True, False])
    targets = from_file(tmp_path / "t", videos, is_train)
    values = dequantise(vectors)
    expected = {0: values[1], 1: values[4], 4: values[0]}
    assert targets.rows.tolist() == list(expected)
    np.testing.assert_allclose(targets.values + targets.mean, list(expected.values()), atol=1e-6)
    assert [note.split(":")[0] for note in targets.notes] == [
        "1 of 4 targets have ids that the table lacks, such as x",
        "2 of 5 train videos have no target",
    ]


@pytest.mark.fault(
    "Runs: targets from a table of two modalities", "refused, with the names of the modalities"
)
def test_a_table_of_two_modalities_is_refused(videos, tmp_path):
    two = {"text": np.zeros((6, 2), np.uint8), "audio": np.ones((6, 2), np.uint8)}
    table([f"v{n}" for n in range(6)], two).write(tmp_path / "t")
    with pytest.raises(ValueError, match="is a table of audio, text: give one with a single moda"):
        from_file(tmp_path / "t", videos, np.ones(6, bool))
