"""What callers give to an index, checked: ids, vectors, queries."""

from typing import Any

import numpy as np

from vidembed.records.space import SpaceError

NAMED = 10


def names(ids: Any) -> np.ndarray:
    """Ids, bytes or text, as S[n]; TypeError for others."""
    array = np.asarray(ids)
    if array.dtype.kind == "U" and not all(isinstance(item, str) for item in ids):
        array = np.asarray(ids, object)  # NumPy made text of numbers among them
    if array.ndim != 1:
        raise ValueError(f"ids must be one list, got an array of shape {list(array.shape)}")
    if not array.size:
        return np.zeros(0, "S1")
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8", "surrogateescape")  # bytes of a command line
    if array.dtype.kind == "O":
        items = [item.encode() if isinstance(item, str) else item for item in array]
        if all(isinstance(item, bytes) for item in items):
            return np.array(items)
        other = next(item for item in items if not isinstance(item, bytes))
        raise TypeError(f"ids are bytes or text, got {type(other).__name__} {other!r} among them")
    if array.dtype.kind != "S":
        raise TypeError(f"ids are bytes or text, got {array.dtype}")
    return array


def unique_names(ids: Any) -> np.ndarray:
    """As `names`; ValueError for ids that occur twice or are empty."""
    found = names(ids)
    values, counts = np.unique(found, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{some(values[counts > 1])} occur more than once: give each id one vector"
        )
    if len(values) and not values[0]:
        raise ValueError("an id is empty: give every vector an id")
    return found


def finite(vectors: Any, what: str, *, width: int | None, ids: np.ndarray | None = None) -> Any:
    """Vectors as f32[n, D]; ValueError for another shape, for rows that are not finite, and for
    those so long that products with them are not.

    width: D, or None for any. ids: what the rows are called in the message.
    """
    with np.errstate(over="ignore"):
        array = np.asarray(vectors, np.float32)
    if array.ndim != 2 or (width is not None and array.shape[1] != width) or not array.shape[1]:
        wanted = "D" if width is None else width
        raise ValueError(f"{what} must be f32[n, {wanted}], got {list(array.shape)}")
    if ids is not None and len(ids) != len(array):
        raise ValueError(f"{len(ids):,} ids for {len(array):,} {what}")
    with np.errstate(over="ignore", invalid="ignore"):
        bad = np.flatnonzero(~np.isfinite(np.einsum("nd,nd->n", array, array)))
    if len(bad):
        called = bad.astype("S") if ids is None else ids[bad]
        raise ValueError(
            f"{len(bad):,} of {len(array):,} {what} hold NaN, infinite or huge values "
            f"({'rows' if ids is None else 'ids'} {listed(called)}): they have no neighbours; "
            "leave them out"
        )
    return np.ascontiguousarray(array)


def same_space(space: str | None, own: str, what: str) -> None:
    """SpaceError where a space is given and is not the index's own."""
    if space is not None and space != own:
        raise SpaceError(
            f"{what} are of the space {space!r}, the index is of {own!r}: vectors of two spaces "
            "must not be compared; embed them with the model that the index was made with, or "
            "make an index of their own"
        )


def some(ids: np.ndarray) -> str:
    """How many ids and the first few."""
    return f"{len(ids):,} ids ({listed(ids)})"


def listed(ids: np.ndarray) -> str:
    """The first ids, as text."""
    text = ", ".join(id.decode(errors="replace") for id in ids[:NAMED].tolist())
    return f"{text} ..." if len(ids) > NAMED else text


def depth(k: int) -> None:
    """Raises ValueError unless k, how many are asked for, is 1 or more."""
    if k < 1:
        raise ValueError(f"k is {k}: ask for one result or more")
