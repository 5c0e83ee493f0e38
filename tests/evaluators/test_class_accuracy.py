"""Accuracy of classes of clips, against a slow reader; what is chosen by it, and refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from vidembed.corpora.labels import Labels
from vidembed.evaluators.class_accuracy import ClassAccuracy

VIDEOS, CLASSES, SOURCES = 90, 7, 30
ACCURACY = ClassAccuracy(resamples=40)


def made(*, part=None, groups=None, labels=None):
    rng = np.random.default_rng(0)
    groups = np.arange(VIDEOS) // 3 if groups is None else groups
    part = np.array(["train", "test", "validation"])[groups % 3] if part is None else part
    values = rng.integers(0, CLASSES, VIDEOS) if labels is None else labels
    names = tuple(f"class {number}" for number in range(CLASSES))
    offsets = np.arange(VIDEOS + 1)
    return SimpleNamespace(
        table=SimpleNamespace(ids=np.array([b"v%02d" % row for row in range(VIDEOS)])),
        labels=Labels(offsets=offsets, values=values.astype(np.int32), names=names),
        groups=groups,
        is_train=part == "train",
        is_validation=part == "validation",
        parts={name: part == name for name in ("test", "validation") if (part == name).any()},
    )


@pytest.fixture(scope="module")
def corpus():
    return made()


@pytest.fixture(scope="module")
def scores(corpus):
    rng = np.random.default_rng(1)
    scores = rng.random((VIDEOS, CLASSES)) + 0.6 * np.eye(CLASSES)[corpus.labels.values]
    return np.float32(scores / scores.sum(axis=1, keepdims=True))


def outputs_of(scores):
    return {"labels": lambda table, rows: scores[rows]}


def test_each_value_is_what_a_slow_reader_finds(corpus, scores):
    result = ACCURACY.run(outputs_of(scores), corpus)
    for part, inside in corpus.parts.items():
        rows, of = np.flatnonzero(inside), result.per_query[part]
        assert of.ids.tolist() == corpus.table.ids[rows].tolist()
        each = {c: [] for c in range(CLASSES)}
        for place, row in enumerate(rows):
            label = corpus.labels.values[row]
            order = sorted(range(CLASSES), key=lambda c: -scores[row, c])
            assert of.values["accuracy@1"][place] == (order[0] == label)
            assert of.values["accuracy@5"][place] == (label in order[:5])
            assert of.lists["predicted"][place].tolist() == order[:5]
            assert of.lists["label"][place].tolist() == [label]
            each[label].append(order[0] == label)
        over_classes = np.mean([np.mean(hits) for hits in each.values() if hits])
        assert result.scores[f"{part}/class_accuracy"].value == pytest.approx(over_classes)
        mean = of.values["accuracy@1"].mean()
        interval = result.scores[f"{part}/accuracy@1"]
        assert interval.value == pytest.approx(mean)
        assert interval.low < mean < interval.high
    values = {name: interval.value for name, interval in result.scores.items()}
    assert ACCURACY.selection(values).name == "validation/accuracy@1"
    assert ACCURACY.selection({"test/accuracy@1": 0.5}).value == 0.5
    counts = {"queries": 30, "left_out": 0, "videos without a class": 0}
    assert ACCURACY.counts(corpus) == {"test": counts, "validation": counts}


def test_ties_count_by_chance_and_unread_videos_are_wrong(corpus):
    for value, expected in ((1 / CLASSES, (1 / CLASSES, 5 / CLASSES)), (0.0, (0, 0))):
        result = ACCURACY.measure(np.full((VIDEOS, CLASSES), value, np.float32), corpus)
        for k, share in zip((1, 5), expected):
            np.testing.assert_allclose(result.per_query["test"].values[f"accuracy@{k}"], share)


def test_popularity_predicts_the_most_frequent_class(corpus):
    result = ACCURACY.baselines(corpus)["popularity"]
    of = np.bincount(corpus.labels.values[corpus.is_train], minlength=CLASSES)
    right = corpus.labels.values[corpus.parts["test"]] == of.argmax()
    assert result.scores["test/accuracy@1"].value == pytest.approx(right.mean())


def test_depths_that_reach_all_classes_are_left_out(corpus, scores):
    found = ClassAccuracy(at=(1, 3, CLASSES), resamples=40).measure(scores, corpus)
    assert set(found.per_query["test"].values) == {"accuracy@1", "accuracy@3"}


@pytest.mark.fault(
    "Scores: classes of clips with a source on both sides, train clips of one class, or a "
    "model with other classes",
    "1, before anything is computed where that is possible: what was found",
)
def test_what_cannot_be_measured_is_refused(corpus, scores):
    part = np.array(["train", "test"])[np.arange(VIDEOS) % 2]
    with pytest.raises(ValueError, match="groups have train and test clips, the first is 0"):
        ACCURACY.check(made(part=part))
    with pytest.raises(ValueError, match="train clips of 1 classes"):
        ACCURACY.check(made(labels=np.zeros(VIDEOS)))
    assert ACCURACY.check(corpus) is None
    with pytest.raises(ValueError, match=r"has 7 classes, but the output `labels` gives \[60, 6\]"):
        ACCURACY.run(outputs_of(scores[:, :6]), corpus)
    with pytest.raises(ValueError, match=r"needs the output `labels`.*; this task has video"):
        ACCURACY.run({"video": None}, corpus)
    with pytest.raises(ValueError, match="90 rows hold NaN"):
        ACCURACY.measure(np.full_like(scores, np.nan), corpus)
    with pytest.raises(ValueError, match="at must be distinct depths, 1 among them"):
        ClassAccuracy(at=(5,))
    with pytest.raises(ValueError, match="39 resamples are too few"):
        ClassAccuracy(resamples=39)
