"""Rows of windows: which frames and which windows of sound each has."""

import numpy as np
import pytest

from vidembed.media.feature_store import FrameFeatures
from vidembed.media.video_table import Column, rows_of, write_table
from vidembed.records.table import FeatureTable
from vidembed.records.window_ids import window_of


@pytest.mark.fault(
    "Video files: two processes add the same videos", "the second is refused, naming the first"
)
def test_rows_that_another_process_added_meanwhile_are_refused(tmp_path):
    values = FrameFeatures(np.zeros(1), np.array([[1.0]], np.float32))
    columns = [column("visual", 0.0, dict.fromkeys("abc", values))]
    write_table(tmp_path / "t", columns, rows_of(columns, ["a"]), source={"options": {}})
    more = rows_of(columns, ["b", "c"])
    write_table(tmp_path / "t", columns, more, source={"options": {}}, append=True)
    with pytest.raises(ValueError, match="has got 2 of these rows meanwhile, first 'b'"):
        write_table(tmp_path / "t", columns, more, source={"options": {}}, append=True)
    assert FeatureTable.open(tmp_path / "t").ids.tolist() == [b"a", b"b", b"c"]


class Features(dict):
    """Features by video, as a store."""

    def read(self, video):
        return self.get(video)


def column(modality, seconds, features):
    return Column(
        modality=modality, store=Features(features), pooling="mean", width=1, space=modality,
        seconds=seconds,
    )  # fmt: skip


def test_windows_shorter_than_those_of_sound_have_the_sound_that_covers_them():
    """Frames at 2 per second for 7 s; sound in windows of 3 s every 2 s; silent from 8 s on."""
    rng = np.random.default_rng(0)
    frames = FrameFeatures(np.arange(14) / 2, rng.random((14, 1), np.float32))
    sound = FrameFeatures(np.array([0.0, 2.0]), rng.random((2, 1), np.float32))
    mute = FrameFeatures(np.zeros(0), np.zeros((0, 1), np.float32))
    visual = column("visual", 0.0, {"v": frames, "mute": frames})
    audio = column("audio", 3.0, {"v": sound, "mute": mute})
    for length in (0.5, 1.0, 2.0, 2.5, 10.0):
        rows = rows_of([visual, audio], ["v", "mute"], length)
        for number, id in enumerate(rows.ids):
            video, start, end = window_of(id)
            shown = [v for t, v in zip(*frames[:2]) if start <= t < end]
            np.testing.assert_allclose(
                rows.features["visual"][number], np.mean(shown, 0), atol=1e-6
            )
            heard = [v for t, v in zip(*sound[:2]) if start <= t < end]
            lasting = [v for t, v in zip(*sound[:2]) if t < start < t + 3]
            heard = [] if video == "mute" else heard or lasting[-1:]
            assert rows.present["audio"][number] == bool(heard), id
            if heard:
                np.testing.assert_allclose(
                    rows.features["audio"][number], np.mean(heard, 0), atol=1e-6
                )
    assert rows_of([visual, audio], ["mute"], 1.0).present["audio"].sum() == 0
    # Sound alone has rows where its windows begin.
    assert rows_of([audio], ["v", "mute"], 1.0).ids == ["v@0-1", "v@2-3"]
