"""Lists of clips in the forms in which Kinetics, UCF101 and HMDB51 are published."""

import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from vidembed.corpora.clips import Clips, ClipsError, clips_of
from vidembed.records import tabular
from vidembed.records.columns import ids_of
from vidembed.records.tabular import LISTED

Path = str | os.PathLike[str]
ENDINGS = (".mp4", ".webm", ".mkv", ".avi")
"""Of Kinetics' files, whose lists do not name one."""

_UCF101 = re.compile(r"(?P<source>v_(?P<name>.+)_g\d+)_c\d+\.\w+")
_HMDB51 = re.compile(r"(?P<name>.+)_test_split(?P<split>\d)\.txt")
_KINETICS = tabular.Kind(
    what="Kinetics' list of clips (CSV: label, youtube_id, time_start, time_end)",
    give="the one CSV file of a part",
    refused=ClipsError,
)


def kinetics(lists: Path, folder: Path) -> Clips:
    """Kinetics-400: a folder with train.csv and val.csv (or validate.csv), and one of the videos.

    A video is FOLDER/[PART/][LABEL/]ID_START_END.ENDING, with six digits each for the seconds; in
    the folders of labels, spaces may be underscores. The validation videos, on which results are
    published, are for testing. The source of a clip is its YouTube video. Raises ClipsError for
    missing files, with names.
    """
    place = epath.Path(lists)
    paths, classes, groups, parts, missing = [], [], [], [], []
    for part, names in {"train": ("train",), "test": ("val", "validate", "validation")}.items():
        found = [place / f"{name}.csv" for name in names if (place / f"{name}.csv").exists()]
        if not found:
            raise ClipsError(f"{lists}: no {' or '.join(f'{n}.csv' for n in names)} in this folder")
        for row in _rows_of(found[0]):
            name = f"{row['youtube_id']}_{row['time_start']:06d}_{row['time_end']:06d}"
            path = _found(folder, names, row["label"], name)
            if path is None:
                missing.append(name)
                continue
            paths.append(path)
            classes.append(row["label"])
            groups.append(row["youtube_id"])
            parts.append(part)
    _refuse_missing(lists, folder, missing, len(missing) + len(paths))
    _refuse_empty(lists, paths)
    _refuse_both_sides(lists, groups, parts)
    return clips_of(lists, paths, classes, groups, np.array(parts))


def ucf101(lists: Path, folder: Path, *, split: int = 1) -> Clips:
    """UCF101: the folder of trainlist0S.txt and testlist0S.txt, and the folder of the classes.

    The source of v_Class_g08_c01.avi is v_Class_g08. Raises ClipsError for lines of another form,
    and for missing files, with names.
    """
    paths, classes, groups, parts = [], [], [], []
    for part in ("train", "test"):
        file = epath.Path(lists) / f"{part}list{split:02d}.txt"
        for number, line in _lines(file):
            path = line.split(" ")[0]
            name = path.rpartition("/")[2]
            if (match := _UCF101.fullmatch(name)) is None:
                raise ClipsError(
                    f"{file}, line {number}: Class/v_Class_g01_c01.avi expected, found {line!r}"
                )
            paths.append(path)
            classes.append(path.rpartition("/")[0] or match["name"])
            groups.append(match["source"])
            parts.append(part)
    _refuse_empty(lists, paths)
    _refuse_missing(lists, folder, _missing(folder, paths), len(paths))
    _refuse_both_sides(lists, groups, parts)
    return clips_of(lists, paths, classes, groups, np.array(parts))


def hmdb51(lists: Path, folder: Path, *, split: int = 1) -> Clips:
    """HMDB51: the folder of CLASS_test_splitS.txt files, and the folder of the classes.

    Lines are a file and 1 (train), 2 (test) or 0 (not used). The source is the name up to the
    class. Where clips of one name are on both sides of the published split, each side is a source
    of its own. Raises ClipsError for lines of another form, and for missing files, with names.
    """
    paths, classes, groups, parts = [], [], [], []
    for file in sorted(epath.Path(lists).glob(f"*_test_split{split}.txt")):
        match = _HMDB51.fullmatch(file.name)
        if match is None:
            continue
        for number, line in _lines(file):
            name, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2") or not name:
                raise ClipsError(f"{file}, line {number}: FILE and 0, 1 or 2 expected: {line!r}")
            if use != "0":
                paths.append(f"{match['name']}/{name.strip()}")
                classes.append(match["name"])
                groups.append(name.partition(f"_{match['name']}_")[0])
                parts.append({"1": "train", "2": "test"}[use])
    _refuse_empty(lists, paths)
    _refuse_missing(lists, folder, _missing(folder, paths), len(paths))
    torn = _both_sides(groups, parts)
    groups = [f"{g} ({part})" if g in torn else g for g, part in zip(groups, parts)]
    return clips_of(lists, paths, classes, groups, np.array(parts))


def _rows_of(file: epath.Path) -> Iterator[dict[str, Any]]:
    names = ("label", "youtube_id", "time_start", "time_end")
    table = tabular.read_table(file, _KINETICS, names)
    columns = {name: ids_of(file, table, name, _KINETICS) for name in names[:2]}
    try:
        columns |= {name: pc.cast(table[name], pa.int64()) for name in names[2:]}
    except pa.ArrowInvalid as error:
        raise ClipsError(
            f"{file}: whole seconds expected in time_start, time_end: {error}"
        ) from None
    rows = pa.table(columns)
    if empty := sum(column.null_count for column in rows.columns):
        raise ClipsError(f"{file}: {empty:,} cells are empty")
    yield from rows.to_pylist()


def _found(folder: Path, parts: tuple[str, ...], label: str, name: str) -> str | None:
    """The path of a video of Kinetics below the folder."""
    for part in ("", *(f"{each}/" for each in parts)):
        for below in ("", f"{label}/", f"{label.replace(' ', '_')}/"):
            for ending in ENDINGS:
                path = f"{part}{below}{name}{ending}"
                if (epath.Path(folder) / path).exists():
                    return path
    return None


def _lines(file: epath.Path) -> Iterator[tuple[int, str]]:
    if not file.exists():
        raise ClipsError(f"{file}: no such file; give the folder of the published split files")
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _missing(folder: Path, paths: list[str]) -> list[str]:
    return [path for path in paths if not (epath.Path(folder) / path).exists()]


def _refuse_missing(lists: Path, folder: Path, missing: list[str], total: int) -> None:
    if missing:
        shown = ", ".join(missing[:LISTED]) + (" ..." if len(missing) > LISTED else "")
        raise ClipsError(
            f"{os.fspath(lists)}: {len(missing):,} of {total:,} videos are not in "
            f"{os.fspath(folder)}: {shown}. Give the folder of the videos, or remove these from "
            "the lists"
        )


def _refuse_empty(lists: Path, paths: list[str]) -> None:
    if not paths:
        raise ClipsError(f"{os.fspath(lists)}: lists no clips; give the folder of the split files")


def _both_sides(groups: list[str], parts: list[str]) -> set[str]:
    train = {group for group, part in zip(groups, parts) if part == "train"}
    return train & {group for group, part in zip(groups, parts) if part != "train"}


def _refuse_both_sides(lists: Path, groups: list[str], parts: list[str]) -> None:
    if torn := sorted(_both_sides(groups, parts)):
        raise ClipsError(
            f"{os.fspath(lists)}: {len(torn):,} sources are on both sides of the split: "
            f"{', '.join(torn[:LISTED])}. Remove their clips from one of the lists"
        )
