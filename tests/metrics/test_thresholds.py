"""Thresholds per class against a loop over all cuts, and what they reach."""

import numpy as np

from vidembed.metrics.thresholds import LEAST, class_thresholds, reached


def slow(scores, hits, precision):
    """The lowest score at or above which enough predictions are hits; NaN if there is none."""
    best = np.nan
    for cut in sorted(set(scores.tolist()), reverse=True):
        inside = scores >= cut
        if inside.sum() >= LEAST and hits[inside].mean() >= precision:
            best = cut
    return best


def test_thresholds_are_those_of_a_loop_over_cuts():
    rng = np.random.default_rng(0)
    videos, k, count = 60, 4, 6
    own = shared = 0
    for trial in range(40):
        classes = np.array([rng.permutation(count + 2)[:k] for _ in range(videos)])
        classes = np.where(classes >= count, -1, classes)
        scores = np.round(rng.random((videos, k)), 1 + trial % 2).astype(np.float32)  # ties
        hits = (rng.random((videos, k)) < scores * rng.random(count + 1)[classes]) & (classes >= 0)
        precision = rng.choice([0.3, 0.5, 0.8])
        chosen = class_thresholds(scores, classes, hits, count=count, precision=precision)
        of_class = [
            slow(scores[classes == label], hits[classes == label], precision)
            for label in range(count)
        ]
        lacking = np.flatnonzero(np.isnan(of_class))
        rest = np.isin(classes, lacking)
        common = slow(scores[rest], hits[rest], precision) if rest.any() else np.nan
        expected = np.where(np.isnan(of_class), np.inf if np.isnan(common) else common, of_class)
        np.testing.assert_array_equal(chosen.thresholds, expected.astype(np.float32))
        assert chosen.own == count - len(lacking)
        for label, lacks in enumerate(np.isnan(of_class)):
            here = (classes == label) & (scores >= chosen.thresholds[label])
            assert chosen.positives[label] == (-1 if lacks else (hits & here).sum())
        own, shared = own + chosen.own, shared + np.isfinite(expected[lacking]).sum()
        result = reached(scores, classes, hits, positives=80, thresholds=chosen.thresholds)
        inside = [
            (video, place)
            for video in range(videos)
            for place in range(k)
            if classes[video, place] >= 0
            and scores[video, place] >= chosen.thresholds[classes[video, place]]
        ]
        true = sum(hits[pair] for pair in inside)
        assert result.recall == true / 80
        if inside:
            assert result.precision == true / len(inside) >= precision
    assert own > 30
    assert shared >= 5
