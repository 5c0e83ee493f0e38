"""Check the arguments of an index: ids, vectors, queries."""

from typing import Any

import numpy as np

from vidembed.records.space import SpaceError

NAMED = 10


def names(ids: Any) -> np.ndarray:
    """Convert ids, bytes or text, to S[n]; raise TypeError for other types."""
    array = np.asarray(ids)
    if array.dtype.kind == "U" and not all(isinstance(item, str) for item in ids):
        array = np.asarray(ids, object)  # NumPy had turned numbers among them into text
    if array.ndim != 1:
        raise ValueError(f"ids must be a flat list, got an array of shape {list(array.shape)}")
    if not array.size:
        return np.zeros(0, "S1")
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8", "surrogateescape")  # bytes from a command line
    if array.dtype.kind == "O":
        items = [item.encode() if isinstance(item, str) else item for item in array]
        if all(isinstance(item, bytes) for item in items):
            return np.array(items)
        wrong = next(item for item in items if not isinstance(item, bytes))
        raise TypeError(
            f"ids must be bytes or text, got {type(wrong).__name__} {wrong!r} among them"
        )
    if array.dtype.kind != "S":
        raise TypeError(f"ids must be bytes or text, got {array.dtype}")
    return array


def unique_names(ids: Any) -> np.ndarray:
    """Like `names`; raises ValueError for repeated or empty ids."""
    checked = names(ids)
    values, counts = np.unique(checked, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{some(values[counts > 1])} occur more than once: give each id one vector"
        )
    if len(values) and not values[0]:
        raise ValueError("an id is empty: give every vector an id")
    return checked


def finite(vectors: Any, what: str, *, width: int | None, ids: np.ndarray | None = None) -> Any:
    """Convert vectors to f32[n, D]; raise ValueError for another shape, for rows that are not
    finite, and for rows whose squared length overflows.

    width: D, or None for any. ids: names of the rows for the message.
    """
    with np.errstate(over="ignore"):
        array = np.asarray(vectors, np.float32)
    if array.ndim != 2 or (width is not None and array.shape[1] != width) or not array.shape[1]:
        expected = "D" if width is None else width
        raise ValueError(f"{what} must be f32[n, {expected}], got {list(array.shape)}")
    if ids is not None and len(ids) != len(array):
        raise ValueError(f"{len(ids):,} ids for {len(array):,} {what}")
    with np.errstate(over="ignore", invalid="ignore"):
        not_finite = np.flatnonzero(~np.isfinite(np.einsum("nd,nd->n", array, array)))
    if len(not_finite):
        row_names = not_finite.astype("S") if ids is None else ids[not_finite]
        raise ValueError(
            f"{len(not_finite):,} of {len(array):,} {what} hold NaN, infinite or huge values "
            f"({'rows' if ids is None else 'ids'} {listed(row_names)}): they have no neighbours; "
            "leave them out"
        )
    return np.ascontiguousarray(array)


def same_space(space: str | None, index_space: str, what: str) -> None:
    """Raise SpaceError if a space is given and differs from that of the index."""
    if space is not None and space != index_space:
        raise SpaceError(
            f"{what} are of the space {space!r}, the index is of {index_space!r}: vectors of two "
            "spaces cannot be compared; embed them with the model that the index was made with, "
            "make a separate index, or replace this one (index ... --force)"
        )


def some(ids: np.ndarray) -> str:
    """The number of ids and the first few, for a message."""
    return f"{len(ids):,} ids ({listed(ids)})"


def listed(ids: np.ndarray) -> str:
    """The first ids, as text for a message."""
    text = ", ".join(id.decode(errors="replace") for id in ids[:NAMED].tolist())
    return f"{text} ..." if len(ids) > NAMED else text


def depth(k: int) -> None:
    """Raise ValueError unless k, the number of results, is 1 or more."""
    if k < 1:
        raise ValueError(f"k is {k}: ask for one result or more")


def one_query(**queries: object) -> None:
    """Raise ValueError unless exactly one of these is given."""
    if sum(query is not None for query in queries.values()) != 1:
        raise ValueError(f"give one of {', '.join(queries)} to search by")
