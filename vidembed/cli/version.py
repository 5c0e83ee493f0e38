"""`vidembed --version`: what to name in a report of a fault."""

import platform
from importlib import metadata
from pathlib import Path

import vidembed
from vidembed.workdir.versions import commit_of


def version_line() -> str:
    """vidembed 0.1.0 (commit 1a2b3c4d5e6f, changed), jax 0.10.0, Python 3.11.9.

    The commit stands there where the package lies in a repository that tracks it. Imports no jax.
    """
    made_by = commit_of(Path(vidembed.__file__).parent)
    commit = f" (commit {made_by['commit'][:12]}" if made_by else ""
    commit += {"changed": ", with changes)", "clean": ")"}.get(made_by.get("tree", ""), "")
    return (
        f"vidembed {metadata.version('vidembed')}{commit}, jax {metadata.version('jax')}, "
        f"Python {platform.python_version()}"
    )
