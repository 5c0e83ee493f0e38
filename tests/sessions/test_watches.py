"""Foreign session files: one order over all rows of all files, or an error that names the row."""

import csv
import datetime
import decimal
import gzip
import re

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import many
from vidembed.sessions.session_files import COLUMNS, SessionError, session_files
from vidembed.sessions.watches import open_events

UTC = datetime.UTC
HEAD = "session_id,timestamp,video_id\n"


def ranks(sessions, folder):
    """{video: rank of its time among all}, as the database orders them."""
    folder.mkdir()
    with duckdb.connect() as database:
        open_events(database, session_files(sessions), folder, COLUMNS)
        rows = "select video_id, dense_rank() over (order by time) from events"
        return dict(database.execute(rows).fetchall())


def slowly(text):
    """(kind, exact value) of a timestamp, by the rule; None if it is not a timestamp."""
    text = text.strip(" ")
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return "number", decimal.Decimal(text)
    clock = r"[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?( ?(?:Z|UTC|[+-].*))?"
    match = re.fullmatch(rf"(\d{{4}})([-/])(\d\d)\2(\d\d)(?:{clock})?", text)
    if not match:
        return None
    year, _, month, day, hour, minute, second, part, zone = match.groups()
    at = datetime.datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0)
    )
    nanoseconds = int((part or "0").ljust(9, "0"))
    if zone and zone.strip() not in ("Z", "UTC"):
        digits = re.sub(r"\D", "", zone).ljust(4, "0")
        offset = datetime.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        at += offset if "-" in zone else -offset
    kind = "date" if hour is None else "zoned" if zone else "local"
    return kind, (at, nanoseconds)


DIGITS = st.integers(0, 12)
NUMBERS = [
    DIGITS.map(str),
    DIGITS.map(lambda n: f"-{n}"),
    DIGITS.map(lambda n: f"17000000{n:02d}"),
    DIGITS.map(lambda n: f"17000000.{n:04d}"),
    DIGITS.map(lambda n: f" {n}.50"),
    DIGITS.map(lambda n: f"1.{n}e3"),
    DIGITS.map(lambda n: f"17000000000000000{n:02d}"),
    DIGITS.map(lambda n: f"0.300000000000000{n:02d}"),
    DIGITS.map(lambda n: f"0.000300000000000000{n:02d}"),
]
CLOCKS = [
    DIGITS.map(lambda n: f"10:{n:02d}"),
    DIGITS.map(lambda n: f"10:00:{n:02d}"),
    DIGITS.map(lambda n: f"10:00:00.{n}"),
    DIGITS.map(lambda n: f"10:00:00.{n:06d}"),
    DIGITS.map(lambda n: f"10:00:00.{n:09d}"),
]
DATES = [DIGITS.map(lambda n: f"2024-02-{n + 1:02d}"), DIGITS.map(lambda n: f"2024/01/{n + 1:02d}")]
ZONES = st.sampled_from(["Z", " Z", " UTC", "+02:00", "-0230", "+01", " +01:00"])
LOCAL = [
    st.tuples(date, st.sampled_from("T "), clock).map("".join) for date in DATES for clock in CLOCKS
]
ZONED = [st.tuples(local, ZONES).map("".join) for local in LOCAL]
WRONG = [
    st.sampled_from(["01/02/2024", "23:59:00", "soon", "2024-13-01", "2024-1-1", "1e", "", "0x1"])
]


@st.composite
def stamps(draw):
    """Texts of a few forms of one kind, and sometimes one of another kind or invalid."""
    kinds = [NUMBERS, DATES, LOCAL, ZONED]
    forms = draw(st.lists(st.sampled_from(draw(st.sampled_from(kinds))), min_size=1, max_size=3))
    if draw(st.integers(0, 4)) == 0:
        forms.append(draw(st.sampled_from([*(form for kind in kinds for form in kind), *WRONG])))
    return draw(st.lists(st.one_of(forms), min_size=1, max_size=12))


@pytest.mark.fault(
    "Relations and sessions: timestamps of two kinds or two units, with more digits than "
    "can be stored, that do not exist, or day first",
    "1: file, row and value of both; the machine's time zone is never used",
)
@many(40)
@given(stamps(), st.integers(1, 3), st.booleans())
def test_text_is_ordered_as_the_rule_says_or_refused(tmp_path_factory, texts, files, as_parquet):
    folder = tmp_path_factory.mktemp("stamps")
    (folder / "sessions").mkdir()
    rows = [("s", text, f"v{number}") for number, text in enumerate(texts)]
    for part in range(min(files, len(rows))):
        place, rows_of_file = folder / "sessions" / f"{part}", rows[part::files]
        if as_parquet:
            names = HEAD.strip().split(",")
            pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows_of_file))))), place)
        else:
            with place.open("w", newline="") as file:
                csv.writer(file).writerows([HEAD.strip().split(","), *rows_of_file])
    try:
        values = [slowly(text) for text in texts]
    except ValueError:
        values = [None]  # a month that does not exist
    try:
        ranked = ranks(folder / "sessions", folder / "ready")
    except SessionError as error:
        assert str(folder / "sessions") in str(error)  # noqa: PT017
        kinds = {value and value[0] for value in values}
        powers = any("e" in text for text in texts) and any(len(text) > 14 for text in texts)
        assert None in kinds or len(kinds) > 1 or powers or two_units(values), error  # noqa: PT017
        return
    kinds, exact = zip(*values, strict=True)
    assert len(set(kinds)) == 1
    order = sorted(set(exact))
    assert ranked == {f"v{n}": order.index(value) + 1 for n, value in enumerate(exact)}


def two_units(values):
    """Whether the numbers are plausible times in more than one unit."""
    within = [
        [9.4e8 * scale <= value <= 4.2e9 * scale for scale in (1, 1e3, 1e6, 1e9)]
        for kind, value in (pair for pair in values if pair and pair[0] == "number")
    ]
    return len({tuple(row) for row in within if any(row)}) > 1


@pytest.mark.fault(
    "Relations and sessions: timestamps of two kinds or two units, with more digits than "
    "can be stored, that do not exist, or day first",
)
@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["s,1,a", "s,2024-01-01,b"], r"1\.csv, row 0: .*, one of dates; and .*0\.csv, row 0"),
        (["s,2024-01-01 10:00,a\ns,2024-01-01T10:00Z,b"], r"row 1: .*Z', one of times with"),
        (["s,2024-01-01,a\ns,01/02/2024,b"], r"row 1: .* '01/02/2024' is not .* is not guessed"),
        (["s,2024-01-01,a\ns,2024-02-30,b"], r"row 1: .* '2024-02-30' does not exist as a time"),
        (["s,2024-01-01 10:00+99:99,a"], r"row 0: .*99:99' does not exist as a time"),
        (["s,1,a\ns,NaN,b"], r"1 of 2 watches have no timestamp .*row 1: timestamp 'NaN'"),
        (["s,1,a", ",1,b"], r"1 of 2 watches have no session_id .*1\.csv, row 0: session_id"),
        (["s,1,a\ns,1e3,b\ns,1700000000.123456789,c"], r"row 2: .* more digits than can be stored"),
        (["s,2024-01-01 10:00:00.0000000001,a"], "more digits than can be stored"),
        (["s,1e400,a\ns,2e400,b"], r"row 0: .* '1e400' does not exist as a time"),
        (["s,0e-999,a\ns,3e-400,b"], r"row 1: .* '3e-400' does not exist as a time"),
        (["s,1,a\ns,2,a\0"], r"0\.csv, row 1: video_id 'a\\x00' holds a NUL"),
        (["t\0,1,a", "t,1,a"], r"0\.csv, row 0: session_id 't\\x00' holds a NUL"),
        (["s,1700000000,a", "s,1700000000000,b"], r"row 0: .*, in seconds; and .*1\.csv, row"),
    ],
)  # fmt: skip
def test_a_mix_or_a_loss_is_refused_with_file_row_and_value(tmp_path, files, says):
    for number, text in enumerate(files):
        (tmp_path / f"{number}.csv").write_text(HEAD + text + "\n")
    with pytest.raises(SessionError, match=says):
        ranks(tmp_path, tmp_path / ".ready")


@pytest.mark.fault(
    "Relations and sessions: timestamps of two kinds or two units, with more digits than "
    "can be stored, that do not exist, or day first",
)
def test_the_machines_time_zone_is_never_used(tmp_path, monkeypatch):
    text = "s,2024-03-10 02:30:00,b\ns,2024-03-10 01:30:00,a\ns,2024-03-10 03:00:00,c\n"
    (tmp_path / "s.csv").write_text(HEAD + text)  # an hour that Los Angeles skipped
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    assert ranks(tmp_path / "s.csv", tmp_path / "ready") == {"a": 1, "b": 2, "c": 3}


MOMENTS = [1_700_000_000_000_000_002, 1_700_000_000_000_000_001, 1_700_000_000_000_000_003]


@pytest.mark.fault(
    "Relations and sessions: timestamps of two kinds or two units, with more digits than "
    "can be stored, that do not exist, or day first",
)
@pytest.mark.parametrize(
    ("zone", "old"), [(None, False), (None, True), ("UTC", False), ("Europe/Berlin", False)]
)
def test_parquets_nanoseconds_are_not_cut(tmp_path, zone, old):
    times = pa.array(MOMENTS, pa.timestamp("ns", zone))
    table = pa.table({"session_id": [1] * 3, "timestamp": times, "video_id": list("bac")})
    (tmp_path / "many").mkdir()
    pq.write_table(table, tmp_path / "many" / "0", use_deprecated_int96_timestamps=old)
    seconds = pa.array([1_700_000_000] * 3, pa.timestamp("s", zone))
    coarse = table.set_column(1, "timestamp", seconds)
    coarse = coarse.set_column(2, "video_id", pa.array([b"x", b"x", b"x"]))
    pq.write_table(coarse, tmp_path / "many" / "1")
    order = ranks(tmp_path / "many", tmp_path / "ready")
    assert order == {"x": 1, "a": 2, "b": 3, "c": 4}


@pytest.mark.fault(
    "Relations and sessions: timestamps of two kinds or two units, with more digits than "
    "can be stored, that do not exist, or day first",
)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1]), pa.array([1.5])),
        (pa.array(["1"]), pa.array([1])),
        (pa.array([1], pa.timestamp("s")), pa.array([1], pa.timestamp("s", "UTC"))),
        (pa.array([1], pa.date32()), pa.array([1], pa.timestamp("s"))),
        (pa.array([1], pa.time32("s")), pa.array([1], pa.time32("s"))),
        (pa.array([[1]]), pa.array([[1]])),
        (pa.array([True]), pa.array([True])),
    ],
)
def test_types_of_several_kinds_are_refused(tmp_path, first, second):
    for name, times in (("0", first), ("1", second)):
        table = pa.table({"session_id": ["s"], "timestamp": times, "video_id": ["a"]})
        pq.write_table(table, tmp_path / name)
    with pytest.raises(
        SessionError, match=r"/1: timestamp is of type .*/0 of|/0: timestamp must be a number"
    ):
        ranks(tmp_path, tmp_path / ".ready")


DECIMALS = pa.array([decimal.Decimal("0.1"), decimal.Decimal("4.1")])
SPANS = {
    "before 1677": ["1500-01-01 00:00:00", "1500-01-01 00:00:04"],
    "after 2262": pa.array([2**40, 2**40 + 4], pa.timestamp("s")),
    "finest": pa.array([1, 4 * 10**9 + 1], pa.timestamp("ns", "UTC")),
    "long decimals": DECIMALS.cast(pa.decimal128(38, 30)),
    "long text": ["0.00012345678901234567", "4.00012345678901234567"],
}


@pytest.mark.fault(
    "Relations and sessions: times before 1677 or after 2262 with a window, numbers with twenty or "
    "more decimal places",
    "counted without rounding; decimals of more than 38 digits are refused with file and type",
)
@pytest.mark.parametrize("times", SPANS.values(), ids=SPANS)
def test_windows_measure_all_times(tmp_path, times):
    table = {"session_id": [1, 1], "timestamp": times, "video_id": ["a", "b"]}
    pq.write_table(pa.table(table), tmp_path / "s")
    with duckdb.connect() as database:
        (tmp_path / "ready").mkdir()
        open_events(database, session_files(tmp_path / "s"), tmp_path / "ready", COLUMNS)
        span = database.execute("select max(seconds) - min(seconds) from events").fetchone()
    assert span == (pytest.approx(4),)


@pytest.mark.fault(
    "Relations and sessions: times before 1677 or after 2262 with a window, numbers with twenty or "
    "more decimal places",
)
def test_decimals_beyond_38_digits_are_refused(tmp_path):
    times = DECIMALS.cast(pa.decimal256(50, 40))
    table = {"session_id": [1, 1], "timestamp": times, "video_id": ["a", "b"]}
    pq.write_table(pa.table(table), tmp_path / "s")
    with pytest.raises(SessionError, match=r"/s: timestamp must be .*, found decimal256\(50, 40\)"):
        ranks(tmp_path / "s", tmp_path / "ready")


IDS = {
    "text": pa.array(["a'1", "cé", "", None]),
    "large": pa.array(["a'1", "cé", "", None], pa.large_string()),
    "view": pa.array(["a'1", "cé", "", None], pa.string_view()),
    "bytes": pa.array([b"a'1", "cé".encode(), b"", None]),
    "coded": pa.array(["a'1", "cé", "", None]).dictionary_encode(),
    "whole": pa.array([7, 10, None, None], pa.uint16()),
}
REFUSED = {
    "numbers": pa.array([1.0, float("nan"), 2.0, None]),
    "list": pa.array([["a"], ["b"], [], None]),
    "struct": pa.array([{"id": "a"}] * 4),
    "flag": pa.array([True, False, None, None]),
    "time": pa.array([1, 2, 3, None], pa.timestamp("s")),
}


@pytest.mark.fault(
    "Relations and sessions: ids that are neither text, UTF-8 bytes nor whole numbers; "
    '"", null or NaN for an id',
    "1: file, column and type; or the number of rows and the first one",
)
@pytest.mark.parametrize("column", ["session_id", "video_id"])
@pytest.mark.parametrize("kind", [*IDS, *REFUSED])
def test_ids_are_of_the_types_of_one_list(tmp_path, column, kind):
    columns = {"session_id": list("stuv"), "timestamp": range(4), "video_id": list("abcd")}
    table = pa.table({name: pa.array(cells) for name, cells in columns.items()})
    cells = (IDS | REFUSED)[kind]
    table = table.set_column(table.column_names.index(column), column, cells)
    pq.write_table(table, tmp_path / "s")
    if kind in REFUSED:
        with pytest.raises(SessionError, match=rf"/s: column {column} is of type .* as text"):
            ranks(tmp_path / "s", tmp_path / "ready")
        return
    with pytest.raises(SessionError, match=rf"2 of 4 watches have no {column} .*row 2: {column}"):
        ranks(tmp_path / "s", tmp_path / "none")
    pq.write_table(table.slice(0, 2), tmp_path / "s")
    ranked = ranks(tmp_path / "s", tmp_path / "ready")
    if column == "video_id":
        assert list(ranked) == (["7", "10"] if kind == "whole" else ["a'1", "cé"])


@pytest.mark.fault(
    "Relations and sessions: ids that are neither text, UTF-8 bytes nor whole numbers; "
    '"", null or NaN for an id',
)
def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    ids = pa.array([b"a", b"\xff"])
    pq.write_table(
        pa.table({"session_id": ids, "timestamp": [1, 2], "video_id": ids}), tmp_path / "s"
    )
    with pytest.raises(
        SessionError, match=r"1 of 2 watches have no session_id \(or none that is UTF"
    ):
        ranks(tmp_path / "s", tmp_path / "ready")


@pytest.mark.fault(
    "Relations and sessions: a file named like a pattern, folders named key=value, "
    "compressed and nested files, links",
    "each file is read once with its own columns, or refused; only names that begin with . or _ "
    "are ignored",
)
def test_files_are_read_or_refused_and_never_ignored(tmp_path):
    folder = tmp_path / "all, @ [1]*"
    (folder / "day=2" / "session_id=7").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "a.csv").write_text(HEAD + "s,1,a\n")
    (folder / "b").write_bytes(gzip.compress(b"video_id;session_id;timestamp\nb;s;2\n"))
    (folder / "day=2" / "session_id=7" / "s[1].csv").write_text(HEAD + "s,3,c\n")
    (folder / "day=2" / "s1.csv").write_text(HEAD + "s,4,d\n")
    (folder / "latest").symlink_to(folder / "a.csv")
    (folder / "hard").hardlink_to(folder / "a.csv")
    (folder / "again").symlink_to(folder)
    for left_out in ("_SUCCESS", ".a.csv.crc", ".hidden/x.csv"):
        (folder / left_out).write_text("no table")
    assert len(session_files(folder)) == 4
    everything = {"a": 1, "b": 2, "c": 3, "d": 4}
    assert ranks(folder, tmp_path / "0") == everything
    assert ranks(f"{tmp_path}/al*", tmp_path / "1") == everything
    assert ranks(f"{tmp_path}/al*/**/s*.csv", tmp_path / "2") == {"c": 1, "d": 2}
    assert ranks(folder / "day=2" / "session_id=7" / "s[1].csv", tmp_path / "3") == {"c": 1}
    (folder / "README.md").write_text("Sessions of May\n")
    with pytest.raises(
        SessionError, match=r"README\.md: column session_id.* found Sessions of May"
    ):
        ranks(folder, tmp_path / "4")


@pytest.mark.fault(
    "Relations and sessions: CSV of any dialect, columns in any order; a row with more or fewer "
    "cells than the header, a misplaced quote, text in another encoding, a truncated compressed "
    "file",
)
def test_columns_go_by_name_in_each_parquet_file(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "s").mkdir()
    for number in range(4):
        columns = {
            "session_id": [number],
            "timestamp": [number],
            "video_id": [f"v{number}"],
            "x": [None],
        }
        names = rng.permutation(list(columns)).tolist()
        pq.write_table(
            pa.table({name: columns[name] for name in names}), tmp_path / "s" / str(number)
        )
    assert ranks(tmp_path / "s", tmp_path / "ready") == {f"v{n}": n + 1 for n in range(4)}
