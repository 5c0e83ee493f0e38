"""Clips are cut where they should be, also of videos that are too short."""

from dataclasses import replace

import numpy as np
import pytest

from vidembed.records.clip_cuts import Taking, even_clips

TAKING = Taking(clips=3, frames=4, stride=2, starts="random", short="loop")


def test_frames_are_strides_apart_and_inside_the_video():
    draws = np.array([0.0, 0.5, 0.999])
    places = TAKING.places(10, draws)
    assert TAKING.span == 7
    assert places.tolist() == [[0, 2, 4, 6], [2, 4, 6, 8], [3, 5, 7, 9]]
    even = replace(TAKING, starts="even")
    assert (even.places(10, draws) == TAKING.places(10, None)).all()
    for length in range(7, 60):
        begins = TAKING.places(length, None)[:, 0]
        room = length - TAKING.span + 1
        np.testing.assert_array_equal(begins, np.floor((np.arange(3) + 0.5) * room / 3))
        assert TAKING.places(length, None).max() < length


def test_every_start_is_equally_likely():
    draws = (np.arange(1200) + 0.5) / 1200
    begins = replace(TAKING, clips=1200).places(12, draws)[:, 0]
    assert np.bincount(begins).tolist() == [200] * 6


def test_a_short_video_gives_one_clip_of_its_frames_in_a_loop():
    frames = np.arange(5)
    clips, present = TAKING.cut(frames, np.zeros(3))
    assert clips.tolist() == [[0, 2, 4, 1]] * 3
    assert present.tolist() == [True, False, False]
    clips, present = TAKING.cut(np.arange(7), np.zeros(3))
    assert present.all()


def test_clips_to_embed_are_even_and_videos_without_frames_have_none():
    videos = [np.arange(20.0)[:, None], np.zeros((0, 1))]
    batch = even_clips(videos.__getitem__, np.array([0, 1, 0]), TAKING)
    assert batch["clips"].shape == (3, 3, 4, 1)
    np.testing.assert_array_equal(batch["clips"][0, ..., 0], TAKING.places(20, None))
    assert batch["present"].tolist() == [[True] * 3, [False] * 3, [True] * 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": 0}, "clips 0, frames 4 and stride 2 must be at least 1"),
        ({"starts": "first"}, "starts must be random or even, found 'first'"),
        ({"short": "drop"}, "short must be loop or refuse, found 'drop'"),
    ],
)
def test_impossible_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TAKING, **change)
