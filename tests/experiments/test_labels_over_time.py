"""Labels over time: the joint, the division of windows, and joined files, on made clips."""

import numpy as np
import pytest

from experiments.joined_clips import RATE, Clip, join, seconds_of
from experiments.labels_over_time import Joined, LabelsOverTime, division, measured
from tests.media.clips import write_video


def slow_division(log_scores):
    best = {}
    for border in range(1, len(log_scores)):
        for one in range(log_scores.shape[1]):
            for other in range(log_scores.shape[1]):
                if one != other:
                    total = log_scores[:border, one].sum() + log_scores[border:, other].sum()
                    best[total] = border
    return best[max(best)]


def test_the_division_is_the_best_of_all():
    random = np.random.default_rng(0)
    for _ in range(20):
        log_scores = np.log(random.uniform(size=(random.integers(2, 9), 4)))
        assert division(log_scores) == slow_division(log_scores)
    assert division(np.zeros((1, 3))) == 0


def test_joined_files_have_both_clips(tmp_path):
    paths = [write_video(tmp_path / f"{n}.mp4", range(25 * n)) for n in (1, 2)]
    joint, end = join(*paths, tmp_path / "joined.mp4")
    assert (joint, end) == pytest.approx((1.0, 3.0), abs=1.5 / RATE)
    assert seconds_of(Clip(tmp_path / "joined.mp4", "a", "test")) == pytest.approx(end, abs=0.1)


def test_measures_of_a_made_case():
    def row(start, label, score):
        return {"start": start, "label": label, "score": score}

    a = [0.9, 0.8, 0.6, 0.1]
    windows = {"v": [row(float(n), "a", s) for n, s in enumerate(a)]}
    windows["v"] += [row(float(n), "b", 1 - s) for n, s in enumerate(a)]
    windows["v"] += [row(float(n), "c", 0.5 * (n == 0)) for n in range(4)]
    whole = {"v": [row(None, "a", 0.7), row(None, "b", 0.3), row(None, "c", 0.1)]}
    result = measured([Joined("v", "a", "b", 2.0, 4.0)], windows, whole, 0.5, 1.0)
    assert result["windows_right"] == 0.75  # the third one is b, and labelled a
    assert result["joint_error_median_seconds"] == 1.0
    assert result["joint_within_a_window"] == 1.0
    assert (result["classes_alerted_in_a_window"], result["classes_alerted_by_the_whole"]) == (
        1,
        0.5,
    )
    assert result["other_classes_alerted_in_a_window"] == 1
    assert result["other_classes_alerted_by_the_whole"] == 0


def test_absent_clips_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--clips FOLDER"):
        LabelsOverTime(workdir=str(tmp_path)).run()
