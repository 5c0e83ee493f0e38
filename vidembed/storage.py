"""Small files that readers see whole or not at all, on a local disk or remote (gs://)."""

import json
import os
import threading
from typing import Any

from etils import epath


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path names object storage: no appending, no locks, each write whole."""
    return "://" in str(path)


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes or replaces a file at once."""
    path = epath.Path(path)
    if is_remote(path):
        path.write_text(text)
        return
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        new.write_text(text)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes or replaces a file at once; its folder is made. NaN is refused: it is not JSON."""
    path = epath.Path(path)
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def read_json(path: epath.PathLike) -> Any:
    """What `write_json` wrote, or None if there is no such file."""
    try:
        return json.loads(epath.Path(path).read_text())
    except FileNotFoundError:
        return None
