import numpy as np
import pytest

from vidembed.metrics import intervals
from vidembed.metrics.intervals import bootstrap, differences, ratios


def skewed(rng, shape):
    """Values like NDCG: many zeros, the rest spread over [0, 1]; their true mean is 0.2."""
    return rng.random(shape) * (rng.random(shape) < 0.4)


def interval_of(values, **options):
    return bootstrap([{"map": values}], **options)["map"]


def width(interval):
    return interval.high - interval.low


def sharing(rng, *, shared, videos=400, correlation=0.6):
    """Three runs with queries from the same 1,000 videos, or each from its own 1,000."""
    easy = rng.normal(size=1000)
    runs, query_videos = [], []
    for number in range(3):
        ids = rng.choice(1000, videos, replace=False)
        individual = rng.normal(size=1000)
        mixed = np.sqrt(correlation) * easy + np.sqrt(1 - correlation) * individual
        runs.append({"map": mixed[ids]})
        query_videos.append(
            np.array([f"v{i + (0 if shared else 1000 * number)}" for i in ids], "S")
        )
    return runs, query_videos


def loop(runs, videos, of, *, seed, resamples):
    """The interval by plain loops: each drawn video brings its queries of every run."""
    rng = np.random.default_rng(seed)
    distinct = sorted({name for ids in videos for name in ids.tolist()})
    values = []
    for _ in range(resamples):
        drawn = [distinct[i] for i in rng.integers(0, len(distinct), len(distinct))]
        run_values = []
        for run, ids in zip(runs, videos):
            rows = [row for name in drawn for row in np.flatnonzero(ids == name)]
            if rows:
                run_values.append(of({name: v[rows].mean() for name, v in run.items()}))
        values.append(np.mean(run_values))
    return np.quantile(values, [0.025, 0.975])


def test_equal_to_a_loop_over_resamples_videos_and_runs():
    rng = np.random.default_rng(0)
    videos = [np.array(ids, "S") for ids in (["a", "b", "c", "d"], ["c", "a", "e"], ["e"])]
    runs = [{"x": rng.random(len(i)), "y": rng.random(len(i)) + 0.1} for i in videos]
    options = {"seed": 3, "resamples": 200}
    level = bootstrap(runs, videos=videos, **options)
    assert list(level) == ["x", "y"]
    # In some resamples the last run has no query and is left out.
    assert level["x"][1:] == pytest.approx(loop(runs, videos, lambda m: m["x"], **options))
    assert level["x"].value == pytest.approx(np.mean([run["x"].mean() for run in runs]))
    first = [{"m": run["x"]} for run in runs]
    second = [{"m": run["y"]} for run in runs]
    interval = differences(first, second, videos=videos, **options)["m"]
    assert interval[1:] == pytest.approx(loop(runs, videos, lambda m: m["x"] - m["y"], **options))
    interval = ratios(first, second, videos=videos, **options)["m"]
    assert interval[1:] == pytest.approx(loop(runs, videos, lambda m: m["x"] / m["y"], **options))
    assert interval.value == pytest.approx(np.mean([r["x"].mean() / r["y"].mean() for r in runs]))


def test_runs_that_share_videos_have_wider_intervals():
    rng = np.random.default_rng(1)
    runs, query_videos = sharing(rng, shared=True)
    shared = bootstrap(runs, videos=query_videos, seed=0, resamples=4000)["map"]
    # Each pair of runs shares 0.4 of its videos, whose values have correlation 0.6.
    error = np.sqrt(sum(run["map"].var() / 400 for run in runs)) / 3
    assert width(shared) == pytest.approx(2 * 1.96 * error * np.sqrt(1 + 2 * 0.4 * 0.6), rel=0.08)
    runs, query_videos = sharing(rng, shared=False)
    independent = bootstrap(runs, videos=query_videos, seed=0, resamples=4000)["map"]
    error = np.sqrt(sum(run["map"].var() / 400 for run in runs)) / 3
    assert width(independent) == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_width_matches_the_normal_approximation():
    values = skewed(np.random.default_rng(0), 2000)
    interval = interval_of(values, seed=1, resamples=2000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    assert width(interval) == pytest.approx(2 * half, rel=0.08)
    assert interval.low == pytest.approx(values.mean() - half, abs=half * 0.15)


def test_ninety_five_of_a_hundred_intervals_hold_the_true_mean():
    rng = np.random.default_rng(2)
    covers = [
        interval.low <= 0.2 <= interval.high
        for interval in (interval_of(skewed(rng, 150), seed=i, resamples=400) for i in range(400))
    ]
    # Four standard deviations of 400 draws, and the percentile bootstrap is a little narrow.
    assert 0.90 < np.mean(covers) < 0.99


def test_seeds_blocks_and_the_order_of_queries(monkeypatch):
    runs, videos = sharing(np.random.default_rng(3), shared=True, videos=100)
    interval = bootstrap(runs, videos=videos, seed=3)["map"]
    assert interval == bootstrap(runs, videos=videos, seed=3)["map"]
    assert interval != bootstrap(runs, videos=videos, seed=4)["map"]
    reversed_ = [{"map": run["map"][::-1]} for run in runs], [ids[::-1] for ids in videos]
    assert bootstrap(reversed_[0], videos=reversed_[1], seed=3)["map"] == pytest.approx(interval)
    for draws in (1, 1700):
        monkeypatch.setattr(intervals, "DRAWS_AT_ONCE", draws)
        assert bootstrap(runs, videos=videos, seed=3)["map"] == pytest.approx(interval)


def test_equal_values_have_no_width():
    assert interval_of(np.full(9, 0.25), seed=0) == (0.25, 0.25, 0.25)


def test_differences_cancel_what_both_share():
    rng = np.random.default_rng(6)
    hard = rng.random(800)
    first, second = hard + 0.02 + rng.normal(0, 0.01, 800), hard
    ids = np.arange(800)

    def minus(ones, others):
        sides = [[{"map": values} for values in side] for side in (ones, others)]
        return differences(*sides, videos=[ids] * len(ones), seed=0)["map"]

    interval = minus([first], [second])
    assert interval.value == pytest.approx(0.02, abs=0.002)
    assert width(interval) < 0.005
    assert interval.low > 0
    assert width(interval_of(first, seed=0)) > 0.03
    assert minus([first, second], [second, first]).value == pytest.approx(0)
    assert minus([second], [first]).value == pytest.approx(-interval.value)


def test_a_ratio_ignores_resamples_of_zero_and_refuses_a_mean_of_zero():
    ones, videos = [{"map": np.ones(3)}], [np.arange(3)]
    rare = ratios(ones, [{"map": np.array([0.5, 0, 0])}], videos=videos, seed=0)["map"]
    assert rare == pytest.approx((6, 2, 6))
    with pytest.raises(ValueError, match="ratio to a mean of zero: map"):
        ratios(ones, [{"map": np.zeros(3)}], videos=videos, seed=0)


@pytest.mark.parametrize(
    "values", [np.array([]), np.array([0.1, np.nan]), np.array([np.inf]), np.zeros((2, 2))]
)
def test_values_without_a_mean_are_refused(values):
    with pytest.raises(ValueError, match="one finite value per query"):
        interval_of(values, seed=0)


def test_what_cannot_be_compared_or_shown_is_refused():
    three, four = [{"map": np.zeros(3)}], [{"map": np.zeros(4)}]
    with pytest.raises(ValueError, match="a video for each"):
        differences(three, four, videos=[np.arange(3)], seed=0)
    with pytest.raises(ValueError, match="the same runs and metrics"):
        differences(three, [{"ndcg": np.zeros(3)}], videos=[np.arange(3)], seed=0)
    with pytest.raises(ValueError, match="differ in their metrics"):
        bootstrap([*three, {"ndcg": np.zeros(3)}], videos=[np.arange(3)] * 2, seed=0)
    with pytest.raises(ValueError, match="no runs"):
        bootstrap([], seed=0)
    with pytest.raises(ValueError, match="give the videos of each"):
        bootstrap(three * 2, seed=0)
    with pytest.raises(ValueError, match="10 resamples"):
        interval_of(np.zeros(3), seed=0, resamples=10)
