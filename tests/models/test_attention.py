"""The attention backends compute one thing, and each is chosen where it can run."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_problems import (
    HEAD_DIM,
    HEADS,
    KV_HEADS,
    abstract_mesh,
    backend_outcome,
    check_same,
    outcome,
    rows,
)

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.data.packing.attention_blocks import BlockSizes, make_blocks
from consistency_jax.errors import ConfigError
from consistency_jax.models import attention
from consistency_jax.models.attention import (
    BACKENDS,
    Problem,
    attend,
    block_tables,
    choose_backend,
    mask_bias,
    obstacle,
    tree_mask,
)
from consistency_jax.runtime.mesh import RULES


def test_cudnn_mask_and_scale_equal_xla() -> None:
    """cuDNN itself needs a GPU; the same function of JAX in plain XLA takes the same arguments."""
    row = rows(96)
    mask = tree_mask(row["positions"], row["tree"], row["branch"], 7)
    prepared = BACKENDS["cudnn"].prepare(mask)

    def run(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return attention._cudnn(query, key, value, prepared, None, implementation="xla")

    check_same(outcome(run, mask), backend_outcome("xla", mask, None))


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs an NVIDIA GPU")
def test_cudnn_equals_xla() -> None:
    row = rows(512)
    mask = tree_mask(row["positions"], row["tree"], row["branch"], 30)
    problem = Problem(2, 512, HEADS, KV_HEADS, HEAD_DIM, "bfloat16")
    assert choose_backend("auto", problem) == "cudnn"
    mine, other = (backend_outcome(name, mask, None, "bfloat16") for name in ("cudnn", "xla"))
    check_same(mine, other, forward=0.05, backward=0.2)  # 8 bits of mantissa


@pytest.mark.parametrize(("window", "cap"), [(None, None), (7, 3.0)])
def test_blocks_equal_xla(window: int | None, cap: float | None) -> None:
    row = rows(160)
    positions, tree, branch = row["positions"], row["tree"], row["branch"]
    mask = tree_mask(positions, tree, branch, window)
    sizes = BlockSizes(8, ((10, 48), (40, 40), (100, 24)))
    tables = block_tables(positions, make_blocks(np.asarray(tree), np.asarray(branch), sizes), window)

    def real(run: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        # Padding holds anything: nobody sees it, and no gradient comes from it.
        return lambda *arrays: jnp.where(tree[..., None, None] > 0, run(*arrays), 0)

    mine, other = (
        outcome(real(functools.partial(attend, mask=how, cap=cap)), mask) for how in (tables, mask_bias(mask))
    )
    check_same(mine, other)


@pytest.mark.parametrize(
    ("length", "window", "cap", "dtype"),
    [
        (160, None, None, "float32"),
        (333, 7, 3.0, "float32"),
        (1000, None, None, "float32"),
        (333, 30, 3.0, "bfloat16"),
    ],
)
def test_chunks_of_queries_equal_the_whole(length: int, window: int | None, cap: float | None, dtype: str):
    row = rows(length)
    bias = mask_bias(tree_mask(row["positions"], row["tree"], row["branch"], window))
    assert len(attention._chunks(length)) == min(length // 80, 8)
    runs = (attention._chunked, attention._xla)
    mine, other = (outcome(lambda *qkv, run=run: run(*qkv, bias, cap), bias, dtype) for run in runs)
    check_same(mine, other, *((0.05, 0.2) if dtype == "bfloat16" else ()))  # 8 bits of mantissa


def test_only_long_rows_of_low_precision_on_cpu_are_chunked() -> None:
    def chunked(length: int, platform: str, dtype: str = "bfloat16") -> bool:
        one = jnp.zeros((2, length, 2, 8), dtype)
        with jax.sharding.use_abstract_mesh(abstract_mesh(2, 1, 1, platform=platform)):
            program = jax.make_jaxpr(
                lambda x: attention._dense(x, x, x, jnp.zeros((2, length, length)), None)
            )
            return "custom_vjp" in str(program(one))

    assert chunked(160, "cpu")
    assert not chunked(159, "cpu")
    assert not chunked(160, "cpu", "float32")
    assert not chunked(2048, "tpu")
    assert not chunked(2048, "gpu")


PROBLEM = Problem(8, 2048, 16, 8, 128, "bfloat16")


@pytest.mark.parametrize(
    ("platform", "capability", "changes", "chosen"),
    [
        ("cpu", 0.0, {}, "xla"),
        ("tpu", 0.0, {}, "splash"),
        ("tpu", 0.0, {"cap": 50.0, "dtype": "float32", "head_dim": 256}, "splash"),
        ("tpu", 0.0, {"length": 1016}, "xla"),
        ("tpu", 0.0, {"dtype": "float16"}, "xla"),
        ("tpu", 0.0, {"kv_heads": 1, "heads": 7}, "xla"),
        ("tpu", 0.0, {"rows": 6}, "xla"),
        ("gpu", 9.0, {}, "cudnn"),
        ("gpu", 9.0, {"head_dim": 256}, "cudnn"),
        ("gpu", 8.0, {"head_dim": 256}, "xla"),
        ("gpu", 7.5, {}, "xla"),
        ("gpu", 9.0, {"cap": 50.0}, "xla"),
        ("gpu", 9.0, {"dtype": "float32"}, "xla"),
        ("gpu", 9.0, {"length": 2047}, "xla"),
        ("gpu", 9.0, {"head_dim": 100}, "xla"),
    ],
)
def test_auto_takes_the_kernel_where_it_runs(
    platform: str, capability: float, changes: dict, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_compute_capability", lambda: capability)
    problem = dataclasses.replace(PROBLEM, **changes)
    mesh = abstract_mesh(2, 2, 2, platform=platform)
    with jax.sharding.use_abstract_mesh(mesh), nn.logical_axis_rules(RULES):
        assert choose_backend("auto", problem) == chosen
        named = {"tpu": "splash", "gpu": "cudnn"}.get(platform, "xla")
        short = problem.length < attention.SPLASH_LENGTH  # a question of speed, not of what can run
        if chosen == named or short:
            assert choose_backend(named, problem) == named
        else:
            with pytest.raises(ValueError, match=f"backend '{named}' cannot be used here: .*; choose auto"):
                choose_backend(named, problem)


def test_a_backend_asked_for_by_name_says_what_stands_in_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'cudnn' cannot be used here: it runs on NVIDIA GPUs"):
        choose_backend("cudnn", PROBLEM)
    with jax.sharding.use_abstract_mesh(abstract_mesh(1, 1, 1, platform="gpu")):
        assert obstacle("splash", PROBLEM) == "it runs on TPU"
        monkeypatch.setattr(attention, "_compute_capability", lambda: 8.6)
        odd = dataclasses.replace(PROBLEM, length=2047)
        assert obstacle("cudnn", odd) == "rows of 2047 tokens: their number must be even"
        assert "soft cap" in str(obstacle("cudnn", dataclasses.replace(PROBLEM, cap=30.0)))
    config = default()
    config.model.path = "somewhere"
    config.model.attention = "flash"
    with pytest.raises(ConfigError, match="model.attention='flash' is unknown.*auto, xla, splash, cudnn"):
        validate(config)
