"""TPU slices by name: devices to compile for on a machine without TPUs.

The compiler is libtpu, from the `tpu` extra. It needs no TPU, but environment variables must
describe a TPU machine, or it would request the machine's metadata over the network.
"""

import importlib.util
import os
from typing import Any

import jax
from jax.experimental import topologies

EXAMPLES = "v5e:2x2, v5e:4x4, v5e:8x8, v5e:16x16, v5p:2x2x1, v5p:4x4x4, v6e:4x4, v6e:16x16"
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
}
"""One accelerator type works for slices of every generation. Several processes may compile at the
same time, because none uses a TPU."""


def slice_devices(name: str) -> list[Any]:
    """The devices of a slice, such as v5e:8x8; ValueError without a compiler or for unknown slices.

    Afterwards JAX has only CPU devices in this process, unless it was initialised before.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            f"{name} needs the TPU compiler, which is not installed (no TPU is needed): "
            "pip install -e '.[tpu]'"
        )
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    jax.config.update("jax_platforms", "cpu")
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise ValueError(f"the TPU compiler does not start: {error}") from error
        raise ValueError(
            f"{name} is not a TPU slice: {str(error).partition(': ')[2]}. A name is a generation "
            f"and the number of chips along each side (the first two even), such as {EXAMPLES}"
        ) from error
