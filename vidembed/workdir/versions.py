"""Library versions, devices and commit, recorded in every result file."""

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import vidembed

_GIT_SECONDS = 10.0
LIBRARIES = (
    "vidembed",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "duckdb",
    "tensorstore",
)


def versions() -> dict[str, str]:
    """Library → version, with Python, platform, devices, and the commit if there is one."""
    import jax  # not at the top, so that `vidembed --version` is quick

    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{len(devices)} × {devices[0].device_kind}",
        **{name: metadata.version(name) for name in LIBRARIES},
        **commit_of(Path(vidembed.__file__).parent),
    }


@functools.cache
def commit_of(package: Path) -> dict[str, str]:
    """{"commit": hash, "tree": "clean" or "changed"} of the package at the time of the first call.

    Changed means that tracked files differ from the commit, or that the package's folder contains
    untracked files. Empty without git, outside a repository, and in a repository that does not
    track the package, such as that of a project which installed it.
    """

    def git(*arguments: str) -> str:
        # Variables set by a hook of another repository would redirect git to that repository.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(
            command,
            env=clean | {"GIT_OPTIONAL_LOCKS": "0"},
            check=True,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        changes = git("status", "--porcelain", "--untracked-files=no")
        changes += git("ls-files", "--others", "--exclude-standard")
        return {"commit": git("rev-parse", "HEAD"), "tree": "changed" if changes else "clean"}
    except (OSError, subprocess.SubprocessError):
        return {}
