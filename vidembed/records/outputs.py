"""Check where a command may write: a file may only replace an earlier output of the command."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import glob
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vidembed.files import is_remote, local_path
from vidembed.records.tabular import METADATA_KEY


class OutputError(ValueError):
    """An output would replace an input, or a file that the command did not make."""


def check_apart(
    output: str | os.PathLike[str],
    inputs: Iterable[str | os.PathLike[str] | None],
    *,
    instead: str = "place",
) -> None:
    """Raise OutputError if an output (a file or folder) is an input, lies in one, or contains one.

    Links and different spellings of a path are resolved. inputs: files, folders and patterns that
    are read; None and "" are ignored. instead: the noun in the advice "name another ...".
    """
    for given in inputs:
        if given and _meet(output, given):
            raise OutputError(
                f"{os.fspath(output)}: is one of the inputs ({os.fspath(given)}), lies among them "
                f"or contains them; name another {instead}, elsewhere"
            )


@dataclass(frozen=True, kw_only=True)
class Output:
    """A Parquet file that a command writes, recognised by its metadata key and its columns."""

    what: str
    """Completes "the file for the ..." in messages."""
    verb: str
    columns: frozenset[str]

    def check(self, path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> Path:
        """The local path to write to; its folder need not exist.

        inputs: files, folders and patterns that are read; remote ones and "" are ignored. Raises
        OutputError if `path` is one of them or lies in one, is not a regular file, or is a file
        that this command did not write, and ValueError for a path that is not on a local disk.
        """
        place = local_path(path)
        check_apart(place, inputs, instead=f"file for the {self.what}")
        if place.exists() and not place.is_file():
            kind = "a folder" if place.is_dir() else "not a regular file"
            raise OutputError(f"{place}: is {kind}; name a file for the {self.what}")
        if place.exists() and place.stat().st_size and not self._made(place):
            raise OutputError(
                f"{place}: exists already, and was not made by `python -m vidembed {self.verb}`: "
                f"it would be lost. Name another file for the {self.what}, or remove this one "
                "first. (Put a pattern of several files in quotes)"
            )
        return place

    def _made(self, place: Path) -> bool:
        try:
            schema = pq.read_schema(place)
            return METADATA_KEY in (schema.metadata or {}) and self.columns <= set(schema.names)
        except (pa.ArrowException, OSError, ValueError):
            return False


EDGES = Output(what="edges", verb="cowatch", columns=frozenset({"source", "target", "weight"}))
CO_LIKES = Output(what="edges", verb="colike", columns=EDGES.columns)
SESSIONS = Output(
    what="sessions",
    verb="simulate",
    columns=frozenset({"session_id", "timestamp", "video_id"}),
)
CLUSTERS = Output(what="clusters", verb="cluster", columns=frozenset({"video_id", "level_1"}))
SEMANTIC_IDS = Output(
    what="semantic IDs",
    verb="semantic-ids",
    columns=frozenset({"video_id", "code_1", "tie"}),
)
RECOMMENDATIONS = Output(
    what="recommendations",
    verb="recommend",
    columns=frozenset({"user_id", "rank", "video_id", "score"}),
)


def _meet(output: str | os.PathLike[str], given: str | os.PathLike[str]) -> bool:
    target, source = (os.fspath(path).removeprefix("file://") for path in (output, given))
    if is_remote(target) or is_remote(source):
        target, source = (path.rstrip("/") + "/" for path in (target, source))
        return target.startswith(source) or source.startswith(target)
    path, known = Path(target).expanduser(), Path(source).expanduser()
    return _is_among(path, known) or known.resolve().is_relative_to(path.resolve())


def _is_among(path: Path, given: Path) -> bool:
    """Whether a path is the given file, matches the given pattern, or lies in the given folder."""
    if given.is_dir():
        return path.resolve().is_relative_to(given.resolve())
    if given.exists():
        return path.resolve() == given.resolve() or (path.exists() and path.samefile(given))
    if any(_is_among(path, Path(match)) for match in glob(str(given), recursive=True)):
        return True
    same_folder = path.parent.resolve() == given.parent.resolve()
    return same_folder and fnmatch(path.name, given.name)
