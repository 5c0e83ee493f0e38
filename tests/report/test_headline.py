import pytest

from vidembed.report.headline import headline, shown


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
    ],
)
def test_each_direction_has_its_depth(direction, metrics, wanted):
    assert headline(direction, metrics) == wanted
    assert shown(direction, metrics) == [wanted, "map"]
