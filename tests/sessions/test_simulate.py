import hashlib
import itertools
import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats

from vidembed.records.table import FeatureTable
from vidembed.records.tabular import METADATA_KEY
from vidembed.sessions import simulate as verb
from vidembed.sessions.cowatch import count_cowatches
from vidembed.sessions.simulate import permute_ids, simulate, write_sessions


def corpus(videos=3000, labels=40, seed=0):
    """Ids and labels; about 1/(l+2) of the videos have label l, the last label has only two."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"v{i:04d}" for i in range(videos)]).astype("S")
    borne = rng.random((videos, labels)) < 1 / (np.arange(labels) + 2)
    borne[:, -1] = np.arange(videos) < 2
    borne[:, -2] = np.arange(videos) < 3
    offsets = np.concatenate([[0], np.cumsum(borne.sum(1))]).astype(np.int64)
    return ids, offsets, np.nonzero(borne)[1].astype(np.int32), borne


def watched(sessions):
    """Rows i64[sessions, 6] of the watched videos, from the ids of `corpus`."""
    rows = np.array([int(name[1:]) for name in sessions["video_id"].to_pylist()])
    return rows.reshape(-1, 6)


@pytest.fixture(scope="module")
def made():
    ids, offsets, values, borne = corpus()
    return simulate(ids, offsets, values, seed=4), borne


def test_people_sessions_and_watches(made):
    sessions, borne = made
    assert len(sessions) == len(borne) * 2 * 3 * 6
    number = sessions["session_id"].to_numpy().reshape(-1, 6)
    assert (number == np.arange(len(number))[:, None]).all()
    times = sessions["timestamp"].to_numpy().reshape(-1, 6)
    assert (np.diff(times, axis=1) == np.timedelta64(240, "s")).all()
    assert sessions.schema.names == ["session_id", "timestamp", "video_id"]


def test_a_session_is_about_one_label_but_for_strays(made):
    sessions, borne = made
    rows = watched(sessions)
    # Nearly always five or six of the six watches share the session's commonest label.
    common = borne[rows].sum(axis=1).max(axis=1)
    assert np.mean(common >= 5) > 0.95
    # P(no stray) = 0.95^6 = 0.735, and a little more because a stray may have the label by chance.
    assert 0.72 < np.mean(common == 6) < 0.85


def test_interests_are_different_and_drawn_by_the_root_of_counts():
    rng = np.random.default_rng(0)
    counts = np.array([400.0, 100.0, 25.0, 9.0])
    chosen = verb._interests(rng, counts**0.5, 40000)
    assert all(len(set(row)) == 3 for row in chosen[:500].tolist())
    assert len(np.unique(np.sort(chosen, axis=1), axis=0)) == 4
    share = np.bincount(chosen[:, 0], minlength=4) / 40000
    assert share == pytest.approx(np.array([20, 10, 5, 3]) / 38, abs=0.01)
    # Drawn one after the other: P(second = b | first = a) = w_b / (total - w_a).
    second = np.bincount(chosen[chosen[:, 0] == 0, 1], minlength=4)
    assert second / second.sum() == pytest.approx(np.array([0, 10, 5, 3]) / 18, abs=0.015)


def test_labels_of_fewer_than_three_videos_are_nobodys_interest():
    _ids, offsets, values, borne = corpus(videos=60, labels=6)
    starts, bearers, weights = verb._labels(offsets, values)
    # The last label has only two videos.
    expected = [np.flatnonzero(borne[:, label]).tolist() for label in range(5)]
    parts = [bearers[a:b].tolist() for a, b in itertools.pairwise(starts)]
    assert parts == expected
    assert weights == pytest.approx([len(part) ** 0.5 for part in expected])
    twice = np.repeat(values, 2)
    again = verb._labels(offsets * 2, twice)
    assert [a.tolist() for a in again] == [starts.tolist(), bearers.tolist(), weights.tolist()]


def test_watches_follow_popularity():
    # All videos have all labels. The generator draws popularity first, so the seed determines it.
    videos, seed = 5, 11
    ids = np.array([f"v{i:04d}" for i in range(videos)]).astype("S")
    values = np.tile(np.arange(3, dtype=np.int32), videos)
    offsets = np.arange(videos + 1) * 3
    popularity = np.random.default_rng(seed).pareto(1.5, videos) + 0.1
    rows = watched(simulate(ids, offsets, values, seed=seed))
    counts = np.bincount(rows.ravel(), minlength=videos)
    assert scipy.stats.chisquare(counts, counts.sum() * popularity / popularity.sum()).pvalue > 1e-3


def test_the_highest_draw_stays_within_its_label():
    # 0.1 + 0.7 rounds, so the highest share below 1 lands on the end of its interval.
    weights, starts = np.full(12, 0.1), np.arange(0, 13, 3)
    share = np.full((4, 2), [0.0, np.nextafter(1, 0)])
    places = verb._places(weights, starts, np.arange(4)[:, None], share)
    assert places.tolist() == [[0, 2], [3, 5], [6, 8], [9, 11]]


def test_strays_are_one_in_twenty_and_drawn_by_popularity():
    # Only videos 0 to 2 have labels (0 to 2); the others are watched only as strays.
    videos, seed = 400, 3
    ids = np.array([f"v{i:04d}" for i in range(videos)]).astype("S")
    values = np.tile(np.arange(3, dtype=np.int32), 3)
    offsets = np.minimum(np.arange(videos + 1) * 3, 9)
    popularity = np.random.default_rng(seed).pareto(1.5, videos) + 0.1
    rows = watched(simulate(ids, offsets, values, seed=seed))
    outside = popularity[3:].sum() / popularity.sum()
    draws = rows.size
    assert np.sum(rows >= 3) == pytest.approx(0.05 * outside * draws, abs=4 * np.sqrt(0.05 * draws))
    top = np.argsort(popularity[3:])[-5:] + 3
    share = np.isin(rows, top).sum() / np.sum(rows >= 3)
    assert share == pytest.approx(popularity[top].sum() / popularity[3:].sum(), abs=0.08)


def test_the_seed_is_the_sessions():
    ids, offsets, values, _ = corpus(videos=50, labels=8)
    sessions = simulate(ids, offsets, values, seed=0)
    assert sessions.equals(simulate(ids, offsets, values, seed=0))
    assert not sessions.equals(simulate(ids, offsets, values, seed=1))
    # Golden: published scores depend on these sessions.
    text = ",".join(sessions["video_id"].to_pylist()) + str(sessions["timestamp"][7].as_py())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == GOLDEN


GOLDEN = "016507e71e554159"


def test_marks_travel_from_sessions_to_edges(tmp_path, made):
    sessions, _ = made
    mark = json.loads(sessions.schema.metadata[METADATA_KEY])
    assert (mark["simulated"], mark["seed"], mark["permuted"]) == (True, 4, False)
    assert mark["parameters"]["interest_exponent"] == 0.5
    permuted = permute_ids(sessions, seed=9)
    write_sessions(permuted, tmp_path / "s.parquet")
    assert pq.read_table(tmp_path / "s.parquet").equals(permuted)
    report = count_cowatches(tmp_path / "s.parquet", tmp_path / "e.parquet")
    assert report["simulated"]
    assert report["simulation"] == mark | {"permuted": True, "permutation_seed": 9}


def test_permuting_is_one_exchange_of_ids(made):
    sessions, _ = made
    permuted = permute_ids(sessions, seed=9)
    pairs = set(
        zip(sessions["video_id"].to_pylist(), permuted["video_id"].to_pylist(), strict=True)
    )
    before, after = zip(*pairs, strict=True)
    assert len(set(before)) == len(pairs) == len(set(after))
    assert set(before) == set(after)
    assert np.mean([a == b for a, b in pairs]) < 0.01
    assert permuted.drop_columns("video_id").equals(sessions.drop_columns("video_id"))
    counts = [sorted(Counter(t["video_id"].to_pylist()).values()) for t in (sessions, permuted)]
    assert counts[0] == counts[1]
    assert permuted.equals(permute_ids(sessions, seed=9))
    with pytest.raises(ValueError, match="only simulated"):
        permute_ids(sessions.replace_schema_metadata({}), seed=9)


def test_too_few_labels_and_bad_offsets_are_refused():
    ids, offsets, values, _ = corpus(videos=40, labels=4)
    with pytest.raises(ValueError, match="only 2 of 3 labels"):
        simulate(ids, offsets, np.where(values == 1, 0, values), seed=0)
    with pytest.raises(ValueError, match="41 label offsets, found 40"):
        simulate(ids, offsets[:-1], values, seed=0)


def test_the_command_writes_what_simulate_makes(tmp_path, capsys):
    ids, offsets, values, _ = corpus(videos=50, labels=8)
    table = FeatureTable(
        ids=ids,
        features={"visual": np.zeros((50, 2), np.float32)},
        label_offsets=offsets,
        label_values=values,
    )
    table.write(tmp_path / "table")
    verb.main(str(tmp_path / "table"), str(tmp_path / "s.parquet"), seed=5)
    made = simulate(ids, offsets, values, seed=5)
    assert pq.read_table(tmp_path / "s.parquet").equals(made)
    assert (
        "1,800 SIMULATED watches of 50 videos in 300 sessions (seed 5)" in capsys.readouterr().out
    )
    verb.main(str(tmp_path / "table"), str(tmp_path / "p.parquet"), seed=5, permute=True)
    assert pq.read_table(tmp_path / "p.parquet").equals(permute_ids(made, seed=5))


def test_a_bucket_is_refused_before_anything_is_made(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    for write in (
        lambda path: write_sessions(made[0], path),
        lambda path: verb.main("no table", path),
    ):
        with pytest.raises(ValueError, match=r"gs://b/s\.parquet: is not on a local disk.*copy"):
            write("gs://b/s.parquet")
    assert not list(tmp_path.iterdir())
