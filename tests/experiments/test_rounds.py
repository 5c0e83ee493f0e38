from experiments.benchmarks.rounds import against, in_rounds


def test_every_round_runs_every_case_and_the_first_is_not_counted():
    calls = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = in_rounds(works, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_the_ratio_is_the_median_of_the_rounds():
    # A slow round, the second, slows both alike.
    seconds, limit, note = against([2.0, 40.0, 3.0], [1.0, 10.0, 2.0])
    assert seconds == 3.0
    assert seconds / limit == 2.0
    assert note == "ratio 1.50 to 4.00 in 3 rounds"
