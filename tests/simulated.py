"""Devices that a test simulates, for a process of its own: they must be there before JAX starts."""

import os


def simulated(devices: int) -> dict[str, str]:
    """Variables of the environment with which a process has so many CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return {"XLA_FLAGS": flags.lstrip(), "JAX_PLATFORMS": "cpu"}
