"""Chips by their data sheets: rates, and the roofline that follows."""

import re
from types import SimpleNamespace

import pytest

from consistency_jax.errors import ConfigError
from consistency_jax.runtime.chips import CHIPS, GIB, chip_of, peak_flops


def test_the_roofline_is_bytes_and_flops_over_rates():
    chip = CHIPS["v5e"]
    seconds = chip.seconds(flops=1.97e12, memory_bytes=8.19e9, network_bytes=4e9)
    assert seconds == pytest.approx(
        {"compute": 0.01, "memory": 0.01, "network": 0.02, "overlapped": 0.02, "serial": 0.04}
    )


def test_rates_are_those_of_a_device_and_chips_of_two_cores_are_two():
    # Cloud TPU documentation: v4 275 TFLOP/s, 32 GiB and 1228 GB/s a chip; v6e 918 TFLOP/s and 32 GiB a chip.
    v4, v6e = chip_of("v4:2x2x1"), chip_of("v6e:2x2")
    assert (v4.devices, v4.devices * v4.flops, v4.devices * v4.memory_rate) == (2, 275e12, 1228e9)
    assert (v6e.devices, v6e.flops) == (1, 918e12)
    for chip in CHIPS.values():
        sheet = {"v4": 32, "v5e": 16, "v5p": 96, "v6e": 32, "tpu7x": 192}[chip.name] * GIB / chip.devices
        assert 0.95 * sheet < chip.memory < sheet  # what the compiler keeps for itself is a little


@pytest.mark.parametrize("name", ["gpu", "h100:8", "v5e", "v5e:4xfour"])
def test_what_is_no_slice_is_told(name):
    with pytest.raises(ConfigError, match=re.escape(repr(name)) + r".*v5e:4x4.*GPU"):
        chip_of(name)


def device(kind: str, platform: str, cores: int = 1) -> SimpleNamespace:
    """One of the devices of a host with two chips, each of which JAX sees as so many devices."""
    client = SimpleNamespace(devices=lambda: devices)
    devices = [
        SimpleNamespace(device_kind=kind, platform=platform, coords=[chip, 0, 0], client=client)
        for chip in range(2)
        for _ in range(cores)
    ]
    return devices[0]


@pytest.mark.parametrize(
    ("kind", "platform", "cores", "tflops"),
    [  # dense bfloat16 by the data sheets
        ("TPU v4", "tpu", 1, 275),
        ("TPU v4", "tpu", 2, 137.5),
        ("TPU v5 lite", "tpu", 1, 197),
        ("TPU v5", "tpu", 1, 459),
        ("TPU v5p", "tpu", 1, 459),
        ("TPU v6 lite", "tpu", 1, 918),
        ("TPU7x", "tpu", 2, 1153.5),
        ("NVIDIA A100-SXM4-80GB", "gpu", 1, 312),
        ("NVIDIA H100 80GB HBM3", "gpu", 1, 989),
        ("NVIDIA H100 PCIe", "gpu", 1, 756),
        ("NVIDIA H100 NVL", "gpu", 1, 835),
        ("NVIDIA H200", "gpu", 1, 989),
    ],
)
def test_a_devices_peak_is_its_data_sheets(kind, platform, cores, tflops):
    assert peak_flops(device(kind, platform, cores)) == tflops * 1e12


@pytest.mark.parametrize(("kind", "platform"), [("cpu", "cpu"), ("TPU v9", "tpu"), ("NVIDIA L4", "gpu")])
def test_of_others_no_peak_is_known(kind, platform):
    assert peak_flops(device(kind, platform)) is None
