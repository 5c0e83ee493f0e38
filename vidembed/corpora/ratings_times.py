"""Read the times of ratings: numbers, or dates and times in ISO 8601 as in session files."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.corpora.ratings_files import RATINGS, RatingsError
from vidembed.records import columns, times

_UNITS = {1e11: 1.0, 1e14: 1e3, 1e17: 1e6, np.inf: 1e9}
_PER_SECOND = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
_MOST_DIGITS = 9
"""Digits after the point of a second that Arrow stores."""


def seconds_of(path: str, table: pa.Table, name: str) -> np.ndarray:
    """f64[rows] in seconds, NaN for missing times. Times without a zone count as UTC.

    Raises RatingsError for text that is neither a number nor a time, for times of two kinds
    (`records.times`), and for numbers of two units.
    """
    column = table[name].combine_chunks()
    if columns.is_text(column.type):
        column = _from_text(path, column.cast(pa.string()))
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    if pa.types.is_timestamp(column.type):
        counts = column.cast(pa.int64()).cast(pa.float64(), safe=False)
        column = pc.divide(counts, _PER_SECOND[column.type.unit])
        return np.array(column.to_numpy(zero_copy_only=False), np.float64)
    numbers = columns.numbers_of(path, pa.table({name: column}), name, RATINGS)
    return _in_seconds(path, np.array(numbers.to_numpy(zero_copy_only=False), np.float64))


def _from_text(path: str, text: pa.Array) -> pa.Array:
    """Times as timestamps; other text, which may be numbers, as it is."""
    shapes = pc.replace_substring_regex(text, "[0-9]", "9")
    known = {shape: times.shape_of(shape) for shape in pc.unique(shapes.drop_null()).to_pylist()}
    of_kind: dict[str, str] = {}
    for shape, parsed in known.items():
        if parsed.kind:
            of_kind.setdefault(parsed.kind, shape)
    unknown = [shape for shape, parsed in known.items() if parsed.kind is None]
    if {*of_kind} == {times.NUMBERS} or not (of_kind or unknown):
        return text
    unknown += [shape for shape, parsed in known.items() if parsed.part > _MOST_DIGITS]
    if unknown:
        raise RatingsError(
            f"{path}, {_first(text, shapes, unknown[0])}, which is neither a number "
            f"nor a time: {times.HELP}"
        )
    if len(of_kind) > 1:
        rows = [f"{_first(text, shapes, s)}, one of {kind}" for kind, s in of_kind.items()]
        raise RatingsError(
            f"{path}: timestamps of two kinds: {'; and '.join(rows[:2])}: {times.HELP}"
        )
    ((kind, _),) = of_kind.items()
    fine = max(parsed.part for parsed in known.values()) > 6
    type_ = pa.timestamp("ns" if fine else "us", "UTC" if kind == times.ZONED else None)
    absent = [shape for shape, parsed in known.items() if parsed.kind == ""]
    plain = pc.if_else(pc.is_in(shapes, pa.array(absent, pa.string())), None, text)
    plain = pc.replace_substring(pc.utf8_trim_whitespace(plain), "/", "-")
    plain = pc.replace_substring_regex(plain, " ?(UTC|Z)$", "Z")
    plain = pc.replace_substring_regex(plain, " ([+-])", r"\1")
    try:
        return plain.cast(type_)
    except pa.ArrowInvalid as error:
        row = next(row for row, cell in enumerate(plain) if not _exists(cell, type_))
        raise RatingsError(
            f"{path}, row {row}: timestamp {text[row].as_py()!r} does not exist as a time: "
            "correct it"
        ) from error


def _first(text: pa.Array, shapes: pa.Array, shape: str) -> str:
    row = pc.index(shapes, shape).as_py()
    return f"row {row}: timestamp {text[row].as_py()!r}"


def _exists(cell: pa.Scalar, type_: pa.DataType) -> bool:
    try:
        cell.cast(type_)
    except pa.ArrowInvalid:
        return False
    return True


def _in_seconds(path: str, time: np.ndarray) -> np.ndarray:
    """Convert times in milli-, micro- or nanoseconds to seconds; refuses a mix of units."""
    known = time[np.isfinite(time)]
    units = np.searchsorted(list(_UNITS), np.abs(known), side="right")
    if len(set(units.tolist()) - {0}) > 1 or (units.any() and (known[units == 0] > 1e8).any()):
        raise RatingsError(
            f"{path}: timestamps mix units, found {known.min():.0f} to {known.max():.0f}: write "
            "all of them in seconds"
        )
    unit = list(_UNITS.values())[int(units.max(initial=0))]
    return np.where(np.isfinite(time), time, np.nan) / unit
