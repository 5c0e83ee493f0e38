import io

import numpy as np
import pytest
from rich.console import Console

from experiments import modalities
from experiments.gathering import courses, over_seeds
from experiments.points import points_of, refuse_uneven
from experiments.sweep import base_recipe
from experiments.tables import print_systems
from vidembed.metrics.intervals import bootstrap, differences, ratios
from vidembed.records.scores_file import PerQuery


def asked(values, first=0):
    ids = np.array([f"v{first + i}" for i in range(len(next(iter(values.values()))))], "S")
    return PerQuery(ids=ids, values=values)


def scores(value, queries=50, shift=0.0):
    rng = np.random.default_rng(queries)
    base = np.clip(rng.random(queries), 0.05, 0.9)
    return {
        direction: asked(dict.fromkeys(("ndcg@10", "map", "recall@10"), base * value + shift))
        for direction in ("eval_to_train", "train_to_eval")
    }


def summary(seeds):
    found = {system: over_seeds(seeds, system, by=bootstrap) for system in seeds[0]}
    return {d: {system: found[system][d] for system in found} for d in found["trained"]}


SEEDS = [{"trained": scores(1.0, n), "visual": scores(0.5, n)} for n in (40, 60)]


def test_values_are_means_over_seeds():
    entry = over_seeds(SEEDS, "trained", by=bootstrap)["eval_to_train"]["map"]
    means = [s["trained"]["eval_to_train"].values["map"].mean() for s in SEEDS]
    assert entry["value"] == pytest.approx(np.mean(means))
    assert entry["low"] < entry["value"] < entry["high"]


def test_ratio_and_paired_difference():
    # Twice as much for every query: no sample of them says anything else.
    ratio = over_seeds(SEEDS, "trained", "visual", by=ratios)["train_to_eval"]["ndcg@10"]
    assert ratio == dict.fromkeys(("value", "low", "high"), pytest.approx(2.0))
    shifted = [{"a": scores(1.0, n, shift=0.01), "b": scores(1.0, n)} for n in (40, 60)]
    entry = over_seeds(shifted, "a", "b", by=differences)["eval_to_train"]["ndcg@10"]
    # The same for every query: pairing leaves no spread.
    assert (entry["low"], entry["high"]) == (pytest.approx(0.01), pytest.approx(0.01))


def test_the_table_fits_80_columns_and_names_oracle_and_simulation():
    both = [{s: scores(0.5) for s in ("trained", "popularity", "random")}]
    out = io.StringIO()
    print_systems(summary(both), console=Console(file=out, width=80))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("SIMULATED sessions") == 2
    assert text.count("popularity (oracle)") == 1


def test_a_direction_among_new_videos_is_shown_at_its_own_depth():
    names = ("ndcg@10", "ndcg@60", "map", "recall@10", "recall@60")
    values = {name: np.full(5, place / 10) for place, name in enumerate(names, 1)}
    one = dict.fromkeys(("eval_to_train", "eval_to_eval"), asked(values))
    half = dict.fromkeys(one, asked({name: array / 2 for name, array in values.items()}))
    both = [{"trained": one, "popularity": half}]
    out = io.StringIO()
    print_systems(summary(both), console=Console(file=out, width=80))
    first, second = out.getvalue().split("new → new videos")
    assert "NDCG@10" in first
    assert row_of(first) == ["trained", "0.100", "0.100", "to", "0.100", "0.300", "0.400"]
    assert "NDCG@60" in second
    assert "recall@60" in second
    assert row_of(second) == ["trained", "0.200", "0.200", "to", "0.200", "0.300", "0.500"]
    assert (first.count("(oracle)"), second.count("(oracle)")) == (0, 1)


def row_of(text):
    return next(line.split() for line in text.splitlines() if "trained" in line)


@pytest.mark.fault("Runs: results per query cut, a bit flipped, or of an older version")
def test_systems_that_were_asked_other_queries_are_not_compared():
    one, other = scores(1.0), scores(0.5)
    direction = "train_to_eval"
    other[direction] = asked(dict(other[direction].values), first=1)
    seeds = [{"trained": one, "visual": other}]
    for by in (differences, ratios):
        with pytest.raises(ValueError, match="trained, visual were not asked the same queries"):
            over_seeds(seeds, "trained", "visual", by=by)


@pytest.mark.fault(
    "Scores: a control that only some seeds have, as where an older version measured the others",
    "refused: which seed lacks what, and the files to remove so that it is measured anew",
)
def test_a_control_that_some_seeds_lack_is_named_with_its_files(tmp_path):
    points = points_of(modalities.sweep, base_recipe(), tmp_path, (0, 1))
    references = [point for point in points if point.controls]
    of = {point: {"trained": {}, "visual": {}, "closed_form": {}} for point in references}
    refuse_uneven(of)
    older = next(p for p in references if p.seed == 1 and not p.permuted)
    del of[older]["closed_form"]
    folder = rf"seed1/{older.name}/evaluation/RelatedVideos-\w+/baselines"
    expected = rf"lacks closed_form, .*Remove \S*{folder}.json and \S*{folder}.parquet"
    with pytest.raises(ValueError, match=expected):
        refuse_uneven(of)
    seeds = [SEEDS[0], {"trained": SEEDS[1]["trained"]}]
    with pytest.raises(ValueError, match=r"visual is not measured in 1 of 2 seeds \(by place: 1\)"):
        over_seeds(seeds, "trained", "visual", by=ratios)


def test_the_course_of_a_measure_is_its_mean_over_thirds_of_each_run():
    def run(*values):
        lines = [{"kind": "train", "step": n, "share": value} for n, value in enumerate(values)]
        return [*lines[:3], {"kind": "evaluation", "step": 3, "share": 100.0}, *lines[3:]]

    runs = [run(0, 2, 3, 5, 6, 8, 9), run(1, 1, 1, 1, 1, 1)]
    first, middle, last = (5 / 3 + 1) / 2, (5.5 + 1) / 2, (8.5 + 1) / 2
    assert courses(runs, ["share", "other"]) == {"share": pytest.approx([first, middle, last])}
    assert courses([], ["share"]) == {}
    assert courses([run(1, 2)], ["share"]) == {}
    assert courses([run(1, None, 2, None, None, 4)], ["share"])["share"] == [1, 2, 4]
    assert courses([run(1, 1, None, None, 2, 2)], ["share"]) == {}
