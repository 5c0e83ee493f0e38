"""Which files a pattern means: a glob, a folder or one file, on disk or in a bucket."""

import difflib
import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from etils import epath

from vidembed.files import is_remote, is_unfinished
from vidembed.records.kind import NUMPY, PARQUET, RECORDS, kind_of

OFFSETS_SUFFIX = ".offsets"
# Beside shards lie offset indexes, and what older versions left when they were killed.
_OURS = (OFFSETS_SUFFIX, ".part")
_GLOB = re.compile(r"[*?\[]")


def is_glob(pattern: str | PathLike[str]) -> bool:
    """Whether a pattern is to be matched. What exists by that name is a name."""
    return _GLOB.search(str(pattern)) is not None and not epath.Path(pattern).exists()


def shards(pattern: str | PathLike[str]) -> list[epath.Path]:
    """The files that a glob matches, those of a folder that hold features, or one file; sorted.

    Of a folder these are its TFRecord files (by content, or `*.tfrecord*` by name, where one may be
    damaged), else its Parquet files, else its .npy files. Raises FileNotFoundError, with what is
    nearest on disk, where nothing matches.
    """
    path = epath.Path(pattern)
    if is_glob(pattern):
        parts, first = path.parts, 1
        # A folder whose own name looks like a pattern is that folder.
        while not _GLOB.search(parts[first - 1]) or epath.Path(*parts[:first]).exists():
            first += 1
        root, glob = epath.Path(*parts[: first - 1]), "/".join(parts[first - 1 :])
        # etils would take the folder's name for a pattern, too.
        place = root if is_remote(root) else Path(root)
        found = _files(map(epath.Path, place.glob(glob))) if root.exists() else []
    elif path.is_dir():
        found = _of_features(path)
    else:
        found = [path] if path.exists() else []
    return found or _nothing(path)


def _files(found: Iterable[epath.Path]) -> list[epath.Path]:
    others = (p for p in found if not p.name.endswith(_OURS) and not is_unfinished(p.name))
    return sorted(p for p in others if p.is_file())


def _of_features(folder: epath.Path) -> list[epath.Path]:
    files = _files(folder.iterdir())
    kinds = {p: RECORDS if ".tfrecord" in p.name else kind_of(p) for p in files}
    for wanted in (RECORDS, PARQUET, NUMPY):
        # What is compressed otherwise is for the reader to name, and never passed over.
        found = [p for p, kind in kinds.items() if wanted in kind or kind.endswith("-compressed")]
        if any(wanted in kinds[p] for p in found):
            return found
    return []


def _nothing(path: epath.Path) -> list[epath.Path]:
    root = path
    while root != root.parent and not root.is_dir():
        root = root.parent
    names = sorted(p.name for p in root.iterdir()) if root.is_dir() else []
    below = path.parts[len(root.parts) :]
    wanted = below[0] if below else "*.tfrecord*"
    near = difflib.get_close_matches(_GLOB.sub("", wanted), names, n=5, cutoff=0.4) or names[:5]
    there = f"but {', '.join(near)}" if names else "and nothing else"
    there += f" and {len(names) - len(near)} more" if len(names) > len(near) else ""
    raise FileNotFoundError(
        f"no file of features matches {str(path)!r}: in {str(root)!r} there is no {wanted!r}, "
        f"{there}. Give a file, a folder that holds TFRecord, Parquet or .npy files, or a glob."
    )
