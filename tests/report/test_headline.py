import pytest

from vidembed.report.headline import headline, on_top, shown


@pytest.mark.parametrize(
    ("direction", "metrics", "wanted"),
    [
        ("eval_to_train", ("ndcg@60", "ndcg@10", "map"), "ndcg@10"),
        ("train_to_eval", ("ndcg@10", "ndcg@60", "map"), "ndcg@10"),
        ("eval_to_eval", ("ndcg@10", "ndcg@60", "map"), "ndcg@60"),
        ("validation_eval_to_eval", ("ndcg@10", "ndcg@60", "map"), "ndcg@60"),
        # A metric that was not measured cannot be shown.
        ("eval_to_eval", ("ndcg@10", "ndcg@20"), "ndcg@10"),
        ("eval_to_train", ("map", "ndcg@5"), "ndcg@5"),
        ("eval_to_train", ("map",), "ndcg@10"),
        ("my_own", ("ndcg@10",), "ndcg@10"),
        ("test", ("hit@1", "gap@20"), "gap@20"),
    ],
)
def test_each_direction_has_its_depth(direction, metrics, wanted):
    assert headline(direction, metrics) == wanted
    assert shown(direction, metrics) == [wanted, "map"]


def test_predicted_labels_have_four_scores_on_top_and_other_scores_those_of_one_part():
    metrics = ("map_per_class@5", "hit@1", "hit@5", "perr", "map_per_class", "gap@5")
    scores = [f"{part}/{metric}" for part in ("test", "validation") for metric in metrics]
    assert on_top(scores) == ["test/gap@5", "test/map_per_class", "test/hit@1", "test/perr"]
    assert on_top(["test/hit@5"]) == ["test/hit@5"]
    assert on_top(["a/map", "b/hit@1", "validation_a/map"]) == ["a/map", "b/hit@1"]
