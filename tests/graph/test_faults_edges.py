"""Edge and session files damaged bit by bit and line by line: refused by name, or read right."""

import csv
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import many
from vidembed.graph.edges import EdgeError, read_edges
from vidembed.sessions.cowatch import count_cowatches
from vidembed.sessions.session_files import SessionError

IDS = [b"v%02d" % n for n in range(30)]


class Table:
    """Thirty videos."""

    def __len__(self):
        return len(IDS)

    def find(self, ids):
        rows = {id: row for row, id in enumerate(IDS)}
        return np.array([rows.get(id, -1) for id in ids.tolist()], np.int64)


@pytest.fixture
def counted(tmp_path):
    """Edges as `cowatch` writes them."""
    draw = random.Random(0)
    lines = [f"s{s},{t},v{draw.randrange(30):02d}" for s in range(300) for t in range(4)]
    (tmp_path / "s.csv").write_text("\n".join(["session_id,timestamp,video_id", *lines]))
    count_cowatches(tmp_path / "s.csv", tmp_path / "e.parquet", min_weight=1)
    return tmp_path / "e.parquet"


def same(edges, expected):
    return edges.metadata == expected.metadata and all(
        np.array_equal(getattr(edges, name), getattr(expected, name))
        for name in ("source", "target", "weight")
    )


def flips_refused(path, flips, seed):
    """Count the flipped bits that are refused; all others must change nothing."""
    good, expected, draw = path.read_bytes(), read_edges(path, Table()), random.Random(seed)
    damaged, refused = path.with_name("hurt.parquet"), 0
    for _ in range(flips):
        data, bit = bytearray(good), draw.randrange(8 * len(good))
        data[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(data)
        try:
            read = read_edges(damaged, Table())
        except EdgeError as error:
            assert str(damaged) in str(error)  # noqa: PT017
            refused += 1
        else:
            assert same(read, expected), f"bit {bit % 8} of byte {bit // 8} gave other edges"
    return refused


@pytest.mark.fault(
    "Relations and sessions: an edge file with a flipped bit, or truncated",
    "refused by name; no other edges",
)
def test_flipped_bits(counted):
    """Without our digest a third of the flips changed the edges that Parquet returned."""
    assert flips_refused(counted, 150, seed=0) > 100


@pytest.mark.long
def test_many_flipped_bits(counted):
    assert flips_refused(counted, 5000, seed=1) > 3500


@pytest.mark.fault("Relations and sessions: an edge file with a flipped bit, or truncated")
def test_cut_at_any_byte(counted):
    data, cut = counted.read_bytes(), counted.with_name("cut.parquet")
    for size in range(0, len(data), 37):
        cut.write_bytes(data[:size])
        with pytest.raises(EdgeError, match=r"cut\.parquet"):
            read_edges(cut, Table())


NAMES = st.sampled_from([*(id.decode() for id in IDS[:9]), "v00", "nobody", ""])
WEIGHTS = st.sampled_from(["1", "2.5", "1e3", "7", "0", "-1", "nan", "inf", "1e999", "", "x"])
GOOD = st.sampled_from(["1", "2.5", "1e3", "7"])


def slow_edges(rows):
    """{(row, row): weight}, or None if the file must be refused: slowly, from the documentation."""
    row_of = {id.decode(): row for row, id in enumerate(IDS)}
    edges, unknown = {}, 0
    for source, target, weight in rows:
        try:
            number = float(weight)
        except ValueError:
            return None
        if not (0 < number < np.inf) or not source or not target:
            return None
        if source not in row_of or target not in row_of:
            unknown += 1
        elif source != target:
            pair = tuple(sorted((row_of[source], row_of[target])))
            edges[pair] = edges.get(pair, 0) + number
    return edges if edges and unknown <= 0.2 * len(rows) else None


@pytest.mark.fault("Relations and sessions: loops, repeats, bad weights, isolated videos")
@many(80)
@given(st.lists(st.tuples(NAMES, NAMES, st.one_of(GOOD, GOOD, GOOD, WEIGHTS)), max_size=9))
def test_edges_as_text(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "edges.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("source", "target", "weight"), *rows])
    expected = slow_edges(rows)
    try:
        edges = read_edges(path, Table(), max_unknown_share=0.2)
    except EdgeError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert expected is None, error  # noqa: PT017
        return
    pairs = zip(edges.source.tolist(), edges.target.tolist())
    assert dict(zip(pairs, edges.weight.tolist())) == pytest.approx(expected)


SESSIONS = b"session_id,timestamp,video_id\n" + b"".join(
    b"s%d,%d,v%02d\n" % (s, t, (5 * s + t) % 9) for s in range(4) for t in range(4)
)


@pytest.mark.fault(
    "Relations and sessions: session files damaged",
    "refused by name if the format shows it (Parquet, compression, a broken line); lines missing "
    "from a CSV file cannot be detected: the lines present are counted, and the count is printed; "
    "never half an edge file",
)
@many(20)
@given(
    st.lists(st.tuples(st.integers(0, len(SESSIONS) - 1), st.binary(max_size=3)), max_size=3),
    st.integers(0, 3),
)
def test_sessions_as_text(tmp_path_factory, edits, width):
    """However the file is damaged: counted, or refused by name; never half an edge file."""
    folder = tmp_path_factory.mktemp("sessions")
    data = bytearray(SESSIONS)
    for place, new in edits:
        data[place : place + width] = new
    (folder / "s.csv").write_bytes(data)
    try:
        report = count_cowatches(folder / "s.csv", folder / "e.parquet", min_weight=1, threads=1)
    except SessionError as error:
        assert "s.csv" in str(error)  # noqa: PT017
        assert [path.name for path in folder.iterdir()] == ["s.csv"]
        return
    assert sorted(path.name for path in folder.iterdir()) == ["e.parquet", "s.csv"]
    assert report["events"] <= data.count(b"\n") + data.count(b"\r")
    assert sum(report[name] for name in ("sessions", "repeats")) <= report["events"]
