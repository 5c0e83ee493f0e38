"""Read timestamps of one kind across all files: numbers, dates, or times with or without a zone.

Text is classified by its shape (each digit replaced by 9), for every row, without guessing from
other rows: numbers (epoch seconds, milliseconds ..., or any increasing numbers), dates
(2024-01-31), times with a zone (2024-01-31T10:00:00.5+02:00, Z or UTC), times without. The
machine's time zone is never used: times without a zone are compared as written. Parquet types fall
into the same kinds.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

import pyarrow as pa

from vidembed.records.columns import ABSENT, is_text

NUMBERS, DATES = "numbers", "dates"
LOCAL, ZONED = "times without a zone", "times with a zone"
TEXT = "text"
_MOMENT = "[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?"
_QUICK = {
    "[0-9]{1,15}": "9" * 15,
    "[0-9]{16,18}": "9" * 18,
    _MOMENT: "9999-99-99 99:99:99.999999",
    _MOMENT + "(Z|[+-][0-9]{2}:[0-9]{2})": "9999-99-99 99:99:99.999999Z",
}
_CASES = (
    f"when regexp_full_match(timestamp, '{text}') then '{all}'" for text, all in _QUICK.items()
)
SHAPE = f"case {' '.join(_CASES)} else translate(timestamp, '012345678', '999999999') end"
"""SQL: the shape of a text timestamp; common shapes are mapped to the longest of their kind."""
GONE = f"lower(trim(timestamp)) in ({', '.join(map(repr, ABSENT))})"
"""SQL: whether a text stands for a missing timestamp."""
HELP = (
    "write all of them as numbers (epoch seconds, or any increasing numbers), as dates "
    "(2024-01-31), or as times (2024-01-31 10:00:00), all with a zone (Z, +02:00) or all without"
)
_NUMBER = re.compile(r"[+-]?(?P<whole>9*)\.?(?P<part>9*)(?P<power>[eE][+-]?9+)?")
_TIME = re.compile(
    r"9999(?P<mark>[-/])99(?P=mark)99"
    r"(?P<clock>[T ]99:99(:99(\.(?P<part>9+))?)?)?(?P<zone> ?(Z|UTC|[+-]99(:?99)?))?"
)
# DuckDB accepts +99:99 as a zone.
_IS_ZONE = "regexp_matches(timestamp, '(Z|UTC|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?) *$')"
_IN_RANGE = (
    "(abs(try_cast(timestamp as double)) between 2.2250738585072014e-308 and "
    "1.7976931348623157e308 or not regexp_matches(timestamp, '^[^eE]*[1-9]'))"
)
_YEARS_2000_TO_2100 = 946_684_800, 4_102_444_800
UNITS = {"seconds": 1, "milliseconds": 1000, "microseconds": 10**6, "nanoseconds": 10**9}


class Shape(NamedTuple):
    """The kind of a text shape, with its digits before (whole) and after (part) the point.

    kind: "" if the text stands for a missing value, None if the shape is unknown.
    """

    kind: str | None
    whole: int = 0
    part: int = 0
    power: bool = False


def shape_of(shape: str) -> Shape:
    """Classify a text in which each digit is replaced by 9."""
    bare = shape.strip(" ")
    number = _NUMBER.fullmatch(bare)
    if bare.lower() in ABSENT:
        return Shape(ABSENT[0])
    if number and (number["whole"] or number["part"]):
        digits = len(number["whole"]), len(number["part"])
        return Shape(NUMBERS, *digits, number["power"] is not None)
    time = _TIME.fullmatch(bare)
    if not time or (time["zone"] and not time["clock"]):
        return Shape(None)
    kind = DATES if not time["clock"] else ZONED if time["zone"] else LOCAL
    return Shape(kind, 0, len(time["part"] or ""))


def text_sql(kind: str, shapes: Collection[Shape]) -> str | None:
    """SQL that reads texts of these shapes, all of one kind, without loss; None if impossible.

    It gives null for dates that do not exist, such as 30 February.
    """
    whole, part = max(shape.whole for shape in shapes), max(shape.part for shape in shapes)
    fine = "_ns" if part > 6 else ""
    if kind == ZONED:
        bare = "regexp_replace(trim(timestamp), ' ([+-]|Z$)', '\\1')"
        read = f"try_cast({bare} as timestamptz{fine})"
        return f"case when {_IS_ZONE} then {read} end" if part <= 9 else None
    if kind == LOCAL:
        return f"try_cast(timestamp as timestamp{fine})" if part <= 9 else None
    if kind == DATES:
        return "try_cast(timestamp as date)"
    if any(shape.power for shape in shapes):
        # Doubles keep the order of fifteen-digit numbers within their exponent range.
        exact = all(shape.whole + shape.part <= 15 for shape in shapes)
        return f"case when {_IN_RANGE} then try_cast(timestamp as double) end" if exact else None
    if part:
        return f"try_cast(timestamp as decimal(38, {part}))" if whole + part <= 38 else None
    return (
        f"try_cast(timestamp as {'bigint' if whole <= 18 else 'hugeint'})" if whole < 38 else None
    )


def kind_of(type_: pa.DataType) -> str | None:
    """The kind of timestamp that an Arrow type holds; None if it holds none."""
    types = pa.types
    if is_text(type_):
        return TEXT
    if types.is_timestamp(type_):
        return LOCAL if type_.tz is None else ZONED
    if types.is_date(type_):
        return DATES
    if types.is_integer(type_) or types.is_floating(type_):
        return NUMBERS
    if types.is_decimal(type_) and type_.precision <= 38:  # DuckDB would round longer ones
        return NUMBERS
    return None


def typed_sql(type_: pa.DataType, types: Collection[pa.DataType]) -> str | None:
    """SQL that casts a column of type `type_` to a type that all `types` (of one kind) fit."""
    kind = kind_of(type_)
    if kind is None:
        return "null"
    if kind == TEXT:
        return "try(decode(timestamp))" if "binary" in str(type_) else "timestamp::varchar"
    if kind == NUMBERS:
        if all(pa.types.is_integer(t) for t in types):
            return "timestamp" if len(types) == 1 else "timestamp::hugeint"
        if all(pa.types.is_floating(t) for t in types):
            return "case when isfinite(timestamp) then timestamp::double end"
        return "timestamp" if len(types) == 1 else None
    if kind == DATES:
        return "timestamp"
    fine = "_ns" if any(t.unit == "ns" for t in types) else ""
    return f"timestamp::timestamp{'tz' if kind == ZONED else ''}{fine}"


def unit_sql(unit: str) -> str:
    """SQL: whether a number in this unit is a time of the years 2000 to 2100."""
    low, high = (seconds * UNITS[unit] for seconds in _YEARS_2000_TO_2100)
    return f"time::double between {low} and {high}"


def seconds_sql(unit: str | None, type_: str) -> str:
    """SQL: a time in seconds, f64, meaningful only in differences.

    unit: the unit of numbers, None for dates and times; type_: DuckDB's type of `time`.
    """
    if unit is not None:
        return f"time::double / {UNITS[unit]}"
    if type_ == "DATE":
        return "(time - date '1970-01-01') * 86400.0"
    # epoch_ns covers only the years 1677 to 2262.
    return "epoch_ns(time) / 1e9" if type_.endswith("_NS") else "epoch_us(time) / 1e6"
