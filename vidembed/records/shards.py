"""Which files a pattern means: a glob, a folder or one file, on disk or in a bucket."""

import difflib
import re
from os import PathLike

from etils import epath

from vidembed.files import is_unfinished

OFFSETS_SUFFIX = ".offsets"
# Beside shards lie offset indexes, and what older versions left when they were killed.
_OURS = (OFFSETS_SUFFIX, ".part")
_GLOB = re.compile(r"[*?\[]")


def is_glob(pattern: str | PathLike[str]) -> bool:
    """Whether a pattern is to be matched, not a name."""
    return _GLOB.search(str(pattern)) is not None


def shards(pattern: str | PathLike[str]) -> list[epath.Path]:
    """The TFRecord files of a glob, of a folder (`*.tfrecord*` in it), or one file; sorted.

    Raises FileNotFoundError, with what is nearest on disk, where nothing matches.
    """
    path = epath.Path(pattern)
    if is_glob(pattern):
        parts = path.parts
        first = next(i for i, part in enumerate(parts) if _GLOB.search(part))
        root, glob = epath.Path(*parts[:first]), "/".join(parts[first:])
        found = root.glob(glob) if root.exists() else iter(())
    elif path.is_dir():
        found = path.glob("*.tfrecord*")
    else:
        return [path] if path.exists() else _nothing(path)
    others = (p for p in found if not p.name.endswith(_OURS) and not is_unfinished(p.name))
    return sorted(p for p in others if p.is_file()) or _nothing(path)


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
        f"no TFRecord file matches {str(path)!r}: in {str(root)!r} there is no {wanted!r}, {there}."
        " Give a file, a folder that holds *.tfrecord* files, or a glob."
    )
