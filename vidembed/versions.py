"""What computed a number: library versions and devices, for every result file."""

import platform
from importlib import metadata

import jax

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
    """Library → version, with Python, platform and devices."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{len(devices)} × {devices[0].device_kind}",
        **{name: metadata.version(name) for name in LIBRARIES},
    }
