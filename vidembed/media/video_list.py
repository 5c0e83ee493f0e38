"""The files that a table of extracted videos was made from: TABLE.videos.csv.

A later run tells by it which videos are new, which failed, and which files have changed since. It
has the columns id and path, so that it is a manifest of videos itself.
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from etils import epath

from vidembed import files
from vidembed.media.videos import VideoFile

State = Literal["extracted", "empty", "failed"]
COLUMNS = ("id", "path", "bytes", "modified", "state", "reason")


class Entry(NamedTuple):
    """A file, and what became of it.

    origin: its size in bytes and time of change, or {} if it could not be read. state: extracted;
    empty, without a frame and without sound, so that the table has no row of it; or failed, with
    the reason.
    """

    video: VideoFile
    origin: Mapping[str, Any]
    state: State
    reason: str = ""


class Standing(NamedTuple):
    """Videos by what a table knows of them; those that it holds unchanged are in none of these."""

    new: list[VideoFile]
    failed: list[Entry]
    """Failed before; their files have not changed since."""
    changed: list[VideoFile]
    """In the table, from a file of another size or time."""


def list_of(table: str | os.PathLike[str]) -> str:
    """The path of a table's list of files."""
    return f"{os.fspath(table)}.videos.csv"


def origin_of(video: VideoFile) -> dict[str, Any]:
    """What identifies the contents of a file: its size and its time of change. Raises OSError."""
    if not files.is_remote(video.path):
        local = os.stat(video.path)
        return {"size": local.st_size, "modified": local.st_mtime_ns / 1e9}
    about = epath.Path(video.path).stat()
    return {"size": int(about.length), "modified": float(about.mtime)}


def read_list(table: str | os.PathLike[str]) -> dict[str, Entry]:
    """The entries by id; {} if there is no list. Raises ValueError for a damaged one."""
    path = epath.Path(list_of(table))
    if not path.exists():
        return {}
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        entries = {}
        for row in csv.DictReader(io.StringIO(text, newline=""), strict=True):
            known = {"size": int(row["bytes"]), "modified": float(row["modified"])}
            state: Any = row["state"]
            if state not in ("extracted", "empty", "failed"):
                raise ValueError(f"unknown state {state!r}")
            video = VideoFile(row["id"], row["path"])
            origin = known if known["size"] >= 0 else {}
            entries[video.id] = Entry(video, origin, state, row["reason"])
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, and the table's rows alone say which videos "
            "it holds"
        ) from error
    return entries


def write_list(table: str | os.PathLike[str], entries: Iterable[Entry]) -> None:
    """Write the entries, whole or not at all; local paths are made absolute."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for video, origin, state, reason in entries:
        path = video.path if files.is_remote(video.path) else os.path.abspath(video.path)
        size, modified = origin.get("size", -1), origin.get("modified", 0.0)
        writer.writerow((video.id, path, size, modified, state, reason))
    files.write_bytes(list_of(table), text.getvalue().encode("utf-8", "surrogateescape"))


def standing(
    videos: Sequence[VideoFile], entries: Mapping[str, Entry], in_table: Iterable[str]
) -> Standing:
    """Compare videos with a table's list and the ids of the videos that it has rows of."""
    found, rows = Standing([], [], []), set(in_table)
    for video in videos:
        entry = entries.get(video.id)
        if video.id in rows:  # whatever the list says, which is written after the table
            if entry and entry.state == "extracted" and _origin(video) not in ({}, entry.origin):
                found.changed.append(video)
        elif entry is None or entry.state == "extracted" or _origin(video) != entry.origin:
            found.new.append(video)
        elif entry.state == "failed":
            found.failed.append(entry._replace(video=video))
    return found


def _origin(video: VideoFile) -> dict[str, Any]:
    try:
        return origin_of(video)
    except OSError:
        return {}
