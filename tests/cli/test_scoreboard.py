"""What the terminal says of a measured checkpoint, with made-up numbers."""

import pytest

from vidembed.cli.scoreboard import Scoreboard, below_raw, score_lines, table
from vidembed.progress import Progress

DIRECTIONS = ("eval_to_train", "train_to_eval", "eval_to_eval")


def scores(*values):
    return {
        f"{direction}/{metric}": {"value": value / part, "low": 0.0, "high": 1.0}
        for direction, value in zip(DIRECTIONS, values)
        for metric, part in (("ndcg@10", 1), ("ndcg@60", 2), ("map", 4))
    }


def result(step, *values, simulated=True):
    return {
        "step": step,
        "scores": scores(*values),
        "queries": {d: {"queries": 1234, "left_out": 5} for d in DIRECTIONS[: len(values)]},
        "simulated_sessions": simulated,
    }


BASELINES = {
    "systems": {
        "rgb": scores(0.1, 0.1, 0.1),
        "visual_standardised": scores(0.2, 0.15, 0.1),
        "visual": scores(0.18, 0.16, 0.1),
        "random": scores(0.01, 0.3, 0.3),
        "popularity": scores(0.5, 0.5, 0.5),
    }
}


def test_the_run_stands_above_its_baselines():
    lines = list(table(result(200, 0.25, 0.3, 0.5), BASELINES))
    assert max(map(len, lines)) <= 80
    cells = [line.split("  ") for line in lines]
    assert [[cell.strip() for cell in row if cell] for row in cells] == [
        ["SIMULATED data", "NDCG@10", "NDCG@10", "NDCG@60"],
        ["new → known", "known → new", "new → new"],
        ["this run, step 200", "0.250", "0.300", "0.250"],
        ["raw visual", "0.180", "0.160", "0.050"],
        ["standardised visual", "0.200", "0.150", "0.050"],
        ["popularity", "0.500", "0.500*", "0.250*"],
        ["random", "0.010", "0.300", "0.150"],
        ["rgb", "0.100", "0.100", "0.050"],
        ["* an oracle: it counts future sessions"],
    ]  # fmt: skip
    [head, *_] = table(result(200, 0.25, simulated=False), BASELINES)
    assert head.split() == ["NDCG@10"]


@pytest.mark.fault(
    "Runs: a run that ends below raw features",
    "a WARNING: both numbers, which features, what to try",
)
def test_a_run_below_raw_features_is_warned_of_at_its_end():
    assert below_raw(result(200, 0.25, 0.16), BASELINES, last=200) is None
    low = result(200, 0.19, 0.1)
    words = below_raw(low, BASELINES, last=200)
    assert words.startswith(
        "WARNING: step 200 is below raw features: NDCG@10 new → known is 0.190, that of "
        "standardised visual 0.200; NDCG@10 known → new is 0.100, that of raw visual 0.160."
    )
    assert "--optimiser.learning-rate" in words
    assert "vidembed train linear" in words
    meanwhile = below_raw(low, BASELINES, last=1200)
    assert meanwhile.startswith("step 200 is below raw features")
    assert meanwhile.endswith("(1,000 steps are left)")


def test_a_run_below_the_closed_form_is_told_of_it_at_its_end():
    baselines = {"systems": BASELINES["systems"] | {"closed_form": scores(0.25, 0.15, 0.1)}}
    measured = result(200, 0.24, 0.16)
    assert below_raw(measured, baselines, last=300) is None
    words = below_raw(measured, baselines, last=200)
    assert words.startswith(
        "step 200 is below the closed form: NDCG@10 new → known is 0.240, that of closed form "
        "0.250. That takes seconds to solve (vidembed train linear)"
    )
    assert below_raw(result(200, 0.24999, 0.16), baselines, last=200) is None


def test_every_score_has_its_interval():
    lines = list(score_lines(result(7, 0.25)))
    assert lines[0] == (
        "step 7  new → known: 1,234 queries; left out: 5 videos without relevant videos"
    )
    assert lines[1].split()[2:] == [
        "NDCG@10,", "new", "→", "known", "0.2500", "[0.0000,", "1.0000]", "(simulated", "data)",
    ]  # fmt: skip


def with_validation(record, *values):
    """A result, or the record of the baselines, with scores on validation besides."""
    if "systems" in record:
        systems = {
            name: with_validation({"scores": found}, *values)["scores"]
            for name, found in record["systems"].items()
        }
        return {"systems": systems}
    more = {f"validation_{name}": score for name, score in scores(*values).items()}
    return {**record, "scores": record["scores"] | more}


def test_test_and_validation_videos_have_a_table_each():
    measured = with_validation(result(200, 0.25, 0.3, 0.5), 0.125, 0.15, 0.25)
    lines = list(table(measured, with_validation(BASELINES, 0.75, 0.75, 0.75)))
    assert max(map(len, lines)) <= 80
    first = list(table(result(200, 0.25, 0.3, 0.5), BASELINES))[:-1]
    first[1] = first[1].replace(" " * 13, "  test videos", 1)
    assert lines[: len(first)] == first
    second = lines[len(first) : -1]
    assert second[0] == lines[0]
    assert " ".join(second[1].split()) == "validation videos new → known known → new new → new"
    assert second[2].split()[-3:] == ["0.125", "0.150", "0.125"]
    assert second[3].split()[-3:] == ["0.750", "0.750", "0.375"]
    assert lines[-1].startswith("* an oracle")


def test_with_validation_videos_these_say_whether_a_run_is_below_raw_features():
    baselines = with_validation(BASELINES, 0.2)
    assert below_raw(with_validation(result(9, 0.0), 0.3), baselines, last=9) is None
    words = below_raw(with_validation(result(9, 0.9), 0.1), baselines, last=9)
    assert "features: NDCG@10 validation: new → known is 0.100, that of " in words
    assert words.count("NDCG@10") == 1


class Measuring:
    """A job of one evaluator, and what it measured, with a count of the baselines asked for."""

    asked = 0

    class measurements:  # noqa: N801
        @staticmethod
        def best():
            return {"step": 10}

    def __init__(self):
        self.progress = Progress()
        self.selecting, self.each = self, (self,)

    def selection(self, result):
        return "mean of ndcg@10", 0.125

    def last_step(self):
        return 30

    def baselines(self, computed):
        self.asked += 1
        return BASELINES


@pytest.mark.parametrize(("baselines", "tables"), [(True, 2), (False, 0)])
def test_the_table_stands_at_the_first_and_at_the_last_result(baselines, tables, capsys):
    evaluation = Measuring()
    board = Scoreboard(evaluation, baselines=baselines)
    for step in (10, 20, 30):
        board.show([result(step, 0.5, 0.5)])
    out = capsys.readouterr().out
    assert out.count("raw visual") == tables
    assert out.count("mean of NDCG@10: 0.1250; best so far: step 10") == 3
    assert bool(evaluation.asked) == baselines


def test_an_evaluator_of_other_metrics_has_a_table_and_one_without_directions_has_none():
    def measured(name, value):
        return {"scores": {name: {"value": value, "low": 0.0, "high": 1.0}}}

    other = result(9, 0.0) | measured("held_out/accuracy", 0.25)
    baselines = {"systems": {"popularity": measured("held_out/accuracy", 0.5)["scores"]}}
    assert [line.split()[-1] for line in table(other, baselines)][2:4] == ["0.250", "0.500"]
    assert below_raw(other, baselines, last=9) is None
    bare = result(9, 0.0) | measured("accuracy", 0.25)
    assert list(table(bare, {"systems": {}})) == []
    assert below_raw(bare, {"systems": {}}, last=9) is None
