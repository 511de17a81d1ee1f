"""Who sees whom in a row of token trees, and the attention that obeys it.

A row holds several trees, each a trunk (branch 0) and K branches. The token at column t sees the key at s iff

    s <= t   and   tree[s] == tree[t]   and   branch[s] in (0, branch[t])
    [and position[t] - position[s] < window, in sliding layers]

Padding is tree 0 and sees earlier padding by the same rule. So every token sees at least itself, no softmax
runs over nothing, and no real token ever sees padding.

Three backends compute the same thing, each the same mask to float32 rounding:

    xla      plain matrix products, anywhere; long rows in low precision on CPU in chunks of queries
    splash   a TPU kernel that skips what no token sees (`splash.py`)
    cudnn    cuDNN's flash attention, on NVIDIA GPUs
    auto     splash or cudnn where it runs and should pay (`choose_backend`), otherwise xla

Where a batch comes with blocks (data/packing/attention_blocks.py), xla goes by them, and makes no product that the mask
would hide.

Letters: R rows, T query, S key, N query heads, K kv heads, G query heads per kv head, H head dim.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from consistency_jax.data.packing.attention_blocks import QueryBlocks
from consistency_jax.errors import ConfigError
from consistency_jax.models import splash
from consistency_jax.models.projection import LOW, stacked_gradient, stacked_product


class Columns(NamedTuple):
    """What the columns of rows hold, beside tokens; see data/packing/rows.py."""

    positions: jax.Array  # i32[R, S]
    tree: jax.Array  # i32[R, S], 0: nothing
    branch: jax.Array  # i32[R, S]


HIDDEN = -1e30  # added to the logit of a key that must not be seen: exp() of it is exactly 0 in float32


def tree_mask(
    positions: jax.Array, tree: jax.Array, branch: jax.Array, window: int | None = None
) -> jax.Array:
    """The mask of the rows: bool[R, T, S], True where the token at T sees the key at S.

    Args:
      positions, tree, branch: i32[R, T], see `data/packing/rows.py`.
      window: in positions (a token sees itself and the window - 1 positions before it); None: no limit.
    """
    length = tree.shape[1]
    columns = jnp.arange(length)
    seen = columns[:, None] >= columns[None, :]
    seen = seen & (tree[:, :, None] == tree[:, None, :])
    key_branch = branch[:, None, :]
    seen = seen & ((key_branch == 0) | (key_branch == branch[:, :, None]))
    if window is not None:
        seen = seen & (positions[:, :, None] - positions[:, None, :] < window)
    return seen


def cached_mask(
    positions: jax.Array, tree: jax.Array, branch: jax.Array, keys: Columns, window: int | None = None
) -> jax.Array:
    """The same rule for keys that all stand before the queries, in columns of their own: bool[R, T, S].

    Args:
      positions, tree, branch: i32[R, T], of the queries.
      keys: i32[R, S] each; an empty column is tree 0.
    """
    seen = tree[:, :, None] == keys.tree[:, None, :]
    seen = seen & (keys.tree[:, None, :] > 0)
    key_branch = keys.branch[:, None, :]
    seen = seen & ((key_branch == 0) | (key_branch == branch[:, :, None]))
    if window is not None:
        seen = seen & (positions[:, :, None] - keys.positions[:, None, :] < window)
    return seen


def mask_bias(mask: jax.Array) -> jax.Array:
    """f32 of the mask's shape to add to attention logits: 0 where seen, a huge negative number elsewhere."""
    return jnp.where(mask, jnp.float32(0), jnp.float32(HIDDEN))


def soft_cap(x: jax.Array, cap: float | None) -> jax.Array:
    """cap * tanh(x / cap); x where cap is None."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def _by_kv_head(x: jax.Array, kv_heads: int) -> jax.Array:
    """[R, T, N, H] -> [R, K, G, T, H]."""
    rows, length, heads, head_dim = x.shape
    return x.reshape(rows, length, kv_heads, heads // kv_heads, head_dim).transpose(0, 2, 3, 1, 4)


def _by_token(x: jax.Array) -> jax.Array:
    """[R, K, G, T, H] -> [R, T, N, H]."""
    return x.transpose(0, 3, 1, 2, 4).reshape(x.shape[0], x.shape[3], -1, x.shape[4])


def _grouped(x: jax.Array) -> jax.Array:
    """[R, K, G, T, H] -> [R, K, G * T, H]; as well with S in the place of H."""
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def _xla(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array,
    cap: float | None,
    cached: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    rows, length, heads, head_dim = query.shape
    kv_heads = key.shape[2]
    group = heads // kv_heads
    # Laid out as plain batched products (R, K) x [G * T, H] x [H, S] before they are taken: on CPU that is 1.5
    # times as fast as einsums that leave the transposes to the product, and the keys are never repeated.
    query = _grouped(_by_kv_head(query, kv_heads))
    key, value = key.transpose(0, 2, 3, 1), value.transpose(0, 2, 1, 3)
    logits = jnp.matmul(query, key, preferred_element_type=jnp.float32)
    if cached is not None:
        before = jnp.einsum("RKTH,RKSH->RKTS", query, cached[0], preferred_element_type=jnp.float32)
        logits = jnp.concatenate([before, logits], axis=-1)
    logits = soft_cap(logits, cap).reshape(rows, kv_heads, group, length, -1) + bias[:, None, None]
    # The softmax divides at the end, H numbers a query instead of S.
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    weights = weights.astype(value.dtype).reshape(rows, kv_heads, group * length, -1)
    own = weights if cached is None else weights[..., -length:]
    out = jnp.matmul(own, value, preferred_element_type=jnp.float32)
    if cached is not None:
        out = out + jnp.matmul(weights[..., :-length], cached[1], preferred_element_type=jnp.float32)
    out = out.reshape(rows, kv_heads, group, length, head_dim) / total
    return _by_token(out.astype(value.dtype))


CHUNK = 80  # queries at a time on CPU, at least; measured with 8 heads of 64, rows of 160 to 640 tokens
CHUNKS = 8  # at most: each is compiled


def _chunks(length: int) -> list[slice]:
    count = min(max(length // CHUNK, 1), CHUNKS)
    size = -(-length // count)
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def _dense(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array, cap: float | None
) -> jax.Array:
    """On CPU long rows in low precision are taken chunk by chunk: left whole, the backward products mix types, and miss
    the fast unit. Keys behind a chunk are left out, and the backward pass makes logits anew instead of reading what the
    forward pass has written. (In float32 that was no faster.)"""
    length, keys = bias.shape[1:]
    if query.dtype in LOW and platform() == "cpu" and length == keys and len(_chunks(length)) > 1:
        return _chunked(query, key, value, bias, cap)
    return _xla(query, key, value, bias, cap)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _chunked(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array, cap: float | None
) -> jax.Array:
    return _chunked_forward(query, key, value, bias, cap)[0]


def _chunk_logits(
    query: jax.Array, key: jax.Array, bias: jax.Array, cap: float | None
) -> tuple[jax.Array, jax.Array]:
    """query [R, K, G, T, H], key [R, K, S, H], bias f32[R, T, S] -> capped logits, and those with the bias."""
    capped = soft_cap(stacked_product(_grouped(query), key, 3), cap).reshape(*query.shape[:4], key.shape[2])
    return capped, capped + bias[:, None, None]


def _chunked_forward(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array, cap: float | None
) -> tuple[jax.Array, tuple[Any, ...]]:
    query, key, value = _by_kv_head(query, key.shape[2]), key.swapaxes(1, 2), value.swapaxes(1, 2)
    outs, log_totals = [], []
    for own in _chunks(query.shape[3]):
        part, seen = query[:, :, :, own], slice(own.stop)
        _, logits = _chunk_logits(part, key[:, :, seen], bias[:, own, seen], cap)
        most = logits.max(-1, keepdims=True)
        weights = jnp.exp(logits - most)
        total = weights.sum(-1, keepdims=True)
        out = stacked_product(_grouped(weights.astype(value.dtype)), value[:, :, seen], 2)
        outs.append((out.reshape(part.shape) / total).astype(value.dtype))
        log_totals.append(most + jnp.log(total))
    out = jnp.concatenate(outs, axis=3)
    return _by_token(out), (query, key, value, bias, out, log_totals)


def _chunked_backward(
    cap: float | None, saved: tuple[Any, ...], g: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    query, key, value, bias, out, log_totals = saved
    g = _by_kv_head(g, key.shape[1])
    # Of the softmax's gradient what all keys share: sum over keys of weight x (g . value) is g . out.
    shared = (g.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1, keepdims=True)
    d_query = []
    d_key, d_value = jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)
    for own, log_total in zip(_chunks(query.shape[3]), log_totals, strict=True):
        part, g_part, seen = query[:, :, :, own], g[:, :, :, own], slice(own.stop)
        capped, logits = _chunk_logits(part, key[:, :, seen], bias[:, own, seen], cap)
        weights = jnp.exp(logits - log_total)
        through = stacked_product(_grouped(g_part), value[:, :, seen], 3).reshape(weights.shape)
        d_logits = weights * (through - shared[:, :, :, own])
        if cap is not None:
            d_logits = d_logits * (1 - (capped / cap) ** 2)
        weights, d_logits = (_grouped(x.astype(query.dtype)) for x in (weights, d_logits))
        d_query.append(stacked_product(d_logits, key[:, :, seen], 2).reshape(part.shape).astype(query.dtype))
        d_key = d_key.at[:, :, seen].add(stacked_gradient(_grouped(part), d_logits))
        d_value = d_value.at[:, :, seen].add(stacked_gradient(_grouped(g_part), weights))
    d_key, d_value = (d.swapaxes(1, 2).astype(key.dtype) for d in (d_key, d_value))
    return _by_token(jnp.concatenate(d_query, axis=3)), d_key, d_value, jnp.zeros_like(bias)


_chunked.defvjp(_chunked_forward, _chunked_backward)


def _splash(
    query: jax.Array, key: jax.Array, value: jax.Array, blocks: splash.Blocks, cap: float | None
) -> jax.Array:
    return splash.attend(query, key, value, blocks, cap, interpret=platform() != "tpu")


def _cudnn(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    cap: float | None,
    implementation: str = "cudnn",
) -> jax.Array:
    assert cap is None  # `obstacle` has said so
    return jax.nn.dot_product_attention(
        query, key, value, mask=mask[:, None], scale=1.0, implementation=implementation
    )


class BlockTables(NamedTuple):
    """Blocks of queries and their keys (data/packing), and what to add to the logits of each width."""

    blocks: QueryBlocks
    bias: tuple[jax.Array, ...]  # f32[blocks, W, S]


def block_tables(positions: jax.Array, blocks: QueryBlocks, window: int | None = None) -> BlockTables:
    """What attention by blocks needs of rows, made once for all layers.

    Args:
      positions: i32[R, T].
      blocks: of these rows; they list no key of another tree or branch.
      window: as in `tree_mask`.
    """
    positions = positions.reshape(-1)

    def bias(queries: jax.Array, keys: jax.Array) -> jax.Array:
        queries, keys = queries[:, :, None], keys[:, None, :]
        seen = (keys >= 0) & (keys <= queries)
        if window is not None:
            seen = seen & (_gathered(positions, queries) - _gathered(positions, keys) < window)
        return mask_bias(seen)

    return BlockTables(blocks, tuple(bias(*part) for part in _by_width(blocks)))


def _by_width(blocks: QueryBlocks) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Queries and keys of the blocks of each width."""
    first = 0
    for keys in blocks.keys:
        yield blocks.queries[first : first + len(keys)], keys
        first += len(keys)


def _gathered(x: jax.Array, places: jax.Array) -> jax.Array:
    """x [P, ...] at its places; anything where the place is none."""
    return jnp.take(x, places, axis=0, mode="clip")


def _by_blocks(
    query: jax.Array, key: jax.Array, value: jax.Array, tables: BlockTables, cap: float | None
) -> jax.Array:
    # Whole tokens are gathered, all heads of one together.
    flat = [x.reshape(-1, x.shape[2] * x.shape[3]) for x in (query, key, value)]

    def attended(queries: jax.Array, keys: jax.Array, bias: jax.Array) -> jax.Array:
        taken = [_gathered(x, places) for x, places in zip(flat, (queries, keys, keys), strict=True)]
        taken = [x.reshape(*x.shape[:2], *whole.shape[2:]) for x, whole in zip(taken, (query, key, value))]
        return _xla(*taken, bias, cap).reshape(-1, flat[0].shape[1])

    parts = [attended(*part, bias) for part, bias in zip(_by_width(tables.blocks), tables.bias)]
    return _gathered(jnp.concatenate(parts), tables.blocks.home).reshape(query.shape)


class Backend(NamedTuple):
    """How one backend takes the mask bool[R, T, S], once for all layers, and how it attends."""

    prepare: Callable[[jax.Array], Any]  # -> arrays with a leading axis R
    attend: Callable[..., jax.Array]  # (query, key, value, what `prepare` gave, cap) -> [R, T, N, H]


BACKENDS = {
    "xla": Backend(mask_bias, _dense),
    "splash": Backend(splash.cut_mask, _splash),
    "cudnn": Backend(lambda mask: mask, _cudnn),
}
CHOICES = ("auto", *BACKENDS)
SPLASH_LENGTH = 1024


def check_backend(name: str) -> None:
    """ValueError naming the known backends where `name` is not one of them."""
    if name not in CHOICES:
        raise ValueError(f"unknown attention backend {name!r}; known: {', '.join(CHOICES)}")


@dataclasses.dataclass(frozen=True)
class Problem:
    """The static facts that decide which backends can run; sizes are those of the whole batch."""

    rows: int
    length: int
    heads: int
    kv_heads: int
    head_dim: int
    dtype: str
    cap: float | None = None


def platform() -> str:
    """ "cpu", "gpu" or "tpu": of the mesh that the program is traced for, which need not be attached to this host;
    the default device's where no mesh is set."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def _compute_capability() -> float:
    """CUDA's, of the first device here; 0.0 where that is no NVIDIA GPU."""
    try:
        return float(getattr(jax.devices()[0], "compute_capability", 0.0))
    except ValueError:  # other makers' GPUs have names there
        return 0.0


def _specs() -> tuple[PartitionSpec, PartitionSpec]:
    """How queries [R, T, N, H] and keys [R, S, K, H] are split over the mesh."""
    return (
        nn.logical_to_mesh_axes(("rows", "length", "activation_heads", "head_dim")),
        nn.logical_to_mesh_axes(("rows", "length", "activation_kv_heads", "head_dim")),
    )


def _uneven(problem: Problem) -> str | None:
    """Which axis does not divide evenly over the mesh, as a kernel that runs on each shard needs; None: all do."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return "several devices and no mesh (trace it inside `on_mesh`)" if jax.device_count() > 1 else None
    queries, keys = _specs()
    split = {"rows": queries[0], "heads": queries[2], "kv_heads": keys[2]}
    for name, axes in split.items():
        axes = (axes,) if isinstance(axes, str) else axes or ()
        parts = math.prod(mesh.shape[axis] for axis in axes)
        if getattr(problem, name) % parts:
            return f"{name} = {getattr(problem, name)} does not divide over {parts} parts of the mesh"
    return None


def obstacle(name: str, problem: Problem) -> str | None:
    """Why that backend cannot run the problem where it is traced for; None where it can.

    splash: TPU (interpreted on CPU, for tests); float32 or bfloat16. Rows are padded to a multiple of 128 tokens.
    cudnn: NVIDIA GPUs from compute capability 8.0; float16 or bfloat16; no soft cap; rows of even length; a head
    dimension that is a multiple of 8, at most 128 (256 from capability 9.0).
    Both: rows and heads divide evenly over the mesh. xla: always.
    """
    if name == "splash":
        if platform() == "gpu":
            return "it runs on TPU"
        if problem.dtype not in ("float32", "bfloat16"):
            return f"dtype {problem.dtype} is neither float32 nor bfloat16"
    if name == "cudnn":
        capability = _compute_capability() if platform() == "gpu" else 0.0
        if capability < 8.0:
            return "it runs on NVIDIA GPUs of compute capability 8.0 or more"
        if problem.dtype not in ("float16", "bfloat16"):
            return f"dtype {problem.dtype} is neither float16 nor bfloat16"
        if problem.cap is not None:
            return "it has no soft cap of the logits"
        if problem.length % 2:
            return f"rows of {problem.length} tokens: their number must be even"
        widest = 256 if capability >= 9.0 else 128
        if problem.head_dim % 8 or problem.head_dim > widest:
            return f"head_dim = {problem.head_dim} is no multiple of 8 up to {widest}"
    return None if name == "xla" else _uneven(problem)


def choose_backend(name: str, problem: Problem) -> str:
    """The name of the backend to run, never "auto".

    "auto" takes cudnn on GPU and splash on TPU where nothing stands in the way, splash only for rows of at least
    1024 tokens: compiled for TPU v5e, the xla backend holds the logits of 264 tokens on the chip, of 512 mostly, and
    writes gigabytes from 1024 on. (That is the compiler's account of memory; the two have not been timed.)

    Raises:
      ConfigError: a backend asked for by name that cannot run the problem; says why.
    """
    check_backend(name)
    if name == "auto":
        best = {"tpu": "splash", "gpu": "cudnn"}.get(platform(), "xla")
        if best == "splash" and problem.length < SPLASH_LENGTH or obstacle(best, problem):
            return "xla"
        return best
    reason = obstacle(name, problem)
    if reason:
        raise ConfigError(f"attention backend {name!r} cannot be used here: {reason}; choose auto or xla")
    return name


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: Any,
    *,
    cap: float | None = None,
    backend: str = "xla",
    cached: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Grouped-query attention with a float32 softmax; the queries are already scaled.

    Args:
      query: [R, T, N, H]; key, value: [R, S, K, H] with N a multiple of K.
      mask: what the backend's `prepare` made of bool[R, T, S]; or `block_tables`, backend "xla" only.
      cap: soft cap of the logits, before the mask.
      backend: a name of `BACKENDS`, from `choose_backend`.
      cached: keys and values [R, K, C, H] of columns before these (backend "xla" only; the mask is bool[R, T, C + S]).

    Returns: [R, T, N, H] in the dtype of `value`.
    """
    if cached is not None:
        return _xla(query, key, value, mask, cap, cached)
    if isinstance(mask, BlockTables):
        return _by_blocks(query, key, value, mask, cap)

    def run(query: jax.Array, key: jax.Array, value: jax.Array, mask: Any) -> jax.Array:
        return BACKENDS[backend].attend(query, key, value, mask, cap)

    if backend != "xla" and not jax.sharding.get_abstract_mesh().empty:
        # The compiler cannot split a kernel: each device runs it on its own rows and heads.
        queries, keys = _specs()
        rows = PartitionSpec(queries[0])
        run = jax.shard_map(run, in_specs=(queries, keys, keys, rows), out_specs=queries, check_vma=False)
    return run(query, key, value, mask)
