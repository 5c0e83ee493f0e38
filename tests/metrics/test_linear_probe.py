"""The linear probe equals scikit-learn's logistic regression."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from vidembed.metrics.linear_probe import chosen_l2, fit, group_folds


def data(rows, width, *, noise=1.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    centres = rng.normal(size=(3, width))
    return centres[labels] + rng.normal(size=(rows, width)) * noise, labels


@pytest.mark.parametrize(("rows", "width"), [(120, 7), (40, 90)])
@pytest.mark.parametrize("l2", [1e-3, 0.3])
def test_it_equals_scikit_learn(rows, width, l2):
    features, labels = data(rows, width)
    model = fit(features, labels, classes=3, l2=l2)
    other = LogisticRegression(C=1 / (l2 * rows), tol=1e-8, max_iter=10_000).fit(features, labels)
    probabilities = np.exp(model.scores(features))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, other.predict_proba(features), atol=1e-4)
    np.testing.assert_allclose(model.weights, other.coef_.T, atol=2e-3 * np.abs(other.coef_).max())


def test_l2_has_the_smallest_loss_on_held_out_groups():
    features, labels = data(90, 60, noise=4)
    groups = np.arange(90) // 5
    folds = group_folds(groups, 4, seed=1)
    assert np.sum(folds, axis=0).tolist() == [1] * 90
    assert all(len(np.unique(groups[f])) + len(np.unique(groups[~f])) == 18 for f in folds)
    candidates = (1e-4, 1e-2, 1.0, 100.0)
    losses = []
    for l2 in candidates:
        held_out = 0.0
        for fold in folds:
            other = LogisticRegression(C=1 / (l2 * (~fold).sum()), tol=1e-8, max_iter=10_000)
            other.fit(features[~fold], labels[~fold])
            chosen = other.predict_proba(features[fold])[np.arange(fold.sum()), labels[fold]]
            held_out -= np.log(chosen).sum()
        losses.append(held_out)
    best = candidates[int(np.argmin(losses))]
    assert chosen_l2(features, labels, folds, candidates, classes=3) == best
    assert best not in (candidates[0], candidates[-1])


def test_what_cannot_be_fitted_is_refused():
    features, labels = data(12, 2)
    with pytest.raises(ValueError, match="l2 must be positive, found 0"):
        fit(features, labels, classes=3, l2=0)
    with pytest.raises(ValueError, match="1 group of train clips cannot be split"):
        group_folds(np.zeros(12), 4, seed=0)
