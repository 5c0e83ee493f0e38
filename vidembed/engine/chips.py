"""Peak rates of accelerators from their data sheets.

TPUs: the system architecture pages of docs.cloud.google.com/tpu/docs (v5e, v5p, v6e), read in
November 2026. GPUs: the figures published for H100 and H200 SXM, without sparsity, in hosts of
eight with one 400 Gb/s adapter each, as quoted by secondary pages. Vendors state link rates for
both directions together; the rates here are for one direction, which is what a ring uses. Products
in float32 run at full precision, as this project requests them: a TPU computes each from six
bfloat16 products (a sixth of its rate, derived and not stated by the vendor), a GPU without its
matrix units.
"""

from typing import NamedTuple

T, G, GIBI = 1e12, 1e9, 2.0**30


class Chip(NamedTuple):
    """Peak rates of one chip per second, and the memory of the chip and of its host."""

    bfloat16: float
    """Operations of matrix products per second, operands in bfloat16."""
    float32: float
    """The same in full float32."""
    memory: float
    """Bytes of device memory."""
    memory_rate: float
    """Bytes per second between a chip and its memory."""
    link_rate: float
    """Bytes per second that a chip sends to chips of its slice or host."""
    linked: int
    """Chips connected by these links."""
    network_rate: float
    """Bytes per second that a chip sends to other chips: its share of the host's adapters."""
    host_memory: float
    """Bytes of host memory."""

    def sending_rate(self, chips: int) -> float:
        """Bytes per second of each link of a ring over `chips` chips; the slowest link decides."""
        return self.link_rate if chips <= self.linked else self.network_rate


CHIPS = {
    "TPU v5 lite": Chip(197 * T, 197 * T / 6, 16 * G, 819 * G, 200 * G, 256, 3.125 * G, 512 * GIBI),
    "TPU v5": Chip(459 * T, 459 * T / 6, 95 * G, 2765 * G, 600 * G, 6144, 6.25 * G, 448 * G),
    # The page states no data-centre network rate for v6e: use that of v5e, which is slower.
    "TPU v6 lite": Chip(
        918 * T, 918 * T / 6, 32 * G, 1638 * G, 400 * G, 256, 3.125 * G, 1536 * GIBI
    ),
    "NVIDIA H100": Chip(989 * T, 67 * T, 80 * G, 3350 * G, 450 * G, 8, 50 * G, 2 * T),
    "NVIDIA H200": Chip(989 * T, 67 * T, 141 * G, 4800 * G, 450 * G, 8, 50 * G, 2 * T),
}
"""JAX's device kind (for GPUs its first two words) → data sheet. TPU v5 is v5p, "lite" is e."""


def chip_of(device_kind: str) -> Chip | None:
    """The data sheet of a device; None if CHIPS has none, as for CPUs."""
    beginning = " ".join(device_kind.split()[:2])
    return CHIPS.get(device_kind) or (CHIPS.get(beginning) if "NVIDIA" in beginning else None)
