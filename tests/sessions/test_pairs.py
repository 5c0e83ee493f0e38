"""Co-watch counts against plain Python: users, windows, lengths, ids to leave out."""

import hashlib
import itertools
import json
import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import many
from vidembed.sessions import cowatch
from vidembed.sessions.cowatch import count_cowatches
from vidembed.sessions.pairs import Counting
from vidembed.sessions.session_files import SessionError

VIDEOS = ["b", "a", "B", "10", "9", "é"]
WEIGHTS = {
    "per-video": lambda n: Fraction(1, n - 1),
    "one": lambda _: Fraction(1),
    "log": lambda n: Fraction(1 / math.log2(n)),
}


def histories(rows, counting, left_out):
    """{(user, session): watches (time, video) in order}, without what is left out."""
    rows = [row for row in rows if not any(row.get(name) in ids for name, ids in left_out.items())]
    views = Counter(row["video_id"] for row in rows)
    groups = defaultdict(list)
    for row in rows:
        if views[row["video_id"]] >= counting.min_views:
            session = tuple(row[name] for name in ("user_id", "session_id") if name in row)
            video = row["video_id"].encode()
            digest = hashlib.md5(" ".join([*session, row["video_id"]]).encode()).hexdigest()
            groups[session].append((row.get("timestamp", digest), video))
    return {key: sorted(watches)[: counting.max_length] for key, watches in groups.items()}, views


def slowly(rows, counting, left_out):
    """{pair: weight} of edges, {pair: weight} of all pairs, and the weight of each user."""
    groups, views = histories(rows, counting, left_out)
    weights, people, users = Counter(), defaultdict(set), Counter()
    window = math.inf if counting.window_seconds is None else counting.window_seconds
    for (user, *_), watches in groups.items():
        if not counting.unordered:
            users[user] += len(watches) - 1
            for (time, first), (later, second) in itertools.pairwise(watches):
                if first != second and later - time <= window:
                    pair = tuple(sorted((first, second)))
                    weights[pair] += 1
                    people[pair].add(user)
            continue
        videos = sorted({video for _, video in watches})
        for low, high in itertools.combinations(videos, 2):
            part = WEIGHTS[counting.pair_weight](len(videos))
            users[user] += part
            times = [[time for time, video in watches if video == end] for end in (low, high)]
            if (
                window == math.inf
                or min(abs(a - b) for a, b in itertools.product(*times)) <= window
            ):
                weights[low, high] += part
                people[low, high].add(user)
        users[user] += 0
    edges = {
        pair: float(weight)
        for pair, weight in weights.items()
        if float(weight) >= counting.min_weight - 1e-9 and len(people[pair]) >= counting.min_people
    }
    return edges, weights, users, views


def proposed(weights, views, unit):
    """The proposed min_weight by its definition, one video pair at a time."""
    total = sum(weights.values())
    share = {video: count / sum(views.values()) for video, count in views.items()}
    for strength in range(1, 21):
        strong = sum(round(float(weight) / unit, 6) >= strength for weight in weights.values())
        chance = sum(
            scipy.stats.poisson.sf(strength - 1, 2 * float(total) / unit * share[a] * share[b])
            for a, b in itertools.combinations(share, 2)
        )
        if strong and chance <= 0.05 * strong:
            return strength * unit
    return None


@st.composite
def cases(draw):
    columns = draw(st.sampled_from([["session_id"], ["user_id"], ["user_id", "session_id"]]))
    timed = draw(st.booleans())
    cell = {
        "session_id": st.sampled_from(["s", "t", "u v"]),
        "user_id": st.sampled_from(["x", "y", "z"]),
        "video_id": st.sampled_from(VIDEOS),
    }
    cells = {name: cell[name] for name in [*columns, "video_id"]}
    if timed:
        cells["timestamp"] = st.integers(0, 30)
    rows = draw(st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=40))
    maybe = {
        "pair_weight": st.sampled_from(list(WEIGHTS)),
        "max_length": st.integers(2, 6),
        "min_views": st.integers(1, 4),
        "min_people": st.integers(1, 3),
    }
    if timed:
        maybe |= {"window_seconds": st.integers(0, 12), "unordered": st.booleans()}
    options = draw(st.fixed_dictionaries({}, optional=maybe))
    options["min_weight"] = draw(st.sampled_from([1, 2, 3]))
    if options.get("unordered") or not timed:
        options["min_weight"] = draw(st.sampled_from([0.25, 0.5, 1, 1.5, 2]))
    lists = {"video_id": st.lists(cell["video_id"], max_size=2, unique=True)}
    lists |= {name: st.lists(cell[name], max_size=1) for name in columns}
    return rows, options, draw(st.fixed_dictionaries({}, optional=lists))


def write(path, rows):
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in rows[0]}), path)
    return path


def read(path):
    rows = pq.read_table(path).to_pylist()
    return {(row["source"].encode(), row["target"].encode()): row["weight"] for row in rows}


@pytest.mark.fault("Relations and sessions: one person with most of the watches, bots")
@many(40)
@given(cases())
def test_equal_to_brute_force(tmp_path_factory, case):
    rows, options, left_out = case
    folder = tmp_path_factory.mktemp("pairs")
    for name, ids in left_out.items():
        pyarrow.csv.write_csv(pa.table({name: pa.array(ids, pa.string())}), folder / f"{name}.csv")
    report = count_cowatches(
        write(folder / "s", rows),
        folder / "e",
        leave_out=[folder / f"{name}.csv" for name in left_out],
        max_tie_share=1,
        threads=1,
        **options,
    )
    is_unordered = options.get("unordered", False) or "timestamp" not in rows[0]
    counting = Counting(**{**options, "unordered": is_unordered})
    edges, weights, users, views = slowly(rows, counting, left_out)
    groups, _ = histories(rows, counting, left_out)
    counted = read(folder / "e")
    assert counted == pytest.approx(edges)
    kind = pa.float64() if is_unordered else pa.int64()
    assert pq.read_schema(folder / "e").field("weight").type == kind
    assert report["pairs"] == len(weights)
    assert report["users"] == len(users)
    top = sorted(users.values())[-math.ceil(len(users) / 100) :]
    share = float(sum(top) / sum(users.values())) if sum(users.values()) else 0
    assert report["top_share"] == pytest.approx(share, abs=1e-4)
    frequent = {video: n for video, n in views.items() if n >= counting.min_views}
    parts = [Fraction(1)]
    if is_unordered:
        sizes = [len({video for _, video in watches}) for watches in groups.values()]
        many_parts = ([WEIGHTS[counting.pair_weight](n)] * math.comb(n, 2) for n in sizes if n > 1)
        parts = list(itertools.chain.from_iterable(many_parts)) or parts
    least = proposed(weights, frequent, float(sum(part**2 for part in parts) / sum(parts)))
    assert (report["proposed_min_weight"] is None) == (least is None)
    if least is not None:  # rounded up to two digits
        assert least - 1e-9 <= report["proposed_min_weight"] <= 1.1 * least


@pytest.mark.fault(
    "Relations and sessions: sessions without an order, or with a time by another name",
    "counted as unordered, and reported; 1 if a column looks like the time",
)
def test_three_histories_worked_by_hand(tmp_path):
    """A history of n videos adds n/2 in all: 1/2 per pair of three videos, 1 for a pair of two."""
    watched = {"x": "ab", "y": "abc", "z": "abca"}
    rows = [{"user_id": user, "video_id": video} for user in watched for video in watched[user]]
    report = count_cowatches(write(tmp_path / "s", rows), tmp_path / "e", min_weight=1)
    assert read(tmp_path / "e") == {(b"a", b"b"): 2, (b"a", b"c"): 1, (b"b", b"c"): 1}
    assert report["parameters"] == {"min_weight": 1, "unordered": True, "pair_weight": "per-video"}
    assert (report["events"], report["sessions"], report["repeats"]) == (9, 3, 1)


def test_a_third_and_a_third_and_a_third_is_one(tmp_path):
    rows = [{"user_id": user, "video_id": video} for user in "xyz" for video in "abcd"]
    count_cowatches(write(tmp_path / "s", rows), tmp_path / "e", min_weight=1)
    assert read(tmp_path / "e") == dict.fromkeys(
        itertools.combinations([b"a", b"b", b"c", b"d"], 2), 1
    )


@pytest.mark.parametrize("scale", [1, 1000, 10**6, 10**9])
def test_a_window_is_in_seconds_whatever_the_unit(tmp_path, scale):
    times = [1_700_000_000 * scale + scale * second for second in (0, 60, 121)]
    unit = {1: "s", 1000: "ms", 10**6: "us", 10**9: "ns"}[scale]
    for kind in (pa.int64(), pa.timestamp(unit), pa.timestamp(unit, "UTC")):
        stamps = pa.array(times).cast(kind)
        table = pa.table({"session_id": [1] * 3, "timestamp": stamps, "video_id": list("abc")})
        pq.write_table(table, tmp_path / "s")
        count_cowatches(tmp_path / "s", tmp_path / "e", min_weight=1, window_seconds=60)
        assert list(read(tmp_path / "e")) == [(b"a", b"b")]


@pytest.mark.fault(
    "Relations and sessions: lists of ids to leave out that do not fit the sessions, "
    "invalid options",
    "1: the file and what it must contain; nothing is written",
)
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"window_seconds": 5}, r"has no column timestamp, which window_seconds needs"),
        ({"max_length": 1}, "max_length must be at least 2, found 1"),
        ({"min_people": 0}, "min_people must be at least 1, found 0"),
        ({"pair_weight": "two"}, "pair_weight must be one of per-video, one, log, found 'two'"),
        ({"leave_out": ["both.csv"]}, r"both\.csv: has video_id and user_id; a file of ids"),
        ({"leave_out": ["other.csv"]}, r"other\.csv: has none of the columns"),
        ({"leave_out": ["user.csv"]}, r"user\.csv: lists user_id, but the sessions have only"),
        ({"leave_out": ["gaps.csv"]}, r"gaps\.csv: 1 of 2 rows have no video_id"),
    ],
)
def test_invalid_options_are_refused(tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both.csv").write_text("video_id,user_id\na,x\n")
    (tmp_path / "other.csv").write_text("id\na\n")
    (tmp_path / "user.csv").write_text("user_id\na\n")
    (tmp_path / "gaps.csv").write_text('video_id\na\n""\n')
    write(tmp_path / "s", [{"session_id": "s", "video_id": "a"}])
    with pytest.raises(ValueError, match=says):
        count_cowatches("s", "e", **options)
    assert not (tmp_path / "e").exists()


@pytest.mark.fault(
    "Relations and sessions: sessions without an order, or with a time by another name",
)
@pytest.mark.parametrize("name", ["time", "watched_at", "Date", "ts"])
def test_a_time_by_another_name_is_not_ignored(tmp_path, name):
    rows = [
        {"session_id": "s", name: second, "video_id": video} for second, video in enumerate("ab")
    ]
    write(tmp_path / "s", rows)
    with pytest.raises(SessionError, match=rf"if it is {name}, rename it; .*--unordered"):
        count_cowatches(tmp_path / "s", tmp_path / "e")
    assert count_cowatches(tmp_path / "s", tmp_path / "e", unordered=True)["pairs"] == 1
    (tmp_path / "more").mkdir()
    write(tmp_path / "more" / "0", [{"session_id": "s", "video_id": "a"}])
    write(tmp_path / "more" / "1", [{"session_id": "s", "user_id": "x", "video_id": "a"}])
    with pytest.raises(
        SessionError, match=r"1: has the columns session_id, user_id, video_id, and"
    ):
        count_cowatches(tmp_path / "more", tmp_path / "e")


def test_the_order_of_rows_and_little_memory_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    events, names = 100_000, [f"a-rather-long-name-of-a-video-{v}" for v in range(40_000)]
    columns = {
        "user_id": rng.integers(0, 10_000, events),
        "video_id": pa.array(names).take(pa.array(rng.integers(0, 40_000, events))),
    }
    table = pa.table(columns)
    options = {"min_weight": 0.1, "threads": 2, "max_length": 9}
    pq.write_table(table, tmp_path / "s")
    report = count_cowatches(tmp_path / "s", tmp_path / "roomy", **options)
    assert report["pairs"] > 300_000
    pq.write_table(table.take(pa.array(rng.permutation(events))), tmp_path / "s")
    count_cowatches(tmp_path / "s", tmp_path / "tight", memory_limit="80MB", **options)
    assert pq.read_table(tmp_path / "roomy") == pq.read_table(tmp_path / "tight")


@pytest.mark.fault(
    "Relations and sessions: one person with most of the watches, bots",
    "reported, with the options that limit their weight: `--max-length`, `--min-people`",
)
def test_the_command_says_who_makes_the_weight_and_what_to_try(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [{"user_id": "bot", "video_id": f"v{v}"} for v in range(60)]
    rows += [
        {"user_id": f"u{u}", "video_id": f"v{v}"} for u in range(60) for v in rng.integers(0, 60, 2)
    ]
    write(tmp_path / "s", rows)
    (tmp_path / "gone.csv").write_text("video_id\nv1\nnobody\n")
    sessions, edges = str(tmp_path / "s"), str(tmp_path / "e")
    gone = (str(tmp_path / "gone.csv"),)
    assert cowatch.main(sessions, edges, pair_weight="one", min_weight=1, leave_out=gone) == 0
    output = capsys.readouterr().out
    assert "watches left out by lists: 2 video_ids, 1 of them not in the sessions" in output
    assert "the 1 of 61 users with most co-watches make 9" in output
    assert "few users make most of" in output
    assert cowatch.main(sessions, edges, min_people=2, max_length=5, min_weight=0.5) == 0
    assert "few users make" not in capsys.readouterr().out
    stored = json.loads(pq.read_schema(edges).metadata[b"vidembed"])["parameters"]
    assert stored == {
        "min_weight": 0.5, "min_people": 2, "max_length": 5,
        "unordered": True, "pair_weight": "per-video",
    }  # fmt: skip
