"""Pooled rows equal loops over features and frames."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from vidembed.media.pooling import pool, pooled_width
from vidembed.media.video_table import _numbers, _parts
from vidembed.records.window_ids import window_of


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)


def test_rows_equal_loops(frames):
    tops = [sum(sorted(column.tolist())[-5:]) / 5 for column in frames.T]
    statistics = np.concatenate([frames.mean(0), frames.std(0), tops])
    motion = [
        sum(abs(float(b) - float(a)) for a, b in itertools.pairwise(column)) / 8
        for column in frames.T
    ]
    expected = {"mean": frames.mean(0), "statistics": statistics, "first": frames[0]}
    for how, row in {**expected, "motion": motion}.items():
        np.testing.assert_allclose(pool(frames, how), row, rtol=1e-5, atol=1e-6)
        assert len(row) == pooled_width(4, how)


def test_fewer_frames_than_five_have_all_of_them_as_the_largest(frames):
    row = pool(frames[:2], "statistics")
    np.testing.assert_allclose(row[8:], frames[:2].mean(0), rtol=1e-6)


@pytest.mark.fault("Video files: one frame has no motion", "that modality is missing")
def test_one_frame_has_no_motion(frames):
    assert pool(frames[:1], "motion") is None
    np.testing.assert_array_equal(pool(frames[:1], "first"), frames[0])
    with pytest.raises(ValueError, match="no frames"):
        pool(frames[:0], "mean")


@pytest.mark.parametrize("window", [0.1, 0.2, 1.6, 2.0, 1 / 3])
def test_every_frame_is_in_exactly_one_window(window):
    for rate in (1, 5, 8, 10):
        times = np.arange(40) / rate
        numbers = _numbers(times, window)
        expected = [
            Fraction(k, rate) // Fraction(window).limit_denominator(1000) for k in range(40)
        ]
        assert numbers.tolist() == expected
    ids = [id for id, _ in _parts("v", [numbers], window)]
    assert len(ids) == len({window_of(id) for id in ids}) == len(set(expected))
