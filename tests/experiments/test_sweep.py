"""The definitions of the sweeps: points, shards, and the paper's numbers."""

from pathlib import Path

import pytest

from experiments import architectures, batch_sizes, compute, margins, miners, modalities, sizes
from experiments.paper import TABLE_1, TABLE_2
from experiments.points import points_of
from experiments.sweep import base_recipe

SWEEPS = [
    module.sweep
    for module in (modalities, architectures, sizes, batch_sizes, miners, compute, margins)
]
# As in the notes on the paper: name, NDCG T2E/E2T, MAP T2E/E2T.
PRINTED = """
video 7.22/10.38 2.27/2.68
early-2560-256 8.48/12.04 2.70/3.20
early-4000-256 9.51/13.13 3.01/3.49
late-4000-256 9.91/13.46 3.13/3.58
early-4000-512-256 9.29/12.64 2.90/3.33
early-4000-1024-256 9.46/12.80 2.95/3.38
late-4000-1024-256 9.82/13.05 3.07/3.44
"""


def test_the_papers_numbers_are_those_it_prints():
    lines = PRINTED.split("\n")[1:-1]
    for name, ndcg, average in map(str.split, lines):
        for metric, text in (("ndcg@10", ndcg), ("map", average)):
            printed = tuple(map(float, text.split("/")))
            percent = (TABLE_2 | TABLE_1)[name]
            values = (percent["train_to_eval"][metric], percent["eval_to_train"][metric])
            assert values == printed, name
    assert len({**TABLE_1, **TABLE_2}) == len(lines) + 1
    assert TABLE_1["video and audio"] == TABLE_2["early-2560-256"]


def test_the_papers_differences_are_those_that_it_makes():
    """Only within one table: the video-only network of Table 1 is not a point."""
    differences = {}
    for sweep in SWEEPS:
        for first, second, _, paper in sweep.compared(base_recipe()):
            if paper:
                differences[first, second] = (
                    paper["train_to_eval"]["ndcg@10"], paper["eval_to_train"]["ndcg@10"],
                    paper["train_to_eval"]["map"], paper["eval_to_train"]["map"],
                )  # fmt: skip
    # By hand, from PRINTED.
    assert differences == {
        ("early-2560-256", "visual-4000-256"): (1.26, 1.66, 0.43, 0.52),
        ("late-4000-256", "early-4000-256"): (0.40, 0.33, 0.12, 0.09),
        ("late-4000-1024-256", "early-4000-1024-256"): (0.36, 0.25, 0.12, 0.06),
        ("early-4000-256", "early-2560-256"): (1.03, 1.09, 0.31, 0.29),
        ("early-4000-256", "early-4000-512-256"): (0.22, 0.49, 0.11, 0.16),
        ("early-4000-256", "early-4000-1024-256"): (0.05, 0.33, 0.06, 0.11),
        ("late-4000-256", "late-4000-1024-256"): (0.09, 0.41, 0.06, 0.14),
    }
    (table_1,) = (c for c in modalities.sweep.compared(base_recipe()) if c.paper)
    assert "width not stated" in table_1.asks


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_a_name_means_one_recipe_in_all_sweeps(sweep):
    base = sweep.base(*sweep.sizes["reduced"])
    mine = sweep.points(base)
    assert mine[sweep.reference] == base
    for other in (other for other in SWEEPS if other.base == sweep.base):
        for name, recipe in other.points(base).items():
            assert mine.get(name, recipe) == recipe, f"{name} of {other.name}"
    recipes = list(mine.values())
    assert all(one not in recipes[:place] for place, one in enumerate(recipes))
    for one, other, *_ in sweep.compared(base):
        assert {one, other} <= mine.keys()


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_shards_are_disjoint_and_are_all(sweep):
    whole = points_of(sweep, base_recipe(), Path("w"), (0, 1, 2))
    folders = [str(point) for point in whole]
    assert len(set(folders)) == len(folders)
    for of in (1, 2, 3, 7, 1000):
        parts = [point for number in range(of) for point in folders[number::of]]
        assert sorted(parts) == sorted(folders)


def test_the_points_are_what_they_say():
    base = base_recipe()
    points_of_sweep = {s.name: s.points(base) for s in SWEEPS}
    assert [r.task.model.layers.size for r in points_of_sweep["sizes"].values()] == [
        16, 32, 64, 128, 256, 512, 1024,
    ]  # fmt: skip
    seen = {r.steps * r.feed.batch_triplets for r in points_of_sweep["batch_sizes"].values()}
    whole = base.steps * base.feed.batch_triplets
    assert all(abs(n / whole - 1) < 0.05 for n in seen)
    deep = points_of_sweep["architectures"]["early-4000-512-256"].task.model
    assert (type(deep).__name__, deep.layers.hidden, deep.layers.size) == (
        "EarlyFusion", (4000, 512), 256,
    )  # fmt: skip


def test_decays_are_in_the_grid_where_they_act():
    short = margins.sweep.points(base_recipe(steps=100))
    assert len(short) == 3 * 7
    long = margins.sweep.points(base_recipe(steps=200_000))
    assert len(long) == 3 * 7 * 3 * 2
    rates = {
        tuple(float(recipe.optimiser.rate(step)) for step in (0, 99_999, 100_000, 199_999))
        for recipe in long.values()
    }
    assert len(rates) == 7 * 3 * 2
