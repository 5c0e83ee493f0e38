"""The mean over classes, against a slow loop over resamples."""

import numpy as np
import pytest

from vidembed.metrics.class_mean import class_mean
from vidembed.metrics.intervals import times_drawn


def test_the_mean_over_classes_and_its_interval():
    rng = np.random.default_rng(0)
    classes, groups = rng.choice(4, 60, p=[0.7, 0.1, 0.1, 0.1]), rng.integers(0, 9, 60)
    values = (rng.random(60) < 0.2 + 0.2 * classes).astype(float)

    def mean(drawn):
        every = np.concatenate([np.flatnonzero(groups == group) for group in drawn])
        return np.mean([values[every][classes[every] == c].mean() for c in set(classes[every])])

    found = class_mean(values, classes + 5, groups, seed=3, resamples=200)
    assert found.value == pytest.approx(mean(range(9)))
    counts = np.concatenate(list(times_drawn(9, seed=3, resamples=200)))
    means = [mean(np.repeat(np.arange(9), row)) for row in counts]
    np.testing.assert_allclose([found.low, found.high], np.quantile(means, [0.025, 0.975]))
    assert found.value != pytest.approx(values.mean(), abs=0.02)
