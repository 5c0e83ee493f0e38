"""Where a command may write: over what the same command made before, and over nothing else."""

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
    """Raises OutputError where an output, a file or a folder, is an input, lies in one, or holds
    one, by whatever name.

    inputs: files, folders and patterns that are read; None and empty text are none. instead: what
    to name another of.
    """
    for given in inputs:
        if given and _meet(output, given):
            raise OutputError(
                f"{os.fspath(output)}: is one of the inputs ({os.fspath(given)}), lies among them "
                f"or holds them; name another {instead}, elsewhere"
            )


@dataclass(frozen=True, kw_only=True)
class Output:
    """A Parquet file that a command makes, known again by our mark and by its columns."""

    what: str
    """It is the file for the ..."""
    verb: str
    columns: frozenset[str]

    def check(self, path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> Path:
        """The local path to write to; the folder need not be there.

        inputs: files, folders and patterns that are read; remote ones and empty text lie elsewhere.
        Raises OutputError where `path` is one of them or lies in one, is no regular file, or is a
        file that this command did not make, and ValueError for a path that is not on a local disk.
        """
        place = local_path(path)
        check_apart(place, inputs, instead=f"file for the {self.what}")
        if place.exists() and not place.is_file():
            found = "a folder" if place.is_dir() else "no regular file"
            raise OutputError(f"{place}: is {found}; name a file for the {self.what}")
        if place.exists() and place.stat().st_size and not self._made(place):
            raise OutputError(
                f"{place}: is there already, and was not made by `python -m vidembed {self.verb}`: "
                f"it would be lost. Name another file for the {self.what}, or remove this one "
                "first. (A pattern of several files must stand in quotes)"
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
    one, other = (os.fspath(path).removeprefix("file://") for path in (output, given))
    if is_remote(one) or is_remote(other):
        one, other = (path.rstrip("/") + "/" for path in (one, other))
        return one.startswith(other) or other.startswith(one)
    path, known = Path(one).expanduser(), Path(other).expanduser()
    return _is_among(path, known) or known.resolve().is_relative_to(path.resolve())


def _is_among(path: Path, given: Path) -> bool:
    """Whether a file is what is given, is named by its pattern, or lies in its folder."""
    if given.is_dir():
        return path.resolve().is_relative_to(given.resolve())
    if given.exists():
        return path.resolve() == given.resolve() or (path.exists() and path.samefile(given))
    if any(_is_among(path, Path(found)) for found in glob(str(given), recursive=True)):
        return True
    same_folder = path.parent.resolve() == given.parent.resolve()
    return same_folder and fnmatch(path.name, given.name)
