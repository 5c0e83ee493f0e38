"""Slices of results against a loop over videos."""

from dataclasses import replace

import numpy as np
import pytest

from vidembed.corpora.ratings import Ratings
from vidembed.evaluators import user_queries
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.evaluators.slices import sliced, slices_of
from vidembed.records.scores_file import PerQuery


def test_each_video_is_in_one_slice_of_a_kind(corpus):
    rng = np.random.default_rng(0)
    watched, neighbours = rng.permutation(60), rng.integers(0, 40, 60)
    labelled = replace(
        corpus.table,
        label_offsets=np.minimum(np.arange(61), 50),
        label_values=rng.integers(0, 12, 50).astype(np.int32),
    )
    seconds = np.where(np.arange(60) == 7, np.nan, rng.random(60))
    of = slices_of(
        labelled,
        popularity=watched,
        neighbours=neighbours,
        seconds=seconds,
        label_kinds={
            "label": {n: f"name {n}" for n in range(12)},
            "vertical": {n: "even" if n % 2 == 0 else "odd" for n in range(11)},
        },
    )
    head = np.argsort(-watched)[:6]
    assert (np.flatnonzero(of["popularity"] == "head") == np.sort(head)).all()
    assert (of["popularity"] == "torso").sum() == 24
    assert of["popularity"][watched == 0] == "never watched"
    for name, number in zip(of["neighbours"], neighbours):
        low = {"none": 0, "1 to 2": 1, "3 to 9": 3, "10 to 29": 10, "30 or more": 30}[name]
        assert low <= number < {0: 1, 1: 3, 3: 10, 10: 30, 30: 99}[low]
    assert ((of["modalities"] == "without audio") == ~corpus.table.has("audio")).all()
    assert (of["label"][50:] == "no label").all()
    assert len(set(of["label"])) == 8 + 2
    verticals = {n: ("even", "odd")[n % 2] for n in range(11)} | {11: "no vertical"}
    names = [verticals[n] for n in labelled.label_values.tolist()]
    assert "no vertical" in names
    assert of["vertical"].tolist() == names + ["no vertical"] * 10
    assert of["age"][7] == "not known"
    assert np.nanmax(seconds[of["age"] == "oldest third"]) < np.nanmin(
        seconds[of["age"] == "middle third"]
    )


def test_means_are_of_the_videos_of_a_slice(corpus):
    rows = np.arange(5, 45)
    values = np.random.default_rng(1).random(40)
    measured = PerQuery(ids=corpus.table.ids[rows], values={"map": values})
    names = np.where(np.arange(60) < 15, "some", "others")
    found = sliced(measured, corpus.table, {"kind": names})
    assert list(found["kind"]) == ["others", "some"]
    assert found["kind"]["some"].videos == 10
    assert found["kind"]["some"].scores["map"].value == pytest.approx(values[:10].mean())
    with pytest.raises(ValueError, match="1 of 1 videos are not in the table"):
        sliced(PerQuery(ids=np.array([b"z"]), values={}), corpus.table, {})


def test_related_videos_by_slice(corpus):
    evaluator = RelatedVideos(directions=("eval_to_train",))
    vectors = corpus.table.features["visual"]
    (kinds,) = evaluator.slices(vectors, corpus, {}).values()
    whole = evaluator.measure(vectors, corpus).scores["eval_to_train/map"].value
    for parts in kinds.values():
        together = sum(part.videos * part.scores["map"].value for part in parts.values())
        assert together / sum(part.videos for part in parts.values()) == pytest.approx(whole)


def test_the_age_of_a_video_is_when_anyone_first_watched_it():
    """Against a loop; of ratings without times there is no age."""
    rng = np.random.default_rng(2)
    items, times = rng.integers(0, 9, 50), rng.uniform(1, 1e9, 50)
    times[rng.random(50) < 0.3] = np.nan
    items[items == 4] = 5  # nobody watched this one
    ratings = Ratings(
        users=np.array([b"u"]),
        items=np.array([b"%d" % n for n in range(9)]),
        user=np.zeros(50, np.int64),
        item=items,
        value=np.ones(50, np.float32),
        time=times,
        explicit=False,
    )
    first = user_queries._first_watched(ratings)
    for item in range(9):
        known = [time for time, of in zip(times, items) if of == item and not np.isnan(time)]
        assert first[item] == min(known) if known else np.isnan(first[item])
    assert user_queries._first_watched(replace(ratings, time=None)) is None
