import numpy as np

from vidembed.report import runs

RUNS = ["seed0/trained", "seed12/trained", "seed0/visual_only", "seed0-permuted/trained", "run1"]


def test_runs_that_differ_in_the_seed_share_a_colour():
    assert list(runs.families(RUNS).values()) == [0, 0, 1, 2, 3]
    assert [(e["name"], e["runs"], e["series"]) for e in runs.legend(RUNS)] == [
        ("trained", 2, 1),
        ("visual only", 1, 2),
        ("permuted, trained", 1, 3),
        ("run1", 1, 4),
    ]
    assert runs.family("seed3") == "seed3"
    assert runs.legend([f"run{i}" for i in range(9)])[8]["series"] == 1


def test_last_measures_by_hand():
    lines = [
        {"kind": "train", "step": 1, "loss": 9.0, "triplets_per_second": 1.0, "waiting_share": 0.9},
        {"kind": "train", "step": 2, "loss": 8.0, "triplets_per_second": 200.0},
        {"kind": "evaluation", "step": 9, "loss": 7.0},
        {"kind": "train", "step": 3, "loss": 0.5, "triplets_per_second": 300.0},
    ]
    lines[1]["large_forbidden"], lines[3]["large_forbidden"] = 4, 3
    table = runs.last_measures({"a": lines, "b": [{"step": 7, "loss": None, "mined": 0.25}]})
    assert table["runs"] == ["a", "b"]
    assert {row["name"]: row["cells"] for row in table["rows"]} == {
        "step": ["3", "7"],
        "loss": ["0.5", "–"],
        "mined": ["–", "0.25"],
        "triplets per second": ["250", "–"],
        "large forbidden": ["7", "–"],
    }


def test_curves_are_drawn_of_what_was_logged(inputs):
    titles = [chart["title"] for chart in runs.training_curves(inputs["journals"])]
    assert len(titles) == 10
    lines = [{"kind": "train", "step": s, "loss": np.nan, "mined": 0.5} for s in (1, 2)]
    charts = runs.training_curves({"a": lines, "b": []})
    assert [chart["title"] for chart in charts] == ["Share of triplets whose negative was mined"]
    assert runs.training_curves({}) == []


def test_test_and_validation_scores_are_two_tables_and_the_choice_is_said():
    score = {"value": 0.1, "low": 0.0, "high": 0.2}
    names = ["a/map", "validation_a/map", "b/map", "validation_b/map"]
    chosen = {"name": "mean of map over a, b on validation", "value": 0.1}
    found = [{"step": 4, "scores": dict.fromkeys(names, score), "selection": chosen}]
    tables = runs.checkpoint_tables({"run": found})
    assert [(table["name"], table["metrics"]) for table in tables] == [
        ("run, test", ["a/map", "b/map"]),
        ("run, validation", ["validation_a/map", "validation_b/map"]),
    ]
    assert runs.chosen_by({"run": found * 2, "other": found}) == [chosen["name"]]
    unsaid = [{"step": 4, "scores": {}}, {"step": 5, "scores": {}, "selection": {"name": "map"}}]
    assert runs.chosen_by({"run": unsaid}) == []


def test_checkpoints_are_in_the_order_of_their_steps():
    found = [
        {"step": step, "scores": {"map": {"value": value, "low": value, "high": value}}}
        for step, value in ((30, 0.3), (4, 0.1))
    ]
    (table,) = runs.checkpoint_tables({"a": found, "b": []})
    assert [row["step"] for row in table["rows"]] == [4, 30]
    assert [row["cells"][0]["value"] for row in table["rows"]] == [0.1, 0.3]
    (chart,) = runs.checkpoint_charts({"a": found, "b": []})
    assert "step" in chart["svg"]
    # One checkpoint per run gives no curve: the runs are compared.
    (chart,) = runs.checkpoint_charts({"a": found[:1], "b": []})
    assert ">a</text>" in chart["svg"]
    assert "step" not in chart["svg"]


def test_scores_of_parts_of_the_videos_share_charts_and_have_a_table_each():
    names = ["test/gap@20", "test/hit@1", "validation/gap@20", "validation/hit@1"]
    score = {"value": 0.1, "low": 0.0, "high": 0.2}
    found = [
        {
            "step": step,
            "scores": dict.fromkeys(names, score),
            "selection": {"name": "validation/gap@20"},
        }
        for step in (4, 8)
    ]
    tables = runs.checkpoint_tables({"run": found})
    assert [(table["name"], table["metrics"]) for table in tables] == [
        ("run, test", names[:2]),
        ("run, validation", names[2:]),
    ]
    assert runs.chosen_by({"run": found}) == ["GAP@20 on validation"]
    for measured in (found, found[:1]):
        charts = runs.checkpoint_charts({"run": measured})
        assert [chart["title"] for chart in charts] == ["GAP@20", "Hit@1"]
        for chart in charts:
            assert ">test</text>" in chart["svg"]
            assert ">validation</text>" in chart["svg"]
