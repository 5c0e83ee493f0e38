import io

import numpy as np
import pytest
from rich.console import Console

from experiments.summary import difference, print_table, ratios, with_intervals
from experiments.systems import read_scores, write_scores


def scores(value, queries=50, shift=0.0):
    rng = np.random.default_rng(queries)
    base = np.clip(rng.random(queries), 0.05, 0.9)
    return {
        direction: dict.fromkeys(("ndcg@10", "map", "recall@10"), base * value + shift)
        for direction in ("eval_to_train", "train_to_eval")
    }


SEEDS = [{"trained": scores(1.0, n), "visual": scores(0.5, n)} for n in (40, 60)]


def test_values_are_means_over_seeds():
    entry = with_intervals(SEEDS)["eval_to_train"]["trained"]["map"]
    means = [s["trained"]["eval_to_train"]["map"].mean() for s in SEEDS]
    assert entry["value"] == pytest.approx(np.mean(means))
    assert entry["low"] < entry["value"] < entry["high"]


def test_ratio_and_paired_difference():
    assert ratios(SEEDS, "trained", "visual")["train_to_eval"] == {
        "metric": "ndcg@10",
        "mean": pytest.approx(2.0),
        "per_seed": pytest.approx([2.0, 2.0]),
    }
    shifted = [{"a": scores(1.0, n, shift=0.01), "b": scores(1.0, n)} for n in (40, 60)]
    entry = difference(shifted, "a", "b")["eval_to_train"]["ndcg@10"]
    # The same for every query: pairing leaves no spread.
    assert (entry["low"], entry["high"]) == (pytest.approx(0.01), pytest.approx(0.01))


def test_the_table_fits_80_columns_and_names_oracle_and_simulation():
    both = [{s: scores(0.5) for s in ("trained", "popularity", "random")}]
    out = io.StringIO()
    print_table(with_intervals(both), simulated=True, console=Console(file=out, width=80))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("SIMULATED sessions") == 2
    assert text.count("popularity (oracle)") == 1


def test_a_direction_among_new_videos_is_shown_at_its_own_depth():
    names = ("ndcg@10", "ndcg@60", "map", "recall@10", "recall@60")
    values = {name: np.full(5, place / 10) for place, name in enumerate(names, 1)}
    one = dict.fromkeys(("eval_to_train", "eval_to_eval"), values)
    half = {d: {name: array / 2 for name, array in values.items()} for d in one}
    both = [{"trained": one, "popularity": half}]
    out = io.StringIO()
    print_table(with_intervals(both), simulated=True, console=Console(file=out, width=80))
    first, second = out.getvalue().split("eval queries, other eval candidates")
    assert "NDCG@10" in first
    assert row_of(first) == ["trained", "0.100", "0.100", "to", "0.100", "0.300", "0.400"]
    assert "NDCG@60" in second
    assert "recall@60" in second
    assert row_of(second) == ["trained", "0.200", "0.200", "to", "0.200", "0.300", "0.500"]
    assert (first.count("(oracle)"), second.count("(oracle)")) == (0, 1)
    found = ratios([{"trained": half, "visual": one}], "visual", "trained")["eval_to_eval"]
    assert found == {"metric": "ndcg@60", "mean": 2.0, "per_seed": [2.0]}


def row_of(text):
    return next(line.split() for line in text.splitlines() if "trained" in line)


def test_scores_round_trip(tmp_path):
    write_scores(SEEDS[0], tmp_path / "scores.parquet")
    back = read_scores(tmp_path / "scores.parquet")
    assert back.keys() == SEEDS[0].keys()
    for system, directions in SEEDS[0].items():
        for direction, metrics in directions.items():
            for metric, values in metrics.items():
                np.testing.assert_array_equal(back[system][direction][metric], values)
