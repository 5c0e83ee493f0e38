"""What computed a number: library versions, devices and commit, for every result file."""

import platform
from importlib import metadata
from pathlib import Path

import jax

from vidembed.workdir.commit import commit_of

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
    """Library → version, with Python, platform, devices, and the commit where there is one."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{len(devices)} × {devices[0].device_kind}",
        **{name: metadata.version(name) for name in LIBRARIES},
        **commit_of(Path(__file__).parent),
    }
