"""Accelerators by their data sheets: what a step would take at their full rates.

TPUs: the system architecture pages of docs.cloud.google.com/tpu/docs (v5e, v5p, v6e), read in
November 2026. GPUs: the figures published for H100 and H200 SXM, without sparsity, in hosts of
eight with a 400 Gb/s adapter each, as secondary pages quote them. Vendors state links in both
directions together; here stands one direction, which is what a ring uses. Products in float32 are
as this project asks for them, in full precision: a TPU makes them of six bfloat16 products (a
sixth of its rate, derived and not stated by the vendor), a GPU without its matrix units.
"""

from dataclasses import dataclass

TERA, GIGA, GIBI = 1e12, 1e9, 2.0**30


@dataclass(frozen=True, kw_only=True)
class Chip:
    """Peak rates of one chip in a second, and the memory of it and of its host."""

    bfloat16: float
    """Operations of products a second, operands in bfloat16."""
    float32: float
    """The same in full float32."""
    memory: float
    """Bytes of device memory."""
    memory_rate: float
    """Bytes a second between a chip and its memory."""
    link_rate: float
    """Bytes a second that a chip sends to chips of its slice or host."""
    linked: int
    """Chips that are joined so."""
    network_rate: float
    """Bytes a second that a chip sends beyond these: its share of the host's adapters."""
    host_memory: float
    """Bytes of host memory."""

    def sending_rate(self, chips: int) -> float:
        """Bytes a second of each link of a ring over so many chips: its slowest link decides."""
        return self.link_rate if chips <= self.linked else self.network_rate


def _tpu(
    bfloat16: float, memory: float, memory_rate: float, link_rate: float, linked: int,
    network_rate: float, host_memory: float,
) -> Chip:  # fmt: skip
    return Chip(
        bfloat16=bfloat16,
        float32=bfloat16 / 6,
        memory=memory,
        memory_rate=memory_rate,
        link_rate=link_rate,
        linked=linked,
        network_rate=network_rate,
        host_memory=host_memory,
    )


def _hopper(memory: float, memory_rate: float) -> Chip:
    return Chip(
        bfloat16=989 * TERA,
        float32=67 * TERA,
        memory=memory,
        memory_rate=memory_rate,
        link_rate=450 * GIGA,
        linked=8,
        network_rate=50 * GIGA,
        host_memory=2 * TERA,
    )


CHIPS = {
    "TPU v5 lite": _tpu(
        197 * TERA, 16 * GIGA, 819 * GIGA, 200 * GIGA, 256, 3.125 * GIGA, 512 * GIBI
    ),
    "TPU v5": _tpu(
        459 * TERA, 95 * GIGA, 2765 * GIGA, 600 * GIGA, 6144, 6.25 * GIGA, 448 * GIGA
    ),
    # The page names no data-centre rate for v6e: that of v5e, the slower, is taken.
    "TPU v6 lite": _tpu(
        918 * TERA, 32 * GIGA, 1638 * GIGA, 400 * GIGA, 256, 3.125 * GIGA, 1536 * GIBI
    ),
    "NVIDIA H100": _hopper(80 * GIGA, 3350 * GIGA),
    "NVIDIA H200": _hopper(141 * GIGA, 4800 * GIGA),
}  # fmt: skip
"""By the name that JAX gives the device, or its beginning for GPUs. TPU v5 is v5p, "lite" is e."""


def chip_of(device_kind: str) -> Chip | None:
    """The data sheet of a device; None if there is none here, as for CPUs."""
    beginning = " ".join(device_kind.split()[:2])
    return CHIPS.get(device_kind) or (CHIPS.get(beginning) if "NVIDIA" in beginning else None)
