import json
import os
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from vidembed.graph.edges import read_edges
from vidembed.records.table import FeatureTable
from vidembed.records.tabular import METADATA_KEY
from vidembed.sessions import cowatch
from vidembed.sessions.cowatch import count_cowatches
from vidembed.sessions.session_files import SessionError


def brute_force(rows, min_weight):
    """{(source, target): weight} and counts, in plain Python."""
    sessions = {}
    for session, timestamp, video in rows:
        sessions.setdefault(session, []).append((timestamp, video.encode()))
    weights, repeats, ties = Counter(), 0, 0
    for watches in sessions.values():
        for (time, first), (later, second) in pairwise(sorted(watches)):
            repeats += first == second
            ties += first != second and time == later
            if first != second:
                weights[min(first, second), max(first, second)] += 1
    strong = {pair: weight for pair, weight in weights.items() if weight >= min_weight}
    edges = {(low.decode(), high.decode()): weight for (low, high), weight in strong.items()}
    return edges, {
        "events": len(rows),
        "sessions": len(sessions),
        "videos": len({video for _, _, video in rows}),
        "repeats": repeats,
        "pairs": len(weights),
        "ties": ties,
        "edges": len(edges),
    }


def write(path, rows, **types):
    columns = zip(*rows, strict=True) if rows else [[], [], []]
    names = ("session_id", "timestamp", "video_id")
    table = pa.table({n: pa.array(c, types.get(n)) for n, c in zip(names, columns, strict=True)})
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


def read(path):
    rows = pq.read_table(path).to_pylist()
    return {(r["source"], r["target"]): r["weight"] for r in rows}


# Their byte order differs from the order as numbers, in lower case, and as UTF-16 code units.
NAMES = ["b", "a", "B", "10", "9", "é", "z", "\U0001f600", "\uffee", "aa", "-x", "_"]


@pytest.mark.parametrize("seed", range(40))
def test_equal_to_brute_force(seed, tmp_path):
    rng = np.random.default_rng(seed)
    events = int(rng.integers(1, 120))
    videos, sessions = int(rng.integers(1, len(NAMES) + 1)), int(rng.integers(1, 12))
    rows = [
        # Few timestamps, so that ties are common.
        (f"s{rng.integers(sessions)}", int(rng.integers(-3, 8)), NAMES[rng.integers(videos)])
        for _ in range(events)
    ]
    min_weight = int(rng.integers(1, 4))
    suffix = "csv" if seed % 4 == 0 else "parquet"
    report = count_cowatches(
        write(tmp_path / f"sessions.{suffix}", rows),
        tmp_path / "edges.parquet",
        min_weight=min_weight,
        max_tie_share=1,
        threads=1 + seed % 2,
    )
    edges, counts = brute_force(rows, min_weight)
    assert read(tmp_path / "edges.parquet") == edges
    assert {name: report[name] for name in counts} == counts


def test_worked_by_hand(tmp_path):
    rows = [
        # a b a: b follows a and a follows b, the same pair twice.
        (1, 0, "a"), (1, 1, "b"), (1, 2, "a"),
        # c c d: the repeat makes no edge; rows out of order.
        (2, 9, "d"), (2, 7, "c"), (2, 8, "c"),
        # a and c are in neighbouring rows but in different sessions, so they are not a pair.
        (3, 0, "c"), (3, 5, "d"),
    ]  # fmt: skip
    report = count_cowatches(write(tmp_path / "s.parquet", rows), tmp_path / "e.parquet")
    assert read(tmp_path / "e.parquet") == {("a", "b"): 2, ("c", "d"): 2}
    assert (report["sessions"], report["repeats"], report["pairs"]) == (3, 1, 2)


def test_order_of_rows_and_number_of_files_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(int(s), int(t), f"v{v}") for s, t, v in rng.integers(0, 6, (200, 3))]
    count_cowatches(write(tmp_path / "one.parquet", rows), tmp_path / "one-edges.parquet")
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    folder = tmp_path / "many"
    folder.mkdir()
    for part in range(3):
        write(folder / f"{part}.parquet", shuffled[part::3])
    for number, sessions in enumerate((folder, folder / "*.parquet")):
        count_cowatches(sessions, tmp_path / f"{number}.parquet")
        assert read(tmp_path / f"{number}.parquet") == read(tmp_path / "one-edges.parquet")


@pytest.mark.parametrize("kind", [pa.int32(), pa.uint64(), pa.float64(), pa.timestamp("us", "UTC")])
def test_numbers_and_times_are_timestamps(tmp_path, kind):
    rows = [(1, 2, "c"), (1, 0, "a"), (1, 1, "b")]
    write(tmp_path / "s.parquet", rows, timestamp=kind)
    count_cowatches(tmp_path / "s.parquet", tmp_path / "e.parquet", min_weight=1)
    assert set(read(tmp_path / "e.parquet")) == {("a", "b"), ("b", "c")}


def test_csv_times_and_ids_that_look_like_numbers(tmp_path):
    (tmp_path / "s.csv").write_text(
        "session_id,timestamp,video_id\n"
        "1,2026-01-02 00:00:00,007\n1,2026-01-01 00:00:00,1e3\n1,2026-01-03 00:00:00,NULL\n"
    )
    count_cowatches(tmp_path / "s.csv", tmp_path / "e.parquet", min_weight=1)
    assert set(read(tmp_path / "e.parquet")) == {("007", "1e3"), ("007", "NULL")}


def test_edges_are_sorted_typed_and_say_where_they_come_from(tmp_path):
    rows = [(i, t, v) for i in range(2) for t, v in enumerate("dbacab")]
    sessions = write(tmp_path / "s.parquet", rows)
    mark = {"simulated": True, "seed": 3, "permuted": False}
    marked = pq.read_table(sessions).replace_schema_metadata({METADATA_KEY: json.dumps(mark)})
    pq.write_table(marked, sessions)
    report = count_cowatches(sessions, tmp_path / "e.parquet", min_weight=2)

    edges = pq.read_table(tmp_path / "e.parquet")
    pairs = list(zip(edges["source"].to_pylist(), edges["target"].to_pylist(), strict=True))
    assert pairs == sorted(pairs)
    assert all(low < high for low, high in pairs)
    assert edges.schema.types == [pa.string(), pa.string(), pa.int64()]
    stored = json.loads(edges.schema.metadata[METADATA_KEY])
    assert stored == {k: v for k, v in report.items() if k != "seconds"}
    assert stored["simulated"]
    assert stored["simulation"] == mark
    assert stored["parameters"] == {"min_weight": 2}
    assert stored["events"] == 12
    assert stored["edges"] == len(edges)

    write(tmp_path / "other.parquet", rows[:-1])
    unmarked = count_cowatches(tmp_path / "other.parquet", tmp_path / "o.parquet")
    assert unmarked["simulated"] is False
    assert unmarked["sessions_digest"] != stored["sessions_digest"]

    ids = np.array([b"a", b"b", b"c", b"d"])
    none = np.zeros(0, np.int32)
    table = FeatureTable(
        ids=ids,
        features={"visual": np.zeros((4, 1), np.float32)},
        label_offsets=np.zeros(5, np.int64),
        label_values=none,
    )
    assert read_edges(tmp_path / "e.parquet", table).metadata == stored


def test_more_than_memory_holds_goes_to_disk(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    events = 400_000
    columns = {
        "session_id": rng.integers(0, 40_000, events),
        "timestamp": rng.integers(0, 1 << 40, events),
        "video_id": [f"a-rather-long-name-of-a-video-{v}" for v in rng.integers(0, 90_000, events)],
    }
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    spill = tmp_path / "spill"
    spill.mkdir()
    options = {"min_weight": 1, "threads": 1, "temp_directory": spill}
    roomy, tight = tmp_path / "roomy.parquet", tmp_path / "tight.parquet"
    count_cowatches(tmp_path / "s.parquet", roomy, **options)
    report = count_cowatches(tmp_path / "s.parquet", tight, memory_limit="65MB", **options)
    assert report["pairs"] > 350_000
    assert pq.read_table(roomy) == pq.read_table(tight)

    with pytest.raises(SessionError, match="higher memory_limit"):
        count_cowatches(tmp_path / "s.parquet", tight, memory_limit="2MB", **options)
    count = cowatch._count

    def count_without_disk(database, *arguments, **named):
        database.execute("set max_temp_directory_size = '0KB'")
        return count(database, *arguments, **named)

    # The same limit fails without a disk, so the disk was needed and used.
    monkeypatch.setattr(cowatch, "_count", count_without_disk)
    with pytest.raises(SessionError, match="higher memory_limit"):
        count_cowatches(tmp_path / "s.parquet", tight, memory_limit="65MB", **options)
    assert pq.read_table(roomy) == pq.read_table(tight)
    assert not list(spill.iterdir()), "what was spilled is removed"
    assert {p.name for p in tmp_path.iterdir()} == {"s.parquet", roomy.name, tight.name, "spill"}


GOOD = {"session_id": [1, 1], "timestamp": [0, 1], "video_id": ["a", "b"]}


@pytest.mark.fault("Relations and sessions: session files damaged")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"video_id": None, "video": ["a", "b"]}, r"video_id is missing; .*found .*, video$"),
        ({"session_id": [], "timestamp": [], "video_id": []}, "holds no watches"),
        ({"session_id": [1, None]}, "1 of 2 watches have no session_id"),
        ({"timestamp": [None, 1]}, "1 of 2 watches have no timestamp"),
        ({"timestamp": [0.0, float("nan")]}, "1 of 2 watches have no timestamp"),
        ({"timestamp": ["early", "late"]}, r"s\..*, row 0: timestamp 'early' is not a number"),
        ({"video_id": ["a", None]}, "1 of 2 watches have no video_id"),
        ({"video_id": ["a", ""]}, "1 of 2 watches have no video_id"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_bad_sessions_are_refused(tmp_path, change, says, suffix):
    columns = {name: cells for name, cells in (GOOD | change).items() if cells is not None}
    table = pa.table(columns)
    path = tmp_path / f"s.{suffix}"
    if suffix == "csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    with pytest.raises(SessionError, match=says):
        count_cowatches(path, tmp_path / "e.parquet")
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing is left behind"


def test_absent_mixed_and_unreadable_sessions(tmp_path):
    write(tmp_path / "s.parquet", [(1, 0, "a")])
    with pytest.raises(SessionError, match=r"no session file .*s\.parquet"):
        count_cowatches(tmp_path / "t.parquet", tmp_path / "e.parquet")
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "s.parquet").read_bytes()[:-9])
    with pytest.raises(SessionError, match=r"bad\.parquet: cannot be read"):
        count_cowatches(tmp_path / "bad.parquet", tmp_path / "e.parquet")
    write(tmp_path / "s.csv", [(1, 0, "a")])
    with pytest.raises(SessionError, match="both CSV and Parquet"):
        count_cowatches(tmp_path, tmp_path / "e.parquet")
    with pytest.raises(ValueError, match=r"min_weight must be at least 1, .* found 0"):
        count_cowatches(tmp_path / "s.parquet", tmp_path / "e.parquet", min_weight=0)


def test_a_failure_leaves_the_older_edges(tmp_path, monkeypatch):
    sessions = write(tmp_path / "s.parquet", [(1, 0, "a"), (1, 1, "b")])
    edges = tmp_path / "e.parquet"
    count_cowatches(sessions, edges, min_weight=1)
    before = edges.read_bytes()
    monkeypatch.setattr(cowatch, "EDGES", cowatch.EDGES.replace("as target", "as nothing"))
    with pytest.raises(Exception, match="target"):
        count_cowatches(sessions, edges, min_weight=1)
    assert edges.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"s.parquet", "e.parquet"}


def test_the_command_prints_what_it_did(tmp_path, capsys):
    rows = [(i, t, v) for i in range(3) for t, v in enumerate("ab")]
    sessions = write(tmp_path / "s.parquet", rows)
    assert cowatch.main(str(sessions), str(tmp_path / "e.parquet"), min_weight=3) == 0
    output = capsys.readouterr().out
    assert "6 watches of 2 videos in 3 sessions" in output
    assert "1 of them at least 3 times" in output
    assert "warning" not in output


def test_the_command_warns_where_no_pair_is_an_edge(tmp_path, capsys):
    sessions = write(tmp_path / "s.parquet", [(1, 0, "a"), (1, 1, "b")])
    assert cowatch.main(str(sessions), str(tmp_path / "e.parquet")) == 0
    output = capsys.readouterr().out
    assert "holds no edges" in output
    assert "no pair was watched at least 2 times (min_weight): lower --min-weight" in output
    assert read(tmp_path / "e.parquet") == {}, "written even so, with what was counted"
    write(tmp_path / "s.parquet", [(1, 0, "a"), (2, 1, "b")])
    assert cowatch.main(str(sessions), str(tmp_path / "e.parquet"), min_weight=1) == 0
    output = capsys.readouterr().out
    assert "no session holds two different videos" in output
    assert "--min-weight" not in output


@pytest.mark.fault(
    "Relations and sessions: watches of a session at the same time",
    "counted, a warning above 1 %, 1 above `--max-tie-share` (half)",
)
def test_equal_times_are_counted_warned_of_and_refused(tmp_path, capsys):
    days = [(1, 0, "c"), (1, 0, "a"), (1, 1, "b"), (1, 1, "b")]
    sessions, edges = str(write(tmp_path / "s.parquet", days)), str(tmp_path / "e.parquet")
    assert cowatch.main(sessions, edges, min_weight=1) == 0
    output = capsys.readouterr().out
    assert "warning: 1 watches (33.3% of those that follow another in their session)" in output
    with pytest.raises(SessionError, match=r"33.3%.*above the allowed 30%.*--max-tie-share"):
        cowatch.main(sessions, str(tmp_path / "f.parquet"), max_tie_share=0.3)
    assert not (tmp_path / "f.parquet").exists()


def test_buckets_are_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SessionError, match=r"gs://b/s\.parquet: is not on a local disk.*copy"):
        count_cowatches("gs://b/s.parquet", "e.parquet")
    write(tmp_path / "s.parquet", [(1, 0, "a"), (1, 1, "b")])
    with pytest.raises(ValueError, match=r"gs://b/e\.parquet: is not on a local disk.*copy"):
        count_cowatches("s.parquet", "gs://b/e.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["s.parquet"]


@pytest.mark.parametrize("mark", [b"not JSON", b"[1]"])
def test_sessions_with_foreign_metadata_are_named(tmp_path, mark):
    sessions = write(tmp_path / "s.parquet", [(1, 0, "a"), (1, 1, "b")])
    pq.write_table(pq.read_table(sessions).replace_schema_metadata({METADATA_KEY: mark}), sessions)
    with pytest.raises(SessionError, match=r"s\.parquet: its metadata 'vidembed' is not JSON"):
        count_cowatches(sessions, tmp_path / "e.parquet")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *(({"threads": n}, r"threads must be from 1 to 1,024, found") for n in (0, -1, 99_999)),
        *(({"max_tie_share": x}, f"from 0 to 1, found {x}") for x in (float("nan"), -1)),
        ({"memory_limit": "foo"}, "memory_limit is a size such as 2GB or 500MB, found 'foo'"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, says):
    sessions = write(tmp_path / "s.parquet", [(1, 0, "a"), (1, 1, "b")])
    with pytest.raises(ValueError, match=says):
        count_cowatches(sessions, tmp_path / "e.parquet", **options)


@pytest.mark.fault(
    "Relations and sessions: a Parquet timestamp outside the range of microseconds",
    "1: file, row and value",
)
def test_a_time_out_of_range_is_named(tmp_path):
    for name, last in (("a", 2), ("b", 2**50)):
        times = pa.array([1, last], pa.timestamp("s"))
        table = pa.table({"session_id": [1, 1], "timestamp": times, "video_id": ["v", "w"]})
        pq.write_table(table, tmp_path / name)
    with pytest.raises(SessionError, match=rf"/b, row 1: timestamp {2**50 * 1000}.*correct it"):
        count_cowatches(tmp_path / "[ab]", tmp_path / "e.parquet")


@pytest.mark.fault(
    "Relations and sessions: a folder of edges or a session file whose name is not UTF-8",
    "read and written; data too large for memory goes to the folder of temporary files",
)
def test_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    sessions = folder / os.fsdecode(b"s\xfd")
    sessions.write_bytes(write(tmp_path / "s", [(1, 0, "a"), (1, 1, "b")]).read_bytes())
    edges = folder / os.fsdecode(b"\xfe.parquet")
    assert count_cowatches(sessions, edges, min_weight=1)["edges"] == 1
    with edges.open("rb") as file:
        assert pq.read_table(file).num_rows == 1
    assert len(list(folder.iterdir())) == 2
