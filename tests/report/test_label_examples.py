"""Example videos of a classifier, against loops."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tasks.test_annotation import CLASSES, labelled, paths, table
from vidembed.report.label_examples import class_names, label_examples

__all__ = ["labelled", "paths", "table"]


@pytest.fixture(scope="module")
def scores(labelled):
    return np.random.default_rng(5).random((len(labelled.table), CLASSES)).astype(np.float32)


def test_labels_among_the_best_are_marked_and_the_rest_missed(labelled, scores):
    names = class_names(labelled, {1: "Guitar", 4: "Pet"})
    assert names == ("label 0", "Guitar", "label 2", "label 3", "Pet")
    entries = label_examples(scores.__getitem__, labelled, names, videos=20, best=2)
    assert len({entry["id"] for entry in entries}) == 20
    missed = 0
    for entry in entries:
        [row] = labelled.table.find(np.array([entry["id"].encode()]))
        assert labelled.is_test[row]
        assert labelled.has_labels[row]
        order = sorted(range(CLASSES), key=lambda c: -scores[row, c])
        true = set(labelled.table.labels(row).tolist())
        assert entry["predicted"] == [
            {"name": names[c], "probability": float(scores[row, c]), "true": c in true}
            for c in order[:2]
        ]
        assert entry["missed"] == [
            {"name": names[c], "probability": float(scores[row, c])} for c in order[2:] if c in true
        ]
        missed += len(entry["missed"])
    assert missed > 0


def test_the_seed_draws_the_videos_and_none_is_left_without_labels(labelled, scores):
    names = labelled.labels.names
    first, again, other = (
        [entry["id"] for entry in label_examples(scores.__getitem__, labelled, names, seed=seed)]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first == sorted(first)
    nothing = replace(labelled, is_validation=~labelled.is_train)
    assert label_examples(scores.__getitem__, nothing, names) == []


def test_probabilities_that_are_not_finite_are_refused_by_id(labelled, scores):
    broken = np.where(labelled.is_test[:, None], np.nan, scores)
    with pytest.raises(ValueError, match=r"not finite: those of videos v\d+, v\d+"):
        label_examples(broken.__getitem__, labelled, labelled.labels.names)
