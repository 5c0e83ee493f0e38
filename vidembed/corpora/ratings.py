"""Interactions of users with items (ratings or watches), from one file.

A file is Parquet, CSV of any dialect, MovieLens (`ratings.csv`, `u.data`, `ratings.dat`), RecBole's
`.inter`, a folder that holds one of them, or `tfds:NAME` (`tfds:movielens/100k-ratings`), which
TensorFlow Datasets prepares on first use. Faulty rows are left out, counted and reported in
`notes`; faults of the file raise RatingsError.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidembed.corpora.ratings_files import RATINGS, RatingsError, read_columns
from vidembed.corpora.ratings_times import seconds_of
from vidembed.records import columns

STARS = (0.0, 5.0)
"""The lowest and highest accepted rating; NDCG's gain is 2^rating − 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratings:
    """R interactions, sorted by user, and within a user in the order of the file."""

    users: np.ndarray
    """S[U], sorted ids."""
    items: np.ndarray
    """S[I], sorted ids; after `on`, the table's ids in the table's order."""
    user: np.ndarray
    """i64[R], index into `users`."""
    item: np.ndarray
    """i64[R], index into `items`."""
    value: np.ndarray
    """f32[R], the rating; 1 if the file has none."""
    time: np.ndarray | None
    """f64[R], seconds, NaN for rows without a time; None if the file has no times."""
    explicit: bool
    """Whether the file has ratings."""
    notes: tuple[str, ...] = ()
    """Rows left out or changed, with counts, one sentence each."""

    def __len__(self) -> int:
        return len(self.user)

    @property
    def offsets(self) -> np.ndarray:
        """i64[U+1]: the first interaction of each user, and the end."""
        return np.searchsorted(self.user, np.arange(len(self.users) + 1))

    def of(self, rows: np.ndarray) -> "Ratings":
        """A subset of the interactions, by bool[R] or ascending i64[n]; users and items stay."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            value=self.value[rows],
            time=None if self.time is None else self.time[rows],
        )

    def on(self, table_ids: np.ndarray) -> "Ratings":
        """Map items to rows of a table with ids S[N]; unknown items are left out and counted."""
        order = np.argsort(table_ids, kind="stable")
        place = np.searchsorted(table_ids, self.items, sorter=order)
        row = order[np.minimum(place, len(order) - 1)] if len(order) else np.zeros(len(place), int)
        known = np.asarray(table_ids)[row] == self.items if len(order) else np.zeros(len(row), bool)
        in_table = known[self.item]
        if not in_table.any():
            raise RatingsError(
                f"none of the {len(self.items):,} items is in the table of {len(table_ids):,}: "
                f"ratings have ids such as {_some(self.items)}, the table {_some(table_ids)}"
            )
        notes = self.notes
        if not known.all():
            notes += (
                f"{int((~in_table).sum()):,} of {len(in_table):,} interactions are with items that "
                f"the table lacks ({int((~known).sum()):,} of {len(known):,} items): left out",
            )
        subset = replace(self.of(in_table), items=np.asarray(table_ids), notes=notes)
        return replace(subset, item=row[self.item[in_table]])


def read_ratings(path: str | os.PathLike[str], *, scale: tuple[float, float] = STARS) -> Ratings:
    """The interactions of a file, a folder or a `tfds:` name.

    scale: the lowest and highest accepted rating. Of several rows with the same user and item the
    last counts, by time if all rows have one, else by position in the file. Raises RatingsError for
    a file that is empty, lacks a column, has times that cannot be read or compared
    (`ratings_times`), or whose ratings mostly lie outside the scale.
    """
    return _cleaned(path, read_columns(path), scale)


def _cleaned(path: object, table: pa.Table, scale: tuple[float, float]) -> Ratings:
    name = str(path)
    if not len(table):
        raise RatingsError(f"{name}: holds no ratings, only a header: give {RATINGS.give}")
    notes: list[str] = []
    ids = [columns.ids_of(name, table, what, RATINGS) for what in ("user", "item")]
    valid = np.array(pc.and_(*(column.is_valid() for column in ids)))
    _note(notes, ~valid, "{} rows have no user or no item: left out")
    value = np.ones(len(table), np.float32)
    if explicit := "rating" in table.column_names:
        numbers = columns.numbers_of(name, table, "rating", RATINGS)
        value = np.array(numbers.to_numpy(zero_copy_only=False), np.float32)
        missing = valid & ~np.isfinite(value)
        _note(notes, missing, "{} ratings are missing or not a number: left out")
        outside = valid & ~missing & ~((value >= scale[0]) & (value <= scale[1]))
        reason = f"ratings lie outside {scale[0]:g} to {scale[1]:g}"
        if outside.sum() * 2 > valid.sum():
            raise RatingsError(
                f"{name}: {int(outside.sum()):,} of {int(valid.sum()):,} {reason}, such as "
                f"{value[outside][0]:g}: give their scale "
                "(--evaluator.scale; of colike: --scale), or rescale them"
            )
        _note(notes, outside, f"{{}} {reason}: left out")
        valid &= ~missing & ~outside
    time = None
    if "time" in table.column_names:
        time = seconds_of(name, table, "time")
        _note(
            notes, valid & np.isnan(time), "{} of the rows have no timestamp, the others have one"
        )
        time = None if np.isnan(time[valid]).all() else time
    if not valid.any():
        raise RatingsError(f"{name}: none of its {len(table):,} rows can be used: {notes}")
    if time is None:
        notes.append("there are no timestamps: the order of the interactions is unknown")
    (users, user), (items, item) = (_numbered(column.filter(pa.array(valid))) for column in ids)
    value, time = value[valid], None if time is None else time[valid]
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


def _numbered(ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ids S[n], sorted, and for each row the index of its id, i64[rows]."""
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
