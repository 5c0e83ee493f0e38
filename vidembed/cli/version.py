"""`vidembed --version`: the versions to include in a bug report."""

import platform
from importlib import metadata
from pathlib import Path

import vidembed
from vidembed.workdir.versions import commit_of


def version_line() -> str:
    """The versions: vidembed 0.1.0 (commit 1a2b3c4d5e6f, with changes), jax 0.10.0, Python 3.11.9.

    The commit is included if the package lies in a repository that tracks it. Does not import jax.
    """
    made_by = commit_of(Path(vidembed.__file__).parent)
    commit = f" (commit {made_by['commit'][:12]}" if made_by else ""
    commit += {"changed": ", with changes)", "clean": ")"}.get(made_by.get("tree", ""), "")
    return (
        f"vidembed {metadata.version('vidembed')}{commit}, jax {metadata.version('jax')}, "
        f"Python {platform.python_version()}"
    )
