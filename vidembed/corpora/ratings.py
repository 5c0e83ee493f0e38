"""Who rated or watched what: interactions of users with items, from one file.

A file is Parquet, CSV of any dialect, MovieLens (`ratings.csv`, `u.data`, `ratings.dat`), RecBole's
`.inter`, a folder that holds one of them, or `tfds:NAME` (`tfds:movielens/100k-ratings`), which
TensorFlow Datasets prepares when it is first asked for. What is wrong with single rows is left out,
counted and said in `notes`; what is wrong with the file raises RatingsError.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.corpora.ratings_files import RATINGS, RatingsError, read_columns
from vidembed.records import columns

STARS = (0.0, 5.0)
"""The lowest and the highest rating that is taken; NDCG's gain is 2^rating − 1."""
_UNITS = {1e11: 1.0, 1e14: 1e3, 1e17: 1e6, np.inf: 1e9}


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratings:
    """R interactions, sorted by user, those of one user in the order of the file."""

    users: np.ndarray
    """S[U], sorted ids."""
    items: np.ndarray
    """S[I], sorted ids; after `on`, the table's ids in the table's order."""
    user: np.ndarray
    """i64[R], number in `users`."""
    item: np.ndarray
    """i64[R], number in `items`."""
    value: np.ndarray
    """f32[R], the rating; 1 where the file has none."""
    time: np.ndarray | None
    """f64[R], seconds, NaN where a row says none; None where the file has no times."""
    explicit: bool
    """Whether the file has ratings."""
    notes: tuple[str, ...] = ()
    """What was left out or changed, counted, a sentence each."""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def offsets(self) -> np.ndarray:
        """i64[U+1]: where each user's interactions begin."""
        return np.searchsorted(self.user, np.arange(len(self.users) + 1))

    def of(self, rows: np.ndarray) -> "Ratings":
        """Some of the interactions, bool[R] or i64[n] ascending; the same users and items."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            value=self.value[rows],
            time=None if self.time is None else self.time[rows],
        )

    def on(self, table_ids: np.ndarray) -> "Ratings":
        """Items as rows of a table with ids S[N]; those that it lacks are left out and counted."""
        order = np.argsort(table_ids, kind="stable")
        place = np.searchsorted(table_ids, self.items, sorter=order)
        row = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(place), int)
        known = np.asarray(table_ids)[row] == self.items if len(order) else np.zeros(len(row), bool)
        kept = known[self.item]
        if not kept.any():
            raise RatingsError(
                f"none of the {len(self.items):,} items is in the table of {len(table_ids):,}: "
                f"ratings have ids such as {_some(self.items)}, the table {_some(table_ids)}"
            )
        notes = self.notes
        if not known.all():
            notes += (
                f"{int((~kept).sum()):,} of {len(kept):,} interactions are with items that the "
                f"table lacks ({int((~known).sum()):,} of {len(known):,} items): left out",
            )
        found = replace(self.of(kept), items=np.asarray(table_ids), notes=notes)
        return replace(found, item=row[self.item[kept]])


def read_ratings(path: str | os.PathLike[str], *, scale: tuple[float, float] = STARS) -> Ratings:
    """The interactions of a file, a folder or a `tfds:` name.

    scale: the lowest and highest rating that is taken. Of several rows with one user and item the
    last counts, by time where all rows have one, else by place in the file. Raises RatingsError for
    a file that holds nothing, lacks a column, mixes units of time, or whose ratings mostly lie
    outside the scale.
    """
    return _cleaned(path, read_columns(path), scale)


def _cleaned(path: object, table: pa.Table, scale: tuple[float, float]) -> Ratings:
    name = str(path)
    if not len(table):
        raise RatingsError(f"{name}: holds no ratings, only a header: give {RATINGS.give}")
    notes: list[str] = []
    ids = [columns.ids_of(name, table, what, RATINGS) for what in ("user", "item")]
    kept = np.array(pc.and_(*(one.is_valid() for one in ids)))
    _note(notes, ~kept, "{} rows have no user or no item: left out")
    value = np.ones(len(table), np.float32)
    if explicit := "rating" in table.column_names:
        value = _numbers(name, table, "rating").astype(np.float32)
        missing = kept & ~np.isfinite(value)
        _note(notes, missing, "{} ratings are missing or no number: left out")
        outside = kept & ~missing & ~((value >= scale[0]) & (value <= scale[1]))
        said = f"ratings lie outside {scale[0]:g} to {scale[1]:g}"
        if outside.sum() * 2 > kept.sum():
            raise RatingsError(
                f"{name}: {int(outside.sum()):,} of {int(kept.sum()):,} {said}, such as "
                f"{value[outside][0]:g}: give their scale (--evaluator.scale), "
                "or rescale them"
            )
        _note(notes, outside, f"{{}} {said}: left out")
        kept &= ~missing & ~outside
    time = None
    if "time" in table.column_names:
        time = _seconds(name, _numbers(name, table, "time"))
        _note(notes, kept & np.isnan(time), "{} of the rows have no timestamp, the others have")
        time = None if np.isnan(time[kept]).all() else time
    if not kept.any():
        raise RatingsError(f"{name}: none of its {len(table):,} rows can be used: {notes}")
    if time is None:
        notes.append("there are no timestamps: what came last is not known")
    (users, user), (items, item) = (_numbered(one.filter(pa.array(kept))) for one in ids)
    value, time = value[kept], None if time is None else time[kept]
    when = np.zeros(len(user)) if time is None or np.isnan(time).any() else time
    order = np.lexsort((when, item, user))
    last = np.ones(len(order), bool)
    last[:-1] = (np.diff(user[order]) != 0) | (np.diff(item[order]) != 0)
    _note(notes, ~last, "{} rows repeat a user and an item: the last of them is kept")
    rows = np.sort(order[last])
    rows = rows[np.argsort(user[rows], kind="stable")]
    return Ratings(
        users=users,
        items=items,
        user=user[rows],
        item=item[rows],
        value=value[rows],
        time=None if time is None else time[rows],
        explicit=explicit,
        notes=tuple(notes),
    )


def _numbers(path: str, table: pa.Table, what: str) -> np.ndarray:
    """f64[rows], NaN for nothing; Parquet's timestamps as seconds."""
    column = table[what].combine_chunks()
    if pa.types.is_timestamp(column.type):
        micro = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
        table = pa.table({what: pc.divide(micro.cast(pa.float64()), 1e6)})
    numbers = columns.numbers_of(path, table, what, RATINGS)
    return np.array(numbers.to_numpy(zero_copy_only=False), np.float64)


def _seconds(path: str, time: np.ndarray) -> np.ndarray:
    """Times in milliseconds, micro- or nanoseconds as seconds; no mix of them."""
    known = time[np.isfinite(time)]
    units = np.searchsorted(list(_UNITS), np.abs(known), side="right")
    if len(set(units.tolist()) - {0}) > 1 or (units.any() and (known[units == 0] > 1e8).any()):
        raise RatingsError(
            f"{path}: timestamps mix units, found {known.min():.0f} to {known.max():.0f}: write "
            "all of them in seconds"
        )
    unit = list(_UNITS.values())[int(units.max(initial=0))]
    return np.where(np.isfinite(time), time, np.nan) / unit


def _numbered(ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Sorted ids S[n] that occur, and the number of each row's, i64[rows]."""
    encoded = ids.dictionary_encode()
    distinct = np.array(encoded.dictionary.cast(pa.binary()).to_pylist(), "S")
    order = np.argsort(distinct)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return distinct[order], number[encoded.indices.to_numpy().astype(np.int64)]


def _note(notes: list[str], rows: np.ndarray, text: str) -> None:
    if rows.any():
        notes.append(text.format(f"{int(rows.sum()):,}"))


def _some(ids: Sequence[bytes] | np.ndarray) -> str:
    return ", ".join(bytes(i).decode(errors="replace") for i in ids[:3]) or "none"
