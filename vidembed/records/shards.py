"""Find the feature files of a glob, a folder or one file, on disk or in a bucket."""

import difflib
import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from etils import epath

from vidembed.files import is_remote, is_unfinished
from vidembed.records.kind import NPZ, NUMPY, PARQUET, RECORDS, kind_of

OFFSETS_SUFFIX = ".offsets"
# Files beside shards: offset indexes, and partial files left by older versions when killed.
_OURS = (OFFSETS_SUFFIX, ".part")
_GLOB = re.compile(r"[*?\[]")


def is_glob(pattern: str | PathLike[str]) -> bool:
    """Whether this is a pattern; a name that exists is not one, whatever its characters."""
    return _GLOB.search(str(pattern)) is not None and not epath.Path(pattern).exists()


def shards(pattern: str | PathLike[str]) -> list[epath.Path]:
    """The files that a glob matches, the feature files of a folder, or one file; sorted.

    The feature files of a folder are its TFRecord files (by content, or named `*.tfrecord*`, as a
    file may be damaged), else its Parquet files, else its .npy files, else its .npz files. Raises
    FileNotFoundError, with similar names on disk, if nothing matches.
    """
    path = epath.Path(pattern)
    if is_glob(pattern):
        parts, first = path.parts, 1
        # A folder whose name looks like a pattern is taken literally.
        while not _GLOB.search(parts[first - 1]) or epath.Path(*parts[:first]).exists():
            first += 1
        root, glob = epath.Path(*parts[: first - 1]), "/".join(parts[first - 1 :])
        # etils would also treat the folder's name as a pattern.
        place = root if is_remote(root) else Path(root)
        matches = _files(map(epath.Path, place.glob(glob))) if root.exists() else []
    elif path.is_dir():
        matches = _of_features(path)
    else:
        matches = [path] if path.exists() else []
    return matches or _nothing(path)


def _files(paths: Iterable[epath.Path]) -> list[epath.Path]:
    candidates = (p for p in paths if not p.name.endswith(_OURS) and not is_unfinished(p.name))
    return sorted(p for p in candidates if p.is_file())


def _of_features(folder: epath.Path) -> list[epath.Path]:
    files = _files(folder.iterdir())
    kinds = {p: RECORDS if ".tfrecord" in p.name else kind_of(p) for p in files}
    for format in (RECORDS, PARQUET, NUMPY, NPZ):
        # Never ignore files in other compression formats: the reader reports them.
        chosen = [p for p, kind in kinds.items() if format in kind or kind.endswith("-compressed")]
        if any(format in kinds[p] for p in chosen):
            return chosen
    return []


def _nothing(path: epath.Path) -> list[epath.Path]:
    root = path
    while root != root.parent and not root.is_dir():
        root = root.parent
    names = sorted(p.name for p in root.iterdir()) if root.is_dir() else []
    below = path.parts[len(root.parts) :]
    missing = below[0] if below else "*.tfrecord*"
    near = difflib.get_close_matches(_GLOB.sub("", missing), names, n=5, cutoff=0.4) or names[:5]
    present = f"but {', '.join(near)}" if names else "and nothing else"
    present += f" and {len(names) - len(near)} more" if len(names) > len(near) else ""
    raise FileNotFoundError(
        f"no feature file matches {str(path)!r}: in {str(root)!r} there is no {missing!r}, "
        f"{present}. Give a file, a folder that holds TFRecord, Parquet, .npy or .npz files, or a "
        "glob."
    )
