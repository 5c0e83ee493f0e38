import numpy as np
import pytest

from vidembed.graph.leak import LeakError, check_no_leak
from vidembed.graph.relation import RelationGraph

IDS = np.array([f"v{i:05d}" for i in range(5)]).astype("S")


def test_leaks_are_named():
    graph = RelationGraph.from_edges([0, 1, 2, 3], [1, 2, 3, 4], [1, 1, 1, 1], nodes=5)
    is_train = np.array([True, True, True, False, False])
    with pytest.raises(LeakError) as by_row:
        check_no_leak(graph, is_train)
    assert "2 of 4 training edges" in str(by_row.value)
    assert "2 (train) - 3 (evaluation); 3 (evaluation) - 4 (evaluation)" in str(by_row.value)
    with pytest.raises(LeakError, match=r"v00002 \(train\) - v00003 \(evaluation\)"):
        check_no_leak(graph, is_train, IDS)
    check_no_leak(graph.within(is_train), is_train)
    with pytest.raises(ValueError, match=r"bool\[5\]"):
        check_no_leak(graph, is_train[:4])


def test_ten_leaks_are_named_and_all_are_counted():
    rows = np.arange(1, 31)
    graph = RelationGraph.from_edges(np.zeros(30, int), rows, np.ones(30), nodes=31)
    with pytest.raises(LeakError) as error:
        check_no_leak(graph, np.arange(31) == 0)
    assert "30 of 30" in str(error.value)
    assert str(error.value).count("0 (train) -") == 10
