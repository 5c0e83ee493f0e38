"""Retrieval and linear probe of clips: arrays, tables and runs."""

from dataclasses import replace

import numpy as np
import pytest

from vidembed.corpora.clips import Clips, joined
from vidembed.evaluators import clip_scores
from vidembed.evaluators.clip_scores import LabelledClips, Probing
from vidembed.evaluators.probe import Probe, features_of
from vidembed.records.bytecode import Range
from vidembed.records.table import FeatureTable

CLASSES, SOURCES, EACH = 3, 24, 3
SMALL = Probing(l2=(1e-2, 1.0), folds=2)


@pytest.fixture(scope="module")
def clips():
    """72 clips of 24 sources; a third of the sources is for testing."""
    groups = np.repeat(np.arange(SOURCES), EACH)
    test = groups % 3 == 0
    return LabelledClips(
        labels=groups % 8 % CLASSES, classes=CLASSES, groups=groups, train=~test, test=test
    )


@pytest.fixture(scope="module")
def features(clips):
    rng = np.random.default_rng(0)
    of_class, of_source = rng.normal(size=(CLASSES, 16)), rng.normal(size=(SOURCES, 16))
    noise = rng.normal(size=(len(clips.groups), 16))
    return (of_class[clips.labels] + of_source[clips.groups] + noise).astype(np.float32)


def test_each_value_is_what_a_slow_reader_finds(clips, features):
    first, second = clip_scores.measured(features, clips, at=(1, 5), options=SMALL)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    for place, row in enumerate(first.rows):
        near = np.argsort(-(units[clips.train] @ units[row]), kind="stable")
        right = clips.labels[clips.train][near] == clips.labels[row]
        assert first.values["r@1"][place] == right[0]
        assert first.values["r@5"][place] == right[:5].any()
    assert second.rows.tolist() == first.rows.tolist()  # every source has three clips
    for place, row in enumerate(second.rows):
        rest = second.rows[second.rows != row]
        nearest = rest[np.argmax(units[rest] @ units[row])]
        assert second.values["same_source"][place] == (clips.groups[nearest] == clips.groups[row])
    assert 0.4 < first.values["probe"].mean() <= 1
    assert 0 < second.values["same_source"].mean() < 1


def test_clips_without_features_never_hit_and_are_never_found(clips, features):
    lacking = features.copy()
    rows = np.flatnonzero(clips.test)
    lacking[rows[:5]] = 0
    lacking[np.flatnonzero(clips.train)[::2]] = 0
    of = clip_scores.retrieval(lacking, clips, at=(1, 50))
    assert of.values["r@50"][:5].tolist() == [0] * 5
    assert of.values["r@50"][5:].all()
    expected = clip_scores.retrieval(
        features, replace(clips, train=clips.train & lacking.any(axis=1)), at=(1,)
    )
    np.testing.assert_array_equal(of.values["r@1"][5:], expected.values["r@1"][5:])
    right, _ = clip_scores.probe(lacking, clips, SMALL)
    assert len(right.rows) == len(rows)


def test_intervals_resample_sources(clips, features):
    first, _ = clip_scores.measured(features, clips, at=(1,), options=SMALL)
    rng = np.random.default_rng(1)
    sources = np.unique(clips.groups[first.rows])
    means = []
    for _ in range(2000):
        drawn = rng.choice(sources, len(sources))
        picked = [first.values["r@1"][clips.groups[first.rows] == s] for s in drawn]
        means.append(np.concatenate(picked).mean())
    interval = clip_scores.intervals(first, clips)["r@1"]
    assert interval.value == first.values["r@1"].mean()
    expected = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose([interval.low, interval.high], expected, atol=0.05)
    assert tuple(clip_scores.paired(first, first, clips)["r@1"]) == (0, 0, 0)
    with pytest.raises(ValueError, match="different clips"):
        clip_scores.paired(first, first._replace(rows=first.rows[::-1]), clips)
    each = clip_scores.by_class(first, clips)
    counts = np.bincount(clips.labels[first.rows])
    total = sum(counts[c] * scores["r@1"].value for c, scores in each.items())
    assert total / counts.sum() == pytest.approx(interval.value)


def test_two_classes_alone(clips, features):
    of, _ = clip_scores.measured(features, clips.of_classes([2, 0]), at=(1,), options=SMALL)
    inside = np.isin(clips.labels, [0, 2])
    np.testing.assert_array_equal(of.rows, np.flatnonzero(clips.test & inside))
    alone = LabelledClips(
        labels=np.where(clips.labels[inside] == 2, 0, 1), classes=2, groups=clips.groups[inside],
        train=clips.train[inside], test=clips.test[inside],
    )  # fmt: skip
    expected, _ = clip_scores.measured(features[inside], alone, at=(1,), options=SMALL)
    for metric, values in expected.values.items():
        np.testing.assert_array_equal(of.values[metric], values)


def test_chance_is_what_random_vectors_score(clips):
    of, same = clip_scores.chance(clips, at=(1, 5))
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(300):
        random = rng.normal(size=(len(clips.labels), 16)).astype(np.float32)
        values = clip_scores.retrieval(random, clips, at=(1, 5)).values
        values |= clip_scores.same_source(random, clips).values
        scores.append([values[metric].mean() for metric in ("r@1", "r@5", "same_source")])
    expected = [of.values["r@1"].mean(), of.values["r@5"].mean(), same.values["same_source"].mean()]
    np.testing.assert_allclose(np.mean(scores, axis=0), expected, atol=0.02)
    most = np.bincount(clips.labels[clips.train]).argmax()
    assert of.values["probe"].mean() == (clips.labels[clips.test] == most).mean()


@pytest.mark.fault(
    "Video files: a probe of features with NaN, of a source in train and test, or of one class",
    "refused: the rows, the group, or what is missing",
)
def test_what_cannot_be_measured_is_refused(clips, features):
    bad = features.copy()
    bad[3, 1] = np.nan
    for measure in (clip_scores.retrieval, clip_scores.same_source, clip_scores.probe):
        with pytest.raises(ValueError, match=r"1 rows hold NaN or infinity.*\[3\]"):
            measure(bad, clips)
    with pytest.raises(ValueError, match="8 groups have train and test clips, the first is 0"):
        replace(clips, train=np.ones_like(clips.test))
    with pytest.raises(ValueError, match="train clips of 1 classes"):
        replace(clips, labels=np.zeros_like(clips.labels))
    with pytest.raises(ValueError, match="0 test clips"):
        replace(clips, test=np.zeros_like(clips.test))
    with pytest.raises(ValueError, match="positive l2"):
        Probing(l2=())


@pytest.fixture(scope="module")
def corpus(clips, features):
    """The clips as a corpus; two of them lack the sound; one video is not in the list."""
    count = len(features)
    names = np.array([f"c{i:02d}" for i in range(count)])
    span = Range.covering(features.min(), features.max())
    has_audio = ~np.isin(np.arange(count + 1), [4, 9])
    table = FeatureTable(
        ids=np.append(names, "zzz").astype("S4"),
        features={
            "visual": span.quantise(np.append(features, features[:1], axis=0)),
            "audio": np.random.default_rng(3).normal(size=(count + 1, 5)).astype(np.float32),
        },
        present={"audio": has_audio},
        label_offsets=np.zeros(count + 2, np.int64),
        label_values=np.zeros(0, np.int32),
        ranges={"visual": span},
    )
    part = np.where(clips.test, "test", np.where(clips.groups % 6 == 1, "validation", "train"))
    known = Clips(
        ids=names.astype("S4"), paths=tuple(names), labels=clips.labels.astype(np.int32),
        classes=("a", "b", "c"), groups=clips.groups.astype(np.int32),
        sources=tuple(map(str, range(SOURCES))), part=part,
    )  # fmt: skip
    return joined(table, known, "clips.csv")


def test_the_evaluator_measures_each_part_against_train(corpus, features):
    probe = Probe(at=(1, 5), probing=SMALL, resamples=50)
    probe.check(corpus)
    result = probe.run({"video": lambda table, rows: table.floats("visual", rows)}, corpus)
    assert set(result.scores) == {
        f"{part}/{metric}"
        for part in ("test", "validation")
        for metric in ("r@1", "r@5", "probe", "same_source")
    }
    of = result.per_query["test"]
    assert result.scores["test/r@1"].value == of.values["r@1"].mean()
    assert not set(corpus.table.ids[corpus.is_train]) & set(of.ids)
    assert b"zzz" not in of.ids
    values = {name: interval.value for name, interval in result.scores.items()}
    assert probe.selection(values).name == "validation/r@1"
    exact = probe.measure(np.append(features, features[:1], axis=0), corpus)
    assert abs(exact.scores["test/r@1"].value - values["test/r@1"]) < 0.1
    assert probe.counts(corpus)["test"] == {"queries": 24, "left_out": 0}
    with pytest.raises(ValueError, match="no output 'video'; it has labels"):
        probe.run({"labels": None}, corpus)


def test_baselines_and_classes(corpus):
    probe = Probe(at=(1,), probing=SMALL, resamples=50)
    systems = probe.baselines(corpus)
    assert list(systems) == ["visual", "audio", "side by side", "chance"]
    scores = {name: result.scores["test/r@1"].value for name, result in systems.items()}
    assert scores["visual"] > scores["chance"] + 0.2
    assert not features_of(corpus.table, ("audio",))[[4, 9]].any()
    both = features_of(corpus.table, ("visual", "audio"))
    np.testing.assert_allclose(np.linalg.norm(both[0]), np.sqrt(2), rtol=1e-5)
    classes = probe.slices(corpus.table.floats("visual"), corpus, {})["test"]["class"]
    assert sum(part.videos for part in classes.values()) == 24
    assert set(classes) <= {"a", "b", "c"}
