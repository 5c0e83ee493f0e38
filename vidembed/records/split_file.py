"""A split from a file: published ones, and groups of videos that must stay together."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from vidembed.records import tabular
from vidembed.records.columns import ids_of
from vidembed.records.split import Split, by_hash
from vidembed.records.table import FeatureTable
from vidembed.records.tabular import LISTED

WORDS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
"""How a file may name the parts."""
COLUMNS = ("id", "split", "group")


class SplitError(ValueError):
    """A split file that must not be used as it is."""


SPLIT = tabular.Kind(
    what="a split (Parquet, or CSV with a header, of text: id, split, group)",
    give="the one Parquet or CSV file with the split",
    refused=SplitError,
)


def read_split(
    path: epath.PathLike,
    table: FeatureTable,
    *,
    seed: int,
    train_share: float,
    validation_share: float = 0.0,
) -> Split:
    """The split of a table's videos from a file of `id, split[, group]`, or of `id, group`.

    The file is Parquet, or CSV with a header, which may be compressed; other columns are not used.
    With `split` (train, validation, val, valid or test) the file alone decides, and `group` is only
    checked. Without it the group is hashed as the id would be (`by_hash`), so that a group is in
    one part whole. Videos of the file that the table lacks are counted in the notes.

    Raises SplitError for what is no such file, empty cells, repeated ids, other words, a group in
    more than one part, videos of the table that the file lacks, a part for training or testing
    without videos, and a validation share beside a file that says who is for validation.
    """
    path = epath.Path(path)
    file = _load(path)
    if "split" in file.column_names and validation_share:
        raise SplitError(
            f"{path}: its column split says who is for validation, so validation_share must be 0, "
            f"found {validation_share}: leave one of them out"
        )
    ids = file["id"].to_pylist()
    place = table.find(np.array([name.encode() for name in ids], np.bytes_))
    entry = _entries(path, place, table)
    if "split" in file.column_names:
        split = _as_named(path, file, entry)
    else:
        groups = np.array([name.encode() for name in file["group"].to_pylist()], np.bytes_)
        split = by_hash(
            groups[entry], seed=seed, train_share=train_share, validation_share=validation_share
        )
    unknown = np.flatnonzero(place < 0)
    if not len(unknown):
        return split
    shown = ", ".join(ids[row] for row in unknown[:LISTED])
    note = f"{path}: {len(unknown):,} of its {len(ids):,} videos are not in the table: {shown}"
    return split._replace(notes=(note,))


def _load(path: epath.Path) -> pa.Table:
    """Its columns of `COLUMNS` as text, without empty cells and repeated ids."""
    found = tabular.read_table(path, SPLIT, COLUMNS[:1], optional=COLUMNS[1:])
    known = found.column_names
    tabular.check_columns(path, known, ("id", "group" if "group" in known else "split"), SPLIT)
    file = pa.table({name: ids_of(path, found, name, SPLIT) for name in known})
    for name in known:
        if empty := file[name].null_count:
            alone = ": give a video that stands alone its own id" if name == "group" else ""
            raise SplitError(f"{path}: {empty:,} of {len(file):,} videos have no {name}{alone}")
    counts = file["id"].value_counts()
    again = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if again:
        raise SplitError(
            f"{path}: {len(again):,} ids stand there more than once: {', '.join(again[:LISTED])}; "
            "keep one row for each video"
        )
    return file


def _entries(path: epath.Path, place: np.ndarray, table: FeatureTable) -> np.ndarray:
    """The row of the file of each video of the table, i64[N]; place: the other way round."""
    entry = np.full(len(table), -1)
    entry[place[place >= 0]] = np.flatnonzero(place >= 0)
    missing = np.flatnonzero(entry < 0)
    if len(missing):
        names = ", ".join(name.decode(errors="replace") for name in table.ids[missing[:LISTED]])
        raise SplitError(
            f"{path}: lacks {len(missing):,} of {len(table):,} videos of the table, so that they "
            f"would be in no part: {names}. Is it the split of this table? Otherwise add a row for "
            "each of them"
        )
    return entry


def _as_named(path: epath.Path, file: pa.Table, entry: np.ndarray) -> Split:
    coded = file["split"].combine_chunks().dictionary_encode()
    words, code = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    other = [number for number, word in enumerate(words) if word not in WORDS]
    if other:
        named = (f"{words[number]!r} ({int(np.sum(code == number)):,} videos)" for number in other)
        raise SplitError(
            f"{path}: its column split must say {', '.join(WORDS)}; found "
            f"{', '.join(list(named)[:LISTED])}"
        )
    part = np.array([WORDS[word] for word in words])[code]
    if "group" in file.column_names:
        _refuse_torn(path, file["group"].combine_chunks(), part)
    part = part[entry]
    for name in ("train", "test"):
        if not (part == name).any():
            raise SplitError(f"{path}: none of the {len(part):,} videos of the table is for {name}")
    return Split(part == "train", part == "validation")


def _refuse_torn(path: epath.Path, groups: pa.Array, part: np.ndarray) -> None:
    parts = pa.table({"group": groups, "part": part}).group_by("group", use_threads=False)
    found = parts.aggregate([("part", "distinct")])
    torn = found.filter(pc.greater(pc.list_value_length(found["part_distinct"]), 1)).to_pylist()
    if torn:
        named = (f"{row['group']} ({', '.join(row['part_distinct'])})" for row in torn[:LISTED])
        raise SplitError(
            f"{path}: {len(torn):,} groups lie in more than one part: {'; '.join(named)}. What is "
            "learned of one video of a group would be measured on another: put each group into "
            "one part, or leave the column split out to have groups hashed whole"
        )
