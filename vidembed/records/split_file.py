"""Read a split from a file: published splits, and groups of videos that must stay together."""

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
"""Names of the parts that a file may use."""
COLUMNS = ("id", "split", "group")


class SplitError(ValueError):
    """A split file that is malformed or does not fit the table."""


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
    share_given: bool = True,
) -> Split:
    """The split of a table's videos from a file of `id, split[, group]`, or of `id, group`.

    The file is Parquet, or CSV with a header, possibly compressed; other columns are ignored. With
    `split` (train, validation, val, valid or test) only the file decides, and `group` is just
    checked. Without it the group is hashed instead of the id (`by_hash`), so that a group stays in
    one part. Videos of the file that are not in the table are counted in the notes.

    Raises SplitError for other files, empty cells, repeated ids, unknown part names, a group in
    more than one part, videos of the table that the file lacks, an empty train or test part, and a
    validation share, if one was given, although the file has a column split.
    """
    path = epath.Path(path)
    file = _load(path)
    if "split" in file.column_names and validation_share and share_given:
        raise SplitError(
            f"{path}: its column split sets the validation videos, so validation_share must be 0, "
            f"found {validation_share}: leave one of them out"
        )
    ids = file["id"].to_pylist()
    place = table.find(np.array([name.encode() for name in ids], np.bytes_))
    entry = _entries(path, place, table)
    if "split" in file.column_names:
        part = named_parts(path, file)[entry]
        for name in ("train", "test"):
            if not (part == name).any():
                raise SplitError(
                    f"{path}: none of the {len(part):,} videos of the table is for {name}"
                )
        split = Split(part == "train", part == "validation", of_file=True)
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
    """The columns of the file among `COLUMNS` as text; refuses empty cells and repeated ids."""
    table = tabular.read_table(path, SPLIT, COLUMNS[:1], optional=COLUMNS[1:])
    known = table.column_names
    tabular.check_columns(path, known, ("id", "group" if "group" in known else "split"), SPLIT)
    file = pa.table({name: ids_of(path, table, name, SPLIT) for name in known})
    for name in known:
        if empty := file[name].null_count:
            remedy = ": give a video without a group its own id" if name == "group" else ""
            raise SplitError(f"{path}: {empty:,} of {len(file):,} videos have no {name}{remedy}")
    counts = file["id"].value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if repeated:
        raise SplitError(
            f"{path}: {len(repeated):,} ids occur more than once: {', '.join(repeated[:LISTED])}; "
            "keep one row per video"
        )
    return file


def _entries(path: epath.Path, place: np.ndarray, table: FeatureTable) -> np.ndarray:
    """For each video of the table its row in the file, i64[N]; place: the inverse mapping."""
    entry = np.full(len(table), -1)
    entry[place[place >= 0]] = np.flatnonzero(place >= 0)
    missing = np.flatnonzero(entry < 0)
    if len(missing):
        names = ", ".join(name.decode(errors="replace") for name in table.ids[missing[:LISTED]])
        raise SplitError(
            f"{path}: lacks {len(missing):,} of {len(table):,} videos of the table, so they would "
            f"be in no part: {names}. Check that it is the split of this table, or add a row for "
            "each of them"
        )
    return entry


def named_parts(path: epath.PathLike, file: pa.Table) -> np.ndarray:
    """The part of each row, U[n]: train, validation or test, from a file's text column `split`.

    Raises SplitError for unknown names, and for a `group` (if there is such a column) in more than
    one part.
    """
    coded = file["split"].combine_chunks().dictionary_encode()
    words, code = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    unknown = [number for number, word in enumerate(words) if word not in WORDS]
    if unknown:
        named = (
            f"{words[number]!r} ({int(np.sum(code == number)):,} videos)" for number in unknown
        )
        raise SplitError(
            f"{path}: its column split must hold {', '.join(WORDS)}; found "
            f"{', '.join(list(named)[:LISTED])}"
        )
    part = np.array([WORDS[word] for word in words])[code]
    if "group" in file.column_names:
        _refuse_torn(path, file["group"].combine_chunks(), part)
    return part


def _refuse_torn(path: epath.PathLike, groups: pa.Array, part: np.ndarray) -> None:
    parts = pa.table({"group": groups, "part": part}).group_by("group", use_threads=False)
    by_group = parts.aggregate([("part", "distinct")])
    counts = pc.list_value_length(by_group["part_distinct"])
    torn = by_group.filter(pc.greater(counts, 1)).to_pylist()
    if torn:
        named = (f"{row['group']} ({', '.join(row['part_distinct'])})" for row in torn[:LISTED])
        raise SplitError(
            f"{path}: {len(torn):,} groups lie in more than one part: {'; '.join(named)}. A model "
            "trained on one video of a group would be evaluated on another: put each group into "
            "one part, or remove the column split so that whole groups are hashed"
        )
