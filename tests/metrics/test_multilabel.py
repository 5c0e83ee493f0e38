"""Multi-label metrics against scikit-learn and loops that sort lists of tuples."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from vidembed.corpora.labels import Labels
from vidembed.metrics import class_ranks, full_map_interval
from vidembed.metrics.calibration import Reliability
from vidembed.metrics.multilabel import Accumulator, merged
from vidembed.metrics.multilabel_intervals import bootstrap, differences, stored
from vidembed.records.scores_file import read_scores, write_scores

K = 4


def labels_of(truth):
    """The labels of a dense table bool[V, C]."""
    counts = truth.sum(axis=1)
    return Labels(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        values=np.nonzero(truth)[1].astype(np.int32),
        names=tuple(f"class {n}" for n in range(truth.shape[1])),
    )


def predictions(scores, truth, *, block=1000, k=K, rows=None, **options):
    rows = np.arange(len(scores)) if rows is None else rows
    accumulator, labels = Accumulator(k=k, hits_at=(1, 3), **options), labels_of(truth)
    for start in range(0, len(scores), block):
        some = np.arange(start, min(start + block, len(scores)))
        accumulator.add(rows[some], scores[some], labels.of(some))
    return accumulator.result()


def case(seed, *, tied):
    """Scores f32[V, C] that follow the truth bool[V, C]; some videos have no class, some all."""
    rng = np.random.default_rng(seed)
    videos, classes = rng.integers(5, 30), rng.integers(2, 12)
    truth = rng.random((videos, classes)) < rng.random((videos, 1)) * 0.6
    truth[0], truth[1], truth[2, 0] = False, True, True
    if classes > 3:
        truth[:, 3] = False
        truth[1] = np.arange(classes) != 3
    scores = rng.random((videos, classes)) + 0.5 * truth
    # Ties across videos and classes, and scores of exactly 0.
    scores = np.floor(scores * 3) / 4 if tied else scores / 2
    return scores.astype(np.float32), truth


def slowly(scores, truth, k=K):
    """Every metric by sorting lists of tuples, straight from the definitions."""
    videos = [v for v in range(len(truth)) if truth[v].any()]
    every = range(truth.shape[1])
    ranked = {v: sorted(every, key=lambda c: (-scores[v, c], c)) for v in videos}
    pool = [(-scores[v, c], c, v) for v in videos for c in ranked[v][:k]]
    all_pairs = [(-scores[v, c], c, v) for v in videos for c in every]

    def precision(entries, positives):
        hits, total = 0, 0.0
        for rank, (_, c, v) in enumerate(sorted(entries), start=1):
            if truth[v, c]:
                hits += 1
                total += hits / rank
        return total / positives

    def per_class(entries):
        positives = {c: sum(truth[v, c] for v in videos) for c in every}
        return {
            c: precision([entry for entry in entries if entry[1] == c], positives[c])
            for c in every
            if positives[c]
        }

    values = {"hit@1": [], "hit@3": [], "perr": [], "map_per_video": []}
    for v in videos:
        count = truth[v].sum()
        for depth in (1, 3):
            values[f"hit@{depth}"].append(any(truth[v, c] for c in ranked[v][:depth]))
        right = [c for c in ranked[v][:count] if truth[v, c] and scores[v, c] > 0]
        values["perr"].append(len(right) / count)
        entries = [(place, c, v) for place, c in enumerate(ranked[v])]
        values["map_per_video"].append(precision(entries, count))
    positives = sum(truth[v].sum() for v in videos)
    metrics = {
        "gap": precision(pool, positives),
        "map_per_class_at_k": per_class(pool),
        "map_per_class": per_class(all_pairs),
    }
    return metrics, values


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_equal_to_loops_over_sorted_tuples(seed, tied, monkeypatch):
    if seed % 2:
        monkeypatch.setattr(class_ranks, "SCORES_AT_ONCE", 40)
    scores, truth = case(seed, tied=tied)
    metrics, values = slowly(scores, truth)
    measured = predictions(scores, truth, block=1 + seed)
    for name, expected in metrics.items():
        expected = np.mean(list(expected.values())) if isinstance(expected, dict) else expected
        assert getattr(measured, name) == pytest.approx(expected), name
    assert list(measured.values) == list(values)
    for name, expected in values.items():
        assert measured.values[name] == pytest.approx(np.array(expected, float)), name
    assert measured.left_out == (~truth.any(axis=1)).sum() > 0
    assert len(measured) + measured.left_out == len(truth)


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn_where_nothing_is_cut_off(seed):
    scores, truth = case(seed, tied=False)
    some = truth.any(axis=1)
    measured = predictions(scores, truth, k=99)
    scores, truth = scores[some], truth[some]
    assert measured.gap == pytest.approx(average_precision_score(truth.ravel(), scores.ravel()))
    classes = truth.any(axis=0)
    by_class = average_precision_score(truth[:, classes], scores[:, classes], average="macro")
    assert measured.map_per_class == pytest.approx(by_class)
    assert measured.map_per_class_at_k == pytest.approx(by_class)
    by_video = label_ranking_average_precision_score(truth, scores)
    assert measured.values["map_per_video"].mean() == pytest.approx(by_video)


def test_worked_by_hand():
    """Two videos, three classes, k = 2; the second video's class 2 is below its two best."""
    scores = np.array([[0.9, 0.8, 0.1], [0.7, 0.6, 0.5]], np.float32)
    truth = np.array([[True, False, False], [False, True, True]])
    measured = predictions(scores, truth, k=2)
    # Pool: .9 hit, .8 miss, .7 miss, .6 hit; three true classes.
    assert measured.gap == pytest.approx((1 / 1 + 2 / 4) / 3)
    # Class 0: .9 hit. Class 1: .8 miss, .6 hit. Class 2: nothing pooled, but it has a video.
    assert measured.map_per_class_at_k == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert measured.map_per_class == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert measured.values["map_per_video"].tolist() == pytest.approx([1, (1 / 2 + 2 / 3) / 2])
    assert measured.values["perr"].tolist() == [1, 0.5]


def test_ties_go_to_the_smaller_class_then_to_the_earlier_video():
    scores = np.full((2, 3), 0.5, np.float32)
    truth = np.array([[False, True, False], [True, False, False]])
    measured = predictions(scores, truth, k=2)
    assert measured.classes.tolist() == [[0, 1], [0, 1]]
    # Pool: class 0 of both videos (miss, hit), then class 1 of both (hit, miss).
    assert measured.gap == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_blocks_hosts_and_the_order_of_videos_change_nothing():
    scores, truth = case(3, tied=True)
    whole = predictions(scores, truth)
    mixed = np.random.default_rng(0).permutation(len(truth))
    halves = [
        predictions(scores[half], truth[half], rows=half, block=3) for half in np.split(mixed, [9])
    ]
    both = merged(halves)
    assert both.left_out == whole.left_out
    for name in ("rows", "scores", "classes", "hits", "offsets", "labels", "all_scores"):
        assert np.array_equal(getattr(both, name), getattr(whole, name)), name
    for name, column in whole.values.items():
        assert np.array_equal(both.values[name], column), name
    some = np.array([2, 5, 6])
    assert whole.of(some).gap == predictions(scores, truth).of(some).gap
    assert whole.of(some).map_per_class == pytest.approx(
        repeated(scores[whole.rows[some]], truth[whole.rows[some]], range(3))[2]
    )


def test_too_many_scores_are_not_kept():
    scores, truth = case(4, tied=False)
    kept = predictions(scores, truth, block=2, all_scores=scores.size)
    cut = predictions(scores, truth, block=2, all_scores=scores.size - 1)
    assert kept.map_per_class is not None
    assert (cut.all_scores, cut.map_per_class) == (None, None)
    assert cut.map_per_class_at_k == kept.map_per_class_at_k
    halves = [kept.of(np.arange(3)), kept.of(np.arange(3, len(kept)))]
    assert merged(halves).map_per_class == kept.map_per_class
    assert merged(halves, all_scores=5).map_per_class is None


def results(scores, truth, *, rows=None):
    measured = predictions(scores, truth, rows=rows)
    ids = np.array([f"v{row:03}" for row in measured.rows], "S")
    return stored(measured, ids, width=truth.shape[1])


def repeated(scores, truth, drawn):
    """GAP and both MAP per class by loops, if each video is there as often as it is in `drawn`,
    over the classes that a drawn video has."""
    rows = np.sort(drawn)
    metrics = slowly(scores[rows], truth[rows])[0]
    maps = (metrics[name] for name in ("map_per_class_at_k", "map_per_class"))
    return [metrics["gap"], *(np.mean(list(each.values())) for each in maps)]


def interval_of(point, resampled):
    """The 95 % interval by its definition: quantiles, less the bias of the resamples."""
    return (point, *(np.quantile(resampled, [0.025, 0.975]) - (np.mean(resampled) - point)))


@pytest.mark.parametrize("tied", [False, True])
def test_intervals_equal_a_loop_over_resamples_that_repeats_videos(tied, monkeypatch):
    scores, truth = case(7, tied=tied)
    scores, truth = scores[truth.any(axis=1)], truth[truth.any(axis=1)]
    other = np.random.default_rng(1).permuted(scores, axis=1)
    points = [repeated(side, truth, range(len(truth))) for side in (scores, other)]
    rng, each, between = np.random.default_rng(5), [], []
    for _ in range(60):
        drawn = rng.integers(0, len(truth), len(truth))
        each.append(repeated(scores, truth, drawn))
        between.append(np.subtract(each[-1], repeated(other, truth, drawn)))
    expected = [
        interval_of(points[0][place], [values[place] for values in each]) for place in range(3)
    ]
    apart = np.subtract(*points)
    expected_apart = [interval_of(apart[place], [v[place] for v in between]) for place in range(2)]

    monkeypatch.setattr(class_ranks, "SCORES_AT_ONCE", 40)
    monkeypatch.setattr(full_map_interval, "RESAMPLES_AT_ONCE", 25)
    run, other_run = results(scores, truth), results(other, truth)
    measured = bootstrap([run], seed=5, resamples=60)
    paired = differences([run], [other_run], seed=5, resamples=60)
    for place, name in enumerate((f"gap@{K}", f"map_per_class@{K}")):
        assert measured[name] == pytest.approx(expected[place]), name
        assert paired[name] == pytest.approx(expected_apart[place]), name
    assert list(measured) == list(paired)
    assert list(measured)[2:] == ["hit@1", "hit@3", "perr", "map_per_video"]
    whole = predictions(scores, truth)
    over_all = full_map_interval.interval(whole, run.ids, seed=5, resamples=60)
    assert over_all == pytest.approx(expected[2])


def test_a_value_lies_within_its_interval_where_each_class_has_one_video():
    """Copies of a video raise the precision of such classes, and resamples lack a third of them."""
    rng = np.random.default_rng(0)
    scores, truth = rng.random((80, 80)).astype(np.float32), np.eye(80, dtype=bool)
    run = results(scores, truth)
    whole = full_map_interval.interval(predictions(scores, truth), run.ids, seed=0, resamples=200)
    for interval in (whole, *bootstrap([run], seed=0, resamples=200).values()):
        assert interval.low <= interval.value <= interval.high


def test_runs_share_their_draws_and_may_lack_videos():
    scores, truth = case(8, tied=False)
    run = results(scores, truth)
    one = bootstrap([run], seed=0, resamples=50)
    both = bootstrap([run, run], seed=0, resamples=50)
    assert all(both[name] == pytest.approx(interval) for name, interval in one.items())
    assert differences([run, run], [run, run], seed=0, resamples=50)[f"gap@{K}"] == (0, 0, 0)
    few = truth.copy()
    few[3:] = False
    short = results(scores, few)
    assert len(short.ids) < len(run.ids)
    both = bootstrap([run, short], seed=0, resamples=200)[f"gap@{K}"]
    assert both.low < both.value < both.high


def test_stored_results_give_the_same_intervals(tmp_path):
    run = results(*case(9, tied=True))
    write_scores(tmp_path / "5.parquet", {"trained": {"test": run}, "chance": {"test": run}})
    back = read_scores(tmp_path / "5.parquet")["chance"]["test"]
    assert bootstrap([back], seed=0, resamples=50) == bootstrap([run], seed=0, resamples=50)
    assert {name: column.dtype for name, column in back.lists.items()} == {
        "scores": np.float32, "classes": np.int32, "hits": np.bool, "labels": np.int32,
    }  # fmt: skip


def test_calibration():
    scores = np.array([[0.05, 0.05, 0.95], [0.05, 1.0, 0.55]], np.float32)
    truth = np.array([[False, True, True], [False, True, False]])
    whole = Reliability.of(scores, truth, bins=10)
    assert whole.curve.count.tolist() == [3, 1, 2]
    assert whole.curve.predicted == pytest.approx([0.05, 0.55, 0.975])
    assert whole.curve.positive == pytest.approx([1 / 3, 0, 1])
    error = (3 * abs(1 / 3 - 0.05) + 0.55 + 2 * 0.025) / 6
    assert whole.expected_error == pytest.approx(error)
    labels = labels_of(truth)
    blocks = [labels.of(np.array([row])) for row in (0, 1)]
    halves = [
        Reliability.of_block(scores[row, None], own.offsets, own.values, bins=10)
        for row, own in enumerate(blocks)
    ]
    assert (halves[0] + halves[1]).expected_error == pytest.approx(error)
    best = predictions(scores, truth, k=5)  # two places of five have no class
    assert Reliability.of(best.scores, best.hits).count.sum() == 6


@pytest.mark.fault(
    "Annotation: scores that are NaN, classes without a score, a video twice, no label at all",
    "refused, with the rows or sizes",
)
def test_bad_scores_are_refused():
    scores, truth = case(1, tied=False)
    broken = scores.copy()
    broken[3, 1] = np.nan
    with pytest.raises(
        ValueError, match=r"1 of .* videos have scores that are not finite, such as row 3"
    ):
        predictions(broken, truth)
    with pytest.raises(ValueError, match=r"class .* has no score"):
        predictions(scores[:, :1], truth)
    with pytest.raises(ValueError, match=r"must be \[b, C\]"):
        Accumulator().add(np.arange(2), scores[:3], labels_of(truth[:3]))
    half = predictions(scores, truth)
    with pytest.raises(ValueError, match="have predictions twice, such as row"):
        merged([half, half])
    with pytest.raises(ValueError, match="no predictions"):
        Accumulator().result()
    with pytest.raises(ValueError, match="k must be at least 1"):
        Accumulator(k=0)
    for metric in ("gap", "map_per_class_at_k"):
        with pytest.raises(ValueError, match="no video has a true class"):
            getattr(predictions(scores, np.zeros_like(truth)), metric)
    with pytest.raises(ValueError, match="not probabilities in"):
        Reliability.of(scores * 9, truth)
    with pytest.raises(ValueError, match="bins differ: 20 and 5"):
        Reliability.of(scores, truth) + Reliability.of(scores, truth, bins=5)
    with pytest.raises(ValueError, match="no predictions, so"):
        float(Reliability.of(scores[:0], truth[:0]).expected_error)


def test_results_that_cannot_be_compared_are_refused():
    scores, truth = case(2, tied=False)
    run = results(scores, truth)
    fewer = results(scores[4:], truth[4:])
    with pytest.raises(ValueError, match="same videos in the same order"):
        differences([run], [fewer], seed=0)
    with pytest.raises(ValueError, match="the same runs and k"):
        differences([run], [run, run], seed=0)
    with pytest.raises(ValueError, match="need results with lists"):
        bootstrap([replace(run, lists={})], seed=0)
    with pytest.raises(ValueError, match="10 resamples"):
        bootstrap([run], seed=0, resamples=10)
    with pytest.raises(ValueError, match="above the width of 1"):
        stored(predictions(scores, truth), run.ids, width=1)
