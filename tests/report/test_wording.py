import pytest

from vidembed.evaluators import queries
from vidembed.report import wording
from vidembed.report.meanings import meanings


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (False, "no"),
        (1234567, "1,234,567"),
        (12.0, "12"),
        (1234.56, "1,235"),
        (0.123456, "0.1235"),
        (0.00001234, "1.234e-05"),
        ([0, 1, 2], "0, 1, 2"),
        ("text", "text"),
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
    ],
)
def test_number(value, text):
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (119.94, "119.9 s"),
        (128, "2 min 8 s"),
        (7199.4, "119 min 59 s"),
        (7200, "2 h 0 min"),
        (90061, "25 h 1 min"),
        (None, "–"),
    ],
)
def test_duration(seconds, text):
    assert wording.duration(seconds) == text


def test_scores():
    assert wording.score(0.26249) == "0.262"
    assert wording.score(0) == "0.000"
    assert wording.score(None) == wording.score(True) == "–"
    assert wording.signed(0.00341) == "+0.0034"
    assert wording.signed(-0.00341) == "-0.0034"
    assert wording.signed(float("nan")) == "–"
    assert wording.memory(1_934_000_000) == "1.93 GB"
    assert wording.memory(None) == "–"


def test_names():
    assert wording.measured("eval_to_train/ndcg@10") == "NDCG@10, new → known"
    assert wording.measured("map") == "MAP"
    assert wording.metric("recall@100") == "recall@100"
    assert wording.system("visual") == "raw visual"
    assert wording.system("my_own") == "my own"
    assert wording.system("popularity", "train_to_eval") == "popularity (oracle)"
    assert wording.system("popularity", "eval_to_eval") == "popularity (oracle)"
    assert wording.system("popularity", "eval_to_train") == "popularity"
    assert wording.system("visual", "eval_to_eval") == "raw visual"
    assert wording.measured("eval_to_eval/ndcg@60") == "NDCG@60, new → new"
    assert wording.measured("cold_items/auc") == "AUC, cold items"
    assert wording.in_words("mean of ndcg@5 over eval_to_eval, validation_train_to_eval") == (
        "mean of NDCG@5 over new → new, validation: known → new"
    )
    assert wording.system("text_standardised") == "standardised text"
    assert wording.asked("eval_to_eval").startswith("queries and candidates are new videos")
    assert wording.asked("my_own") == wording.asked("validation_my_own") == ""
    assert str(wording.breaks("a/<b>_c")) == "a/<wbr>&lt;b&gt;_<wbr>c"


def test_names_on_validation():
    assert wording.VALIDATION == queries.VALIDATION
    name = f"{queries.VALIDATION}train_to_eval"
    assert wording.measured(f"{name}/ndcg@10") == "NDCG@10, validation: known → new"
    assert wording.system("popularity", name) == "popularity (oracle)"
    assert (
        wording.asked(name)
        == "queries are known videos, candidates are new ones. New videos are those for validation."
    )
    names = ["a/map", f"{name}/map", "b/map"]
    assert wording.by_part(names) == {"test": ["a/map", "b/map"], "validation": [f"{name}/map"]}
    assert wording.by_part(names[::2]) == {"": ["a/map", "b/map"]}


def test_names_of_predicted_labels():
    assert wording.measured("test/map_per_class@20") == "MAP@20 per class, test"
    assert wording.measured("all_held_out/perr") == "PERR, all held out"
    assert wording.metric("hit@5") == "Hit@5"
    names = ["test/perr", "all_held_out/perr", "test/gap@20"]
    assert wording.by_table(names) == {
        "test": ["test/perr", "test/gap@20"],
        "all held out": ["all_held_out/perr"],
    }
    assert wording.by_table(["a/map", "validation_a/map"]) == {
        "test": ["a/map"],
        "validation": ["validation_a/map"],
    }
    metrics = [name.partition("/")[2] for name in names]
    assert [entry["name"] for entry in meanings(metrics)] == ["PERR", "PERR", "GAP@20"]
    assert [entry["means"] for entry in meanings(["hit@1", "hit@5", "ndcg@10"])] == [
        "the share of videos whose most probable label is true.",
        "the share of videos with a true label among their 5 most probable.",
    ]
