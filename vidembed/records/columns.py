"""Convert columns of tabular files to ids and numbers, from a fixed list of types."""

import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from vidembed.records.tabular import Kind, reading
from vidembed.records.text_table import TextError

ABSENT = ("", "nan", "null", "none", "nat", "n/a", "na", "#n/a")
"""Texts (in lower case) for a missing number or time; for ids only the first one counts."""
NUL = "holds a NUL character, which ids must not: it would be confused with another id; correct it"
_TEXT = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds text, as strings or as UTF-8 bytes."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return str(kind) in _TEXT or pa.types.is_fixed_size_binary(kind)


def is_id(kind: pa.DataType) -> bool:
    """Whether an Arrow type may hold ids: text, UTF-8 bytes, integers, or only nulls."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return is_text(kind) or pa.types.is_integer(value) or pa.types.is_null(kind)


def refuse_id(path: epath.PathLike, name: str, type_: pa.DataType, kind: Kind) -> ValueError:
    """The error for an id column of any other type."""
    return kind.refused(
        f"{path}: column {name} is of type {type_}, but ids must be text, UTF-8 bytes or "
        "integers: write them as text"
    )


def ids_of(path: epath.PathLike, table: pa.Table, name: str, kind: Kind) -> pa.Array:
    """A column of ids as text, string[rows]; "" and null are null.

    Refuses NUL, because NumPy drops it at the end of an id, which would change the id.
    """
    column = table[name]
    if not is_id(column.type):
        raise refuse_id(path, name, column.type, kind)
    with reading(path, kind):
        text = column.cast(pa.string()).combine_chunks()
        text.validate(full=True)  # raises for text that is not UTF-8, among others
    row = pc.index(pc.match_substring(text, "\0"), True).as_py()
    if row >= 0:
        raise kind.refused(f"{path}, row {row}: {name} {text[row].as_py()!r} {NUL}")
    return pc.if_else(pc.equal(text, ""), None, text)


def numbers_of(path: epath.PathLike, table: pa.Table, name: str, kind: Kind) -> pa.Array:
    """A column of numbers, f64[rows]; text is parsed, and the words in `ABSENT` are null."""
    column, number = table[name].combine_chunks(), pa.types
    is_number = number.is_integer, number.is_floating, number.is_decimal, number.is_null
    with reading(path, kind):
        if any(check(column.type) for check in is_number):
            return column.cast(pa.float64())
        if not is_text(column.type):
            raise TextError(f"column {name} is of type {column.type}, and must be a number")
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        text = pc.if_else(pc.is_in(pc.utf8_lower(text), pa.array(ABSENT)), None, text)
        try:
            return text.cast(pa.float64())
        except pa.ArrowInvalid as error:
            row = next(row for row, cell in enumerate(text.to_pylist()) if not _is_number(cell))
            raise TextError(f"row {row}: {name} is {text[row].as_py()!r}, not a number") from error


def _is_number(cell: str | None) -> bool:
    try:
        return cell is None or pa.scalar(cell).cast(pa.float64()).is_valid
    except pa.ArrowInvalid:
        return False
