"""The attention backends compute one thing, and each is chosen where it can run."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.data.packing.attention_blocks import BlockSizes, make_blocks
from consistency_jax.errors import ConfigError
from consistency_jax.models import attention, splash
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
from consistency_jax.models.decoder import (
    Decoder,
    DecoderConfig,
    LayerType,
    abstract_params,
    init_params,
)
from consistency_jax.models.rotary import Rope
from consistency_jax.runtime.mesh import RULES

WORKER = Path(__file__).with_name("attention_worker.py")
HEADS, KV_HEADS, HEAD_DIM = 6, 2, 16


def forest(seed: int, length: int) -> dict[str, np.ndarray]:
    """A row full of random trees, trunk and then branches, the last ones padding."""
    rng = np.random.default_rng(seed)
    columns: list[tuple[int, int, int]] = []
    for number in range(1, length):
        trunk = int(rng.integers(1, 40))
        columns += [(place, number, 0) for place in range(trunk)]
        for branch in range(1, int(rng.integers(1, 5))):
            columns += [(trunk + place, number, branch) for place in range(int(rng.integers(1, 9)))]
        if len(columns) > length - 20:
            break
    table = np.zeros((length, 3), np.int32)
    table[: len(columns)] = columns[:length]
    return dict(zip(("positions", "tree", "branch"), table.T, strict=True))


def rows(length: int, count: int = 2) -> dict[str, jax.Array]:
    each = [forest(seed, length) for seed in range(count)]
    return {name: jnp.asarray(np.stack([row[name] for row in each])) for name in each[0]}


def outcome(
    run: Callable[..., jax.Array], mask: jax.Array, dtype: str = "float32"
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """What run(query, key, value) gives and its three gradients, on arrays drawn for that mask."""
    count, length, _ = mask.shape
    keys = jax.random.split(jax.random.key(0), 4)
    sizes = (HEADS, KV_HEADS, KV_HEADS, HEADS)
    query, key, value, weight = (
        jax.random.normal(k, (count, length, heads, HEAD_DIM), dtype) for k, heads in zip(keys, sizes)
    )

    def loss(query: jax.Array, key: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = run(query, key, value)
        return jnp.sum((out * weight).astype(jnp.float32)), out

    gradients, out = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(query, key, value)
    return out, gradients


def check_same(mine: tuple, other: tuple, forward: float = 1e-5, backward: float = 1e-4) -> None:
    np.testing.assert_allclose(*(np.asarray(x[0], np.float32) for x in (mine, other)), atol=forward)
    for a, b in zip(mine[1], other[1], strict=True):
        assert float(jnp.abs(a).max()) > 0.1  # there is something to compare
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=backward)


def backend_outcome(name: str, mask: jax.Array, cap: float | None, dtype: str = "float32") -> tuple:
    prepared = BACKENDS[name].prepare(mask)
    return outcome(functools.partial(attend, mask=prepared, cap=cap, backend=name), mask, dtype)


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


CONFIG = DecoderConfig(
    vocab_size=61,
    hidden=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    mlp=40,
    qk_norm="head",
    layer_types=(LayerType(9, Rope(theta=100.0)), LayerType()),
    attention_cap=5.0,
    initializer_range=0.3,
)


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
    """From a process of its own: the eight devices must be simulated before JAX starts."""
    flags = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, str(WORKER)], env=environment, capture_output=True, text=True)
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


def abstract_mesh(*sizes: int, platform: str = "tpu") -> AbstractMesh:
    device = AbstractDevice(device_kind="any", num_cores=1, platform=platform)
    kinds = (AxisType.Auto,) * 3
    return AbstractMesh(sizes, ("data", "fsdp", "tensor"), axis_types=kinds, abstract_device=device)


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
    with pytest.raises(ValueError, match="'cudnn' cannot be used here: it runs on NVIDIA GPUs"):
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
