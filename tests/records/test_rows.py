import numpy as np

from vidembed.records.rows import read_rows, resident_rows
from vidembed.records.table import FeatureTable


def table():
    return FeatureTable(
        ids=np.array([b"a", b"b", b"c"]),
        features={
            "visual": np.arange(6, dtype=np.uint8).reshape(3, 2),
            "audio": np.ones((3, 1), np.float32),
            "text": np.zeros((3, 4), np.float16),
        },
        label_offsets=np.zeros(4, np.int64),
        label_values=np.zeros(0, np.int32),
        present={"audio": np.array([True, False, True]), "text": np.array([True, True, False])},
    )


def test_resident_rows_are_the_stored_arrays_of_the_given_modalities():
    features = table()
    resident = resident_rows(features, ("audio", "visual"))
    assert list(resident["features"]) == ["audio", "visual"]
    for name, array in resident["features"].items():
        assert array is features.features[name]
    (mask,) = resident["present"].values()
    assert mask.dtype == np.uint8
    assert mask.tolist() == [1, 0, 1]
    assert resident_rows(features, iter(["visual"]))["present"] == {}


def test_rows_are_read_in_their_order_as_stored():
    read = read_rows(table(), np.array([2, 0, 0, 1]), iter(["visual", "audio"]))
    assert read["features"]["visual"].tolist() == [[4, 5], [0, 1], [0, 1], [2, 3]]
    assert read["features"]["visual"].dtype == np.uint8
    assert read["features"]["audio"].shape == (4, 1)
    assert read["present"].keys() == {"audio"}
    assert read["present"]["audio"].tolist() == [True, True, True, False]
