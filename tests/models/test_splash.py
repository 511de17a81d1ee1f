"""Splash attention, interpreted: what plain products give; and the kernel itself lowered for TPU."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_problems import CONFIG, abstract_mesh, backend_outcome, check_same, rows
from simulated import simulated

from consistency_jax.models import splash
from consistency_jax.models.attention import tree_mask
from consistency_jax.models.decoder import Decoder, DecoderConfig, abstract_params, init_params
from consistency_jax.runtime.mesh import RULES

WORKER = Path(__file__).with_name("splash_worker.py")


# One padded block; five blocks of 128 a side; three of 384, the last one padded.
@pytest.mark.parametrize(
    ("length", "block", "window", "cap"),
    [(40, 128, 5, None), (640, 128, None, None), (1100, 384, 30, 3.0)],
)
def test_splash_equals_xla(length: int, block: int, window: int | None, cap: float | None) -> None:
    row = rows(length)
    mask = tree_mask(row["positions"], row["tree"], row["branch"], window)
    by_query, by_key = splash.cut_mask(mask)
    assert splash.block_size(length) == block
    assert by_query.partial_mask_blocks.shape[-2:] == (block, block)
    if length > block:  # some blocks below the diagonal hold nothing: they are skipped
        below = np.tril(np.ones(by_query.block_mask.shape[-2:], bool), -1)
        assert (np.asarray(by_query.block_mask)[:, 0][:, below] == 0).any()
    check_same(backend_outcome("splash", mask, cap), backend_outcome("xla", mask, cap))


def test_splash_equals_xla_in_bfloat16() -> None:
    row = rows(120)
    mask = tree_mask(row["positions"], row["tree"], row["branch"])
    mine, other = (backend_outcome(name, mask, None, "bfloat16") for name in ("splash", "xla"))
    assert mine[0].dtype == jnp.bfloat16
    check_same(mine, other, forward=0.05, backward=0.2)  # 8 bits of mantissa, on numbers up to 4 and to 16


def test_a_decoder_with_splash_equals_one_with_xla() -> None:
    row = rows(150)
    tokens = jax.random.randint(jax.random.key(1), row["tree"].shape, 0, 61)
    params = init_params(CONFIG, jax.random.key(0))

    @functools.partial(jax.jit, static_argnums=0)
    def run(config: DecoderConfig, params: dict) -> tuple[jax.Array, dict]:
        def loss(params: dict) -> jax.Array:
            states = Decoder(config).apply({"params": params}, tokens, **row)
            return jnp.mean(jnp.sin(states))

        return jax.value_and_grad(loss)(params)

    plain, splashed = (
        run(dataclasses.replace(CONFIG, attention=name, remat="dots"), params) for name in ("xla", "splash")
    )
    # float32 sums in another order, through two layers
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), plain, splashed)


def test_each_device_of_a_mesh_runs_the_kernel_on_its_rows_and_heads() -> None:
    done = subprocess.run(
        [sys.executable, str(WORKER)], env=os.environ | simulated(8), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kernel_shape"] == {
        "rows": 2,
        "heads": 2,
        "kv_heads": 1,
    }  # of 8, 4 and 2, on a 2 x 2 x 2 mesh
    assert found["loss"]["xla"] == pytest.approx(found["loss"]["splash"], abs=1e-5)
    assert found["largest_gradient"] > 0.01
    assert found["gradient_difference"] < 1e-5
    assert "kv_heads = 1 does not divide over 2 parts of the mesh" in found["uneven"]
    assert "no mesh" in found["no_mesh"]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2)])
def test_the_kernel_itself_is_lowered_for_tpu_where_the_mesh_is_of_tpus(sizes: tuple[int, ...]) -> None:
    params = abstract_params(CONFIG)
    field = jax.ShapeDtypeStruct((8, 1024), jnp.int32)

    def loss(params: dict, tokens: jax.Array) -> jax.Array:
        return jnp.sum(Decoder(CONFIG).apply({"params": params}, *[tokens] * 4))

    with jax.sharding.use_abstract_mesh(abstract_mesh(*sizes)), nn.logical_axis_rules(RULES):
        text = jax.jit(jax.grad(loss)).trace(params, field).lower(lowering_platforms=("tpu",)).as_text()
    kernels = ("splash_mha_fwd", "splash_mha_dq", "splash_mha_dkv")
    assert all(text.count(f'kernel_name = "{name}') == 1 for name in kernels)
