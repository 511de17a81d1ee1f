"""Rows full of random trees, what attention makes of them, and a small decoder with windows."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from consistency_jax.models.attention import BACKENDS, attend
from consistency_jax.models.decoder import DecoderConfig, LayerType
from consistency_jax.models.rotary import Rope

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


def abstract_mesh(*sizes: int, platform: str = "tpu") -> AbstractMesh:
    device = AbstractDevice(device_kind="any", num_cores=1, platform=platform)
    kinds = (AxisType.Auto,) * 3
    return AbstractMesh(sizes, ("data", "fsdp", "tensor"), axis_types=kinds, abstract_device=device)
