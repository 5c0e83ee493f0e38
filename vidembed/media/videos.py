"""Which video files, and their ids: folders, files, or a manifest."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from etils import epath

from vidembed.files import is_remote
from vidembed.records import tabular
from vidembed.records.columns import ids_of, is_text
from vidembed.records.example import MessageError
from vidembed.records.formats import check_id

IdRule = Literal["name", "youtube"]
SUFFIXES = (
    ".3gp", ".aac", ".asf", ".avi", ".flac", ".flv", ".m2ts", ".m4a", ".m4v", ".mka", ".mkv",
    ".mov", ".mp3", ".mp4", ".mpeg", ".mpg", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ts", ".vob",
    ".wav", ".webm", ".wma", ".wmv",
)  # fmt: skip
"""Endings of the files that are taken from a folder, in either case; sound alone counts too."""
MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.gz")

_YOUTUBE = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{11}(?![A-Za-z0-9_-])")
_BRACKETED = re.compile(r"\[([A-Za-z0-9_-]{11})\]")
_DOWNLOADED = re.compile(r"(?:^|[-_ .])([A-Za-z0-9_-]{11})$")


class VideosError(ValueError):
    """A choice of video files that must not be used as it is."""


class VideoFile(NamedTuple):
    """A video: its id, and the path of its file, local or in a bucket."""

    id: str
    path: str


MANIFEST = tabular.Kind(
    what="a manifest of videos (Parquet, or CSV with a header: id or video_id, path or url)",
    give="the one Parquet or CSV file that lists the videos",
    refused=VideosError,
)


def video_files(
    paths: Sequence[str | os.PathLike[str]], *, id_rule: IdRule = "name"
) -> list[VideoFile]:
    """The videos of folders, files and manifests, sorted by id within each path.

    Folders are searched with their subfolders, links to folders included, for files with one of
    `SUFFIXES`. Other files are videos themselves, whatever they are called, except manifests
    (`MANIFEST_SUFFIXES`), which are in the order of their rows. A file that is given twice counts
    once. id_rule: see `id_of`. Raises VideosError for a folder without videos, a path that does not
    exist, and two files of one id.
    """
    videos = []
    for path in (os.fspath(path) for path in paths):
        place = epath.Path(path)
        if path.lower().endswith(MANIFEST_SUFFIXES):
            videos += read_manifest(path)
        elif place.is_dir():
            videos += sorted(VideoFile(id_of(file, id_rule), file) for file in _in_folder(place))
        elif place.exists():
            videos.append(VideoFile(id_of(path, id_rule), path))
        else:
            raise VideosError(
                f"{path}: there is no such file or folder; give a folder of videos, a video or a "
                f"manifest ({', '.join(MANIFEST_SUFFIXES)})"
            )
    if not videos:
        raise VideosError("no videos: give folders, files or a manifest")
    once: dict[tuple[str, str], VideoFile] = {}
    for video in videos:
        once.setdefault((video.id, _real(video.path)), video)
    videos = list(once.values())
    _refuse_doubles(videos, "rename one of them, or give a manifest with the columns id and path")
    return videos


def id_of(path: str | os.PathLike[str], rule: IdRule = "name") -> str:
    """The id of a file by its name.

    name: the name without its suffix. youtube: the 11 characters of a YouTube id, in brackets as
    yt-dlp writes them, else at the end of the name, else the only such word of the name. Raises
    VideosError.
    """
    stem = Path(os.fspath(path)).stem
    if rule == "name":
        return _checked(path, stem)
    if stem_id := _BRACKETED.findall(stem):
        return str(stem_id[-1])
    if at_end := _DOWNLOADED.search(stem):
        return at_end[1]
    words = _YOUTUBE.findall(stem)
    if len(words) == 1:
        return str(words[0])
    raise VideosError(
        f"{path}: its name holds no YouTube id (11 letters, digits, - or _, such as in "
        "'Title [dQw4w9WgXcQ].mp4'): rename it, use the file names as ids (name), or give a "
        "manifest"
    )


def read_manifest(path: str | os.PathLike[str]) -> list[VideoFile]:
    """The videos of a CSV or Parquet file with the columns `id` or `video_id`, and `path` or `url`.

    Relative paths are relative to the manifest. Whether files exist is not checked. Raises
    VideosError, with the row, for missing and impossible ids and paths, and two rows of one id.
    """
    place = epath.Path(path)
    columns = ("video_id", "id", "path", "url")
    table = tabular.read_table(place, MANIFEST, optional=columns)
    key = next((name for name in columns[:2] if name in table.column_names), columns[0])
    where = next((name for name in columns[2:] if name in table.column_names), columns[2])
    tabular.check_columns(place, table.column_names, (key, where), MANIFEST)
    if not is_text(table[where].type):
        raise VideosError(f"{path}: column {where} is of type {table[where].type}, expected text")
    videos = []
    ids = ids_of(place, table, key, MANIFEST).to_pylist()
    for row, (video_id, file) in enumerate(zip(ids, table[where].to_pylist())):
        if video_id is None or not file:
            raise VideosError(
                f"{path}, row {row}: expected {key} and {where}, found {video_id!r} and {file!r}"
            )
        if is_remote(file) and not file.startswith(("gs://", "s3://")):
            raise VideosError(
                f"{path}, row {row}: {file!r} is neither a local path nor in a bucket (gs://, "
                "s3://): download the videos first"
            )
        absolute = is_remote(file) or os.path.isabs(file)
        file = file if absolute else os.fspath(place.parent / file)
        videos.append(VideoFile(_checked(f"{path}, row {row}", video_id), file))
    if not videos:
        raise VideosError(f"{path}: holds no videos")
    _refuse_doubles(videos, f"keep one row of {path} for each video")
    return videos


def _in_folder(folder: epath.Path) -> list[str]:
    if is_remote(folder):
        files = [os.fspath(file) for file in folder.glob("**/*")]
    else:
        files = [os.path.join(at, name) for at, names in _walk(folder) for name in names]
    videos = [
        file for file in files
        if file.lower().endswith(SUFFIXES) and not os.path.basename(file).startswith(".")
    ]  # fmt: skip
    if not videos:
        others = sorted({os.path.splitext(file)[1] or "(none)" for file in files})
        raise VideosError(
            f"{folder}: holds no videos; looked, in all its subfolders too, for files ending in "
            f"{', '.join(SUFFIXES)}; found {len(files):,} files with the endings "
            f"{', '.join(others[: tabular.LISTED]) or 'of none'}"
        )
    return videos


def _walk(folder: epath.Path) -> Iterator[tuple[str, list[str]]]:
    """(folder, its files), for a folder and those in it, each once even if links lead back."""
    seen = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(at)) in seen:
            folders.clear()
        else:
            seen.add(real)
            yield at, names


def _real(path: str) -> str:
    return path if is_remote(path) else os.path.realpath(path)


def _checked(where: object, video_id: str) -> str:
    try:
        check_id(video_id.encode())
    except (MessageError, UnicodeEncodeError) as error:
        raise VideosError(
            f"{where}: the id {video_id!r} cannot be used: {error}. Rename the file, or give a "
            "manifest with an id of its own"
        ) from error
    return video_id


def _refuse_doubles(videos: Iterable[VideoFile], remedy: str) -> None:
    first: dict[str, str] = {}
    for video in videos:
        if video.id in first:
            raise VideosError(
                f"id {video.id!r} stands for two files, {first[video.id]} and {video.path}: "
                + remedy
            )
        first[video.id] = video.path
