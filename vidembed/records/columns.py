"""Columns of tabular files as ids and as numbers: by a list of types, and never by a cast alone."""

import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from vidembed.records.tabular import Kind, reading
from vidembed.records.text_table import TextError

ABSENT = ("", "nan", "null", "none", "nat", "n/a", "na", "#n/a")
"""How files write, in small letters, that there is no number and no time; of ids only the first."""
NUL = "holds a NUL character, which no id may: it would be taken for another id; mend it"
_TEXT = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")


def is_text(kind: pa.DataType) -> bool:
    """Whether a type of Arrow's holds UTF-8 text, by name or as bytes."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return str(kind) in _TEXT or pa.types.is_fixed_size_binary(kind)


def is_id(kind: pa.DataType) -> bool:
    """Whether a type of Arrow's may hold ids: text, UTF-8 bytes, whole numbers; or nothing."""
    whole = kind.value_type if pa.types.is_dictionary(kind) else kind
    return is_text(kind) or pa.types.is_integer(whole) or pa.types.is_null(kind)


def refuse_id(path: epath.PathLike, name: str, found: pa.DataType, kind: Kind) -> ValueError:
    """The error for a column of ids of another type."""
    return kind.refused(
        f"{path}: column {name} is of type {found}, and ids are text, UTF-8 bytes or whole "
        "numbers: write them as text"
    )


def ids_of(path: epath.PathLike, table: pa.Table, name: str, kind: Kind) -> pa.Array:
    """A column of ids as text, string[rows]; "" and null are null.

    Refuses NUL: NumPy drops it at the end of an id, which would then be another one.
    """
    column = table[name]
    if not is_id(column.type):
        raise refuse_id(path, name, column.type, kind)
    with reading(path, kind):
        text = column.cast(pa.string()).combine_chunks()
        text.validate(full=True)  # text that is no UTF-8, among others
    row = pc.index(pc.match_substring(text, "\0"), True).as_py()
    if row >= 0:
        raise kind.refused(f"{path}, row {row}: {name} {text[row].as_py()!r} {NUL}")
    return pc.if_else(pc.equal(text, ""), None, text)


def numbers_of(path: epath.PathLike, table: pa.Table, name: str, kind: Kind) -> pa.Array:
    """A column of numbers, f64[rows]; text is parsed, and what `ABSENT` lists is null."""
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
            raise TextError(f"row {row}: {name} is {text[row].as_py()!r}, no number") from error


def _is_number(cell: str | None) -> bool:
    try:
        return cell is None or pa.scalar(cell).cast(pa.float64()).is_valid
    except pa.ArrowInvalid:
        return False
