"""Annotation on a small labelled corpus, against the metrics of each part measured alone."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from vidembed.corpora.labels import Labels
from vidembed.evaluators.annotation import ALL, Annotation
from vidembed.metrics.multilabel import Accumulator
from vidembed.records.table import FeatureTable

VIDEOS, CLASSES = 70, 9
EVALUATOR = Annotation(k=3, resamples=50)
METRICS = ["gap@3", "map_per_class@3", "hit@1", "hit@5", "perr", "map_per_video", "map_per_class"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Stands for a labelled corpus."""

    table: FeatureTable
    labels: Labels
    is_train: np.ndarray
    is_validation: np.ndarray

    @property
    def parts(self):
        parts = {"test": ~self.is_train & ~self.is_validation}
        return parts | ({"validation": self.is_validation} if self.is_validation.any() else {})


@pytest.fixture(scope="module")
def labelled():
    """70 videos; every seventh has no label, class 8 is only in train."""
    rng = np.random.default_rng(0)
    truth = rng.random((VIDEOS, CLASSES)) < rng.random(CLASSES) * 0.6
    truth[:, 0] = True
    part = rng.random(VIDEOS)
    truth[:, 8] &= part < 0.5
    truth[::7] = False
    counts = truth.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    values = np.nonzero(truth)[1].astype(np.int32)
    return Labelled(
        table=FeatureTable(
            ids=np.array([f"v{i}" for i in range(VIDEOS)]).astype("S"),
            features={"visual": (truth + rng.random(truth.shape)).astype(np.float32) / 3},
            present={},
            label_offsets=offsets,
            label_values=values,
        ),
        labels=Labels(offsets=offsets, values=values, names=tuple("abcdefghi")),
        is_train=part < 0.5,
        is_validation=part > 0.8,
    )


def probabilities(table, rows):
    return table.features["visual"][rows]


@pytest.fixture(scope="module")
def result(labelled):
    return EVALUATOR.run({"labels": probabilities}, labelled)


def test_each_part_is_measured_as_if_alone(labelled, result):
    parts = labelled.parts | {ALL: ~labelled.is_train}
    assert list(result.scores) == [f"{part}/{name}" for part in parts for name in METRICS]
    for name, inside in parts.items():
        rows = np.flatnonzero(inside)
        alone = Accumulator(k=3)
        alone.add(rows, probabilities(labelled.table, rows), labelled.labels.of(rows))
        alone = alone.result()
        expected = {n: column.mean() for n, column in alone.values.items()}
        expected |= {"gap@3": alone.gap, "map_per_class@3": alone.map_per_class_at_k}
        expected["map_per_class"] = alone.map_per_class
        for metric, value in expected.items():
            score = result.scores[f"{name}/{metric}"]
            assert score.value == pytest.approx(value), (name, metric)
            assert score.low <= score.value <= score.high
    assert list(result.per_query) == ["test", "validation"]
    test = result.per_query["test"]
    assert not set(test.ids.tolist()) & set(labelled.table.ids[::7].tolist())
    assert test.values["hit@1"].mean() == result.scores["test/hit@1"].value


def test_blocks_of_any_size_give_the_same_and_have_one_shape(labelled, result):
    shapes = set()

    def seen(table, rows):
        shapes.add(len(rows))
        return probabilities(table, rows)

    for block in (1, 4, 1000):
        shapes.clear()
        again = replace(EVALUATOR, block=block).run({"labels": seen}, labelled)
        assert again.scores == result.scores
        assert len(shapes) == 1
    systems = [replace(EVALUATOR, block=block).baselines(labelled) for block in (1, 5, None)]
    for name in ("popularity", "chance"):
        assert len({tuple(of[name].scores.items()) for of in systems}) == 1


def test_baselines(labelled, result):
    systems = EVALUATOR.baselines(labelled)
    assert list(systems) == ["popularity", "chance"]
    train = labelled.is_train & (labelled.labels.per_row > 0)
    share = labelled.labels.counts(np.flatnonzero(train)) / train.sum()
    stored = systems["popularity"].per_query["test"]
    assert stored.lists["scores"][0] == pytest.approx(np.sort(share)[::-1][:3])
    assert (stored.lists["classes"] == stored.lists["classes"][0]).all()
    assert systems["popularity"].scores["test/hit@1"].value == 1  # class a is in every video
    gap = [of.scores["test/gap@3"].value for of in (systems["chance"], result)]
    assert gap[0] < gap[1] - 0.1


def test_validation_chooses_where_there_is_any(labelled, result):
    values = {name: score.value for name, score in result.scores.items()}
    name, value = EVALUATOR.selection(values)
    assert (name, value) == ("validation/gap@3", values["validation/gap@3"])
    without = replace(labelled, is_validation=np.zeros(VIDEOS, bool))
    scores = EVALUATOR.run({"labels": probabilities}, without).scores
    assert list(scores) == [f"test/{name}" for name in METRICS]
    assert scores["test/gap@3"].value == pytest.approx(values[f"{ALL}/gap@3"])
    chosen = EVALUATOR.selection({name: score.value for name, score in scores.items()})
    assert chosen.name == "test/gap@3"


def test_calibration_of_each_part(labelled):
    curves = replace(EVALUATOR, block=8).reliability({"labels": probabilities}, labelled)
    for name, inside in labelled.parts.items():
        rows = np.flatnonzero(inside & (labelled.labels.per_row > 0))
        scores = probabilities(labelled.table, rows)
        assert curves[name].count.sum() == scores.size
        assert curves[name].positive.sum() == len(labelled.labels.of(rows).values)
        assert curves[name].predicted.sum() == pytest.approx(scores.sum(dtype=np.float64))


def test_identity_leaves_out_the_block():
    assert EVALUATOR.identity() == replace(EVALUATOR, block=3).identity()
    assert EVALUATOR.identity() != replace(EVALUATOR, k=20).identity()


@pytest.mark.fault(
    "Annotation: videos without labels, classes without a video in the part",
    "left out and counted, with the scores",
)
def test_videos_without_labels_and_classes_without_a_video_are_counted(labelled):
    counts = EVALUATOR.counts(labelled)
    assert list(counts) == ["test", "validation"]
    for name, inside in labelled.parts.items():
        lacking = int((inside & (np.arange(VIDEOS) % 7 == 0)).sum())
        assert counts[name]["left_out"] == counts[name]["videos without labels"] == lacking > 0
        assert counts[name]["queries"] == inside.sum() - lacking
        seen = labelled.labels.of(np.flatnonzero(inside)).values
        assert counts[name]["classes without a video"] == CLASSES - len(set(seen.tolist())) > 0


@pytest.mark.fault(
    "Annotation: a part without labelled videos", "refused before any model is loaded"
)
def test_a_part_without_labels_is_refused(labelled):
    EVALUATOR.check(labelled)
    unlabelled = np.arange(VIDEOS) % 7 == 0
    rest = replace(labelled, is_train=~unlabelled, is_validation=np.zeros(VIDEOS, bool))
    with pytest.raises(ValueError, match="none of the 10 test videos has a label"):
        EVALUATOR.check(rest)
    with pytest.raises(ValueError, match="none of the 0 test videos"):
        EVALUATOR.check(replace(rest, is_train=np.ones(VIDEOS, bool)))


@pytest.mark.fault(
    "Annotation: an output of another number of classes, with NaN, or none of probabilities",
    "refused: the sizes, the videos by id, or the outputs that there are",
)
def test_bad_outputs_are_refused(labelled):
    with pytest.raises(ValueError, match=r"9 classes, but the output `labels` gives \[2, 8\]"):
        replace(EVALUATOR, block=2).run(
            {"labels": lambda table, rows: probabilities(table, rows)[:, 1:]}, labelled
        )

    def broken(table, rows):
        scores = probabilities(table, rows)
        return np.where(np.isin(rows, [row])[:, None], np.nan, scores)

    row = int(np.flatnonzero(labelled.is_validation & (labelled.labels.per_row > 0))[0])
    with pytest.raises(ValueError, match=rf"not finite \(videos v{row}\)"):
        EVALUATOR.run({"labels": broken}, labelled)
    with pytest.raises(ValueError, match=r"needs the output `labels`.* this task has video"):
        EVALUATOR.run({"video": probabilities}, labelled)


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"hits_at": ()}, {"hits_at": (1, 1)}, {"resamples": 9}, {"block": 0}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=r"found|too few"):
        Annotation(**options)
