"""Meshes: eight simulated devices give the numbers that one device gives, and really split what they hold."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from simulated import simulated

import consistency_jax

WORKER = Path(__file__).with_name("parallel_worker.py")
MESHES = ["8x1x1", "2x4x1", "2x2x2"]


@pytest.fixture(scope="module")
def runs():
    """What each mesh gave, from a process of its own."""
    package = str(Path(consistency_jax.__file__).parents[1])  # the one under test, wherever the worker starts
    done = subprocess.run(
        [sys.executable, str(WORKER), "1x1x1", *MESHES, "lora:1x1x1", "lora:2x2x2", "nf4:1x1x1", "nf4:2x2x2"],
        env=os.environ | simulated(8) | {"PYTHONPATH": package},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # What the partitioner says where it can only copy an array to all devices to lay it out anew.
    assert "full rematerialization" not in done.stderr, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("mesh", MESHES)
def test_one_step_is_that_of_one_device(runs, mesh):
    # float32 sums in another order: 1e-5 relative to the largest entry of each parameter's gradient
    one, many = runs["1x1x1"], runs[mesh]
    np.testing.assert_allclose(many["losses"][0], one["losses"][0], rtol=1e-5)
    for name, gradient in one["gradients"].items():
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(
            many["gradients"][name], gradient, rtol=1e-5, atol=1e-5 * scale, err_msg=name
        )


@pytest.mark.parametrize("mesh", MESHES)
def test_the_loss_curve_is_that_of_one_device(runs, mesh):
    # rounding differences grow from step to step: 1e-3 over 20 steps
    np.testing.assert_allclose(runs[mesh]["losses"], runs["1x1x1"]["losses"], rtol=1e-3)


def test_parameters_and_moments_really_are_split(runs):
    whole = runs["1x1x1"]["bytes_per_device"]
    assert runs["8x1x1"]["bytes_per_device"] == [whole[0]] * 8  # data parallel: everywhere the same
    for mesh, share in (("2x4x1", 4), ("2x2x2", 4)):
        held = np.array(runs[mesh]["bytes_per_device"])
        assert len(held) == 8
        # norms are whole on every device, everything else is split
        assert (held < whole[0] / share * 1.15).all(), (mesh, held, whole)


@pytest.mark.parametrize(("mesh", "shares"), [("8x1x1", 8), ("2x4x1", 8), ("2x2x2", 4)])
def test_rows_are_split_over_the_data_and_fsdp_axes(runs, mesh, shares):
    whole, held = runs[mesh]["row_bytes"], runs[mesh]["row_bytes_per_device"]
    assert held == [whole / shares] * 8


@pytest.mark.parametrize("kind", ["lora", "nf4"])
def test_adapters_are_trained_alike_and_split(runs, kind):
    one, many = runs[f"{kind}:1x1x1"], runs[f"{kind}:2x2x2"]
    assert {name.rpartition("/")[2] for name in one["gradients"]} == {"lora_a", "lora_b"}
    np.testing.assert_allclose(many["losses"], one["losses"], rtol=1e-5)
    for name, gradient in one["gradients"].items():
        scale = np.abs(gradient).max()
        assert scale > 0
        np.testing.assert_allclose(many["gradients"][name], gradient, rtol=1e-5, atol=1e-5 * scale)
        # Adam's first step is lr * sign(gradient): rounding may turn the sign of a gradient that is nearly zero
        large = np.abs(gradient) > 1e-4 * scale
        difference = np.abs(np.subtract(many["params"][name], one["params"][name]))[large]
        assert difference.max() < 1e-6, name
    # A and B are each split over fsdp or tensor, along the axis that is not the rank
    assert max(many["bytes_per_device"]) <= one["bytes_per_device"][0] / 2 * 1.01
