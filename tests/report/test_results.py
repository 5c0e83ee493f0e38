import pytest

from vidembed.report import results


def score(value, half=0.01):
    return {"value": value, "low": value - half, "high": value + half}


RELATED = {
    "eval_to_train": {
        "random": {"ndcg@10": score(0.01), "map": score(0.9)},
        "visual": {"ndcg@10": score(0.2), "map": score(0.3)},
        "my_own": {"ndcg@10": score(0.8), "map": score(0.8)},
        "popularity": {"ndcg@10": score(0.9), "map": score(0.01)},
        "trained": {"ndcg@10": score(0.3), "map": score(0.1)},
    },
    "train_to_eval": {"popularity": {"ndcg@10": score(0.5)}, "visual": {}},
}


def test_panels_are_in_order_and_mark_the_best_by_content():
    first, second = results.panels(RELATED)
    assert first["direction"] == "eval_to_train"
    assert first["metrics"] == ["ndcg@10", "map"]
    names = [row["name"] for row in first["rows"]]
    assert names == ["trained", "raw visual", "popularity", "random", "my own"]
    marked = [[cell["best"] for cell in row["cells"]] for row in first["rows"]]
    assert marked == [[True, False], [False, True], [False] * 2, [False] * 2, [False] * 2]
    assert first["rows"][1]["cells"][1]["interval"] == score(0.3)
    assert "popularity (oracle)" not in first["chart"]
    # A system without scores is not drawn.
    assert [row["name"] for row in second["rows"]] == ["raw visual", "popularity (oracle)"]
    assert "popularity (oracle)" in second["chart"]
    assert "raw visual" not in second["chart"]
    assert results.panels({"eval_to_train": {}}) == []


def test_the_main_metric_among_new_videos_is_ndcg_at_60():
    measured = {"ndcg@10": score(0.1), "ndcg@60": score(0.2), "map": score(0.3)}
    systems = {"visual": measured, "popularity": measured}
    first, second = results.panels(dict.fromkeys(("eval_to_train", "eval_to_eval"), systems))
    assert (first["main"], second["main"]) == ("ndcg@10", "ndcg@60")
    assert (first["oracle"], second["oracle"]) == (False, True)
    assert "NDCG@60 of each system, new → new" in second["chart"]
    assert "popularity (oracle)" in second["chart"]
    assert first["metrics"] == list(measured)
    only = {"ndcg@60": score(0.2)}
    (panel,) = results.panels({"eval_to_eval": {"visual": only}})
    assert "raw visual" in panel["chart"]
    above = {"one": "visual", "other": "popularity", "difference": {"eval_to_eval": measured}}
    (panel,) = results.control({"eval_to_eval": systems}, [above])
    assert panel["verdicts"][0]["difference"] == score(0.2)


def test_a_single_content_based_system_is_not_marked():
    systems = {"trained": {"map": score(0.4)}, "random": {"map": score(0.1)}}
    (panel,) = results.panels({"eval_to_train": systems})
    assert not any(cell["best"] for row in panel["rows"] for cell in row["cells"])
    assert panel["chart"] is None


def test_headlines():
    summary = {
        "ratio_to_visual": {
            "eval_to_train": {"mean": 1.3499, "per_seed": [1.3, 1.4]},
            "train_to_eval": {"mean": 1.15, "low": 1.1, "high": 1.204, "per_seed": []},
            "eval_to_eval": {"metric": "ndcg@5", "mean": 1.2, "per_seed": []},
        },
        "targets": {"eval_to_train": 1.35, "train_to_eval": 1.15},
        "seconds": {"a": 1.5, "b": 100.0, "c": None},
        "peak_memory_bytes": 2_000_000_000,
    }
    found = {one["name"]: (one["value"], one["note"]) for one in results.headlines(summary)}
    assert found == {
        "raw visual NDCG@10, new → known": (
            "1.350 ×",
            "each seed: 1.30, 1.40; aim 1.35: missed",
        ),
        "raw visual NDCG@10, known → new": (
            "1.150 ×",
            "95 %: 1.10 to 1.20; aim 1.15: reached",
        ),
        "raw visual NDCG@5, new → new": ("1.200 ×", ""),
        "all stages": ("101.5 s", "the sum of 2 stages"),
        "peak memory": ("2.00 GB", ""),
    }
    del summary["targets"]
    assert "aim" not in str(results.headlines(summary))
    assert results.headlines({}) == []


@pytest.mark.parametrize(
    ("low", "high", "finding"),
    [
        (-0.01, 0.02, "no difference detected"),
        (0.001, 0.02, "they differ"),
        (-0.02, -0.001, "they differ"),
    ],
)
def test_control_says_whether_systems_differ(low, high, finding):
    systems = {"trained": {"ndcg@10": score(0.1)}, "random": {"ndcg@10": score(0.1)}}
    above = {"value": 0.005, "low": low, "high": high}
    differences = [
        {
            "one": "trained",
            "other": "trained_exchanged",
            "difference": {"eval_to_train": {"ndcg@10": above}},
        }
    ]
    (panel,) = results.control({"eval_to_train": systems}, differences)
    (verdict,) = panel["verdicts"]
    assert verdict["finding"] == finding
    assert (verdict["one"], verdict["other"]) == ("trained", "trained, queries shuffled")


def test_control_without_differences_says_nothing():
    (panel,) = results.control({"eval_to_train": {"random": {"ndcg@10": score(0.1)}}}, [])
    assert panel["verdicts"] == []
