"""Features of frames on disk: read back, or made anew where they are not what is asked for."""

import numpy as np
import pytest

from vidembed.media.feature_store import FeatureStore, FrameFeatures

MADE_WITH = {"space": "net/features/1", "input": {"rate": 1.0}}
ORIGIN = {"size": 10, "modified": 2.5}


@pytest.fixture
def stored(tmp_path):
    store = FeatureStore(tmp_path, MADE_WITH)
    features = FrameFeatures(np.arange(3.0), np.ones((3, 2), np.float32), ("stops after 3 s",))
    store.write("é/1", ORIGIN, features)
    return store


def test_features_come_back(stored, tmp_path):
    store = FeatureStore(tmp_path, MADE_WITH)
    assert store.made_before("é/1", ORIGIN)
    assert store.remarks("é/1") == ("stops after 3 s",)
    features = store.read("é/1")
    np.testing.assert_array_equal(features.times, np.arange(3.0))
    np.testing.assert_array_equal(features.values, np.ones((3, 2)))
    assert features.remarks == ("stops after 3 s",)


def test_other_files_and_settings_are_not_read(stored, tmp_path):
    assert not stored.made_before("é/1", {**ORIGIN, "size": 11})
    assert stored.read("other") is None
    assert stored.remarks("other") == ()
    rate = {**MADE_WITH, "input": {"rate": 2.0}}
    assert FeatureStore(tmp_path, rate).read("é/1") is None


@pytest.mark.fault("Video files: stored features of frames are damaged", "they are extracted anew")
@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_damaged_features_are_not_read(stored, how):
    [file] = stored.folder.iterdir()
    content = bytearray(file.read_bytes())
    if how == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[content.index(np.ones(2, np.float32).tobytes())] ^= 1
        file.write_bytes(content)
    assert stored.read("é/1") is None
