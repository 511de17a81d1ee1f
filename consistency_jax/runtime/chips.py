"""Accelerators as their data sheets give them, and the time that a program would take at the rates of a TPU chip.

Rates are for one device as JAX sees it: a core of a v4 or a tpu7x chip, a whole chip of the others. Source: the pages
of each generation in the Cloud TPU documentation (https://cloud.google.com/tpu/docs), which give peak bfloat16
FLOP/s, HBM bandwidth, and interconnect bandwidth of both directions together: half of it is what a chip can send.
`memory` is what the TPU compiler may fill: the data sheet's capacity less what it keeps for itself.

GPUs: dense bfloat16 FLOP/s of the tensor cores, half of what the data sheets give "with sparsity": NVIDIA A100 Tensor
Core GPU (https://www.nvidia.com/en-us/data-center/a100/), H100 (.../h100/: SXM, PCIe and NVL) and H200 (.../h200/).
"""

import dataclasses
import re

import jax

from consistency_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device.

    Attributes:
      name: of the generation, as topologies spell it.
      flops: bfloat16 FLOP/s, at most.
      memory: bytes of HBM that a program may use.
      memory_rate: bytes/s to and from HBM.
      network_rate: bytes/s that it can send to other chips of its slice, over all links.
      devices: JAX devices that one chip is.
    """

    name: str
    flops: float
    memory: float
    memory_rate: float
    network_rate: float
    devices: int = 1

    def seconds(self, flops: float, memory_bytes: float, network_bytes: float) -> dict[str, float]:
        """The roofline: seconds of each part, of all at once ("overlapped") and one after the other ("serial")."""
        parts = {
            "compute": flops / self.flops,
            "memory": memory_bytes / self.memory_rate,
            "network": network_bytes / self.network_rate,
        }
        return parts | {"overlapped": max(parts.values()), "serial": sum(parts.values())}


GIB = 2**30
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12 / 2, 15.25 * GIB, 1228e9 / 2, 300e9 / 2, devices=2),
        Chip("v5e", 197e12, 15.75 * GIB, 819e9, 200e9),
        Chip("v5p", 459e12, 95.74 * GIB, 2765e9, 600e9),
        Chip("v6e", 918e12, 31.25 * GIB, 1638e9, 400e9),
        Chip("tpu7x", 2307e12 / 2, 94.75 * GIB, 7380e9 / 2, 600e9 / 2, devices=2),
    )
}


def chip_of(topology: str) -> Chip:
    """The chip of "v5e:4x4"; ConfigError where the name is no TPU topology."""
    name, colon, shape = topology.partition(":")
    if name not in CHIPS or not colon or not re.fullmatch(r"[0-9]+(x[0-9]+)*", shape):
        raise ConfigError(
            f"--topology={topology!r} is no TPU slice; give generation:shape, such as v5e:4x4 or v5p:2x2x1 "
            f"(generations: {', '.join(CHIPS)}). GPUs and CPUs need no such proof: run the config on one"
        )
    return CHIPS[name]


# Parts of `device_kind`, the more special ones first; JAX spells TPU generations otherwise than topologies do.
TPU_KINDS = {
    "v4": "v4",
    "v5 lite": "v5e",
    "v5e": "v5e",
    "v5": "v5p",
    "v6 lite": "v6e",
    "v6e": "v6e",
    "7x": "tpu7x",
}
GPU_FLOPS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}


def peak_flops(device: jax.Device) -> float | None:
    """Dense bfloat16 FLOP/s of a device as JAX sees it, at most; None for a CPU and what is not known.

    Where JAX sees the two cores of a chip as one device (a v4's by default), it has the rate of both.
    """
    kind = device.device_kind
    if device.platform == "tpu":
        name = next((name for part, name in TPU_KINDS.items() if part in kind), None)
        if name is None:
            return None
        of_its_chip = sum(other.coords == device.coords for other in device.client.devices())
        return CHIPS[name].flops * CHIPS[name].devices / of_its_chip
    return next((flops for part, flops in GPU_FLOPS.items() if part in kind), None)
