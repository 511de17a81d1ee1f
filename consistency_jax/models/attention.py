"""Who sees whom in a row of token trees, and the attention that obeys it.

A row holds several trees, each a trunk (branch 0) and K branches. The token at column t sees the key at s iff

    s <= t   and   tree[s] == tree[t]   and   branch[s] in (0, branch[t])
    [and position[t] - position[s] < window, in sliding layers]

Padding is tree 0 and sees earlier padding by the same rule. So every token sees at least itself, no softmax
runs over nothing, and no real token ever sees padding. Einsum letters: R rows, T query, S key, K kv heads,
G query heads per kv head, H head dim.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

HIDDEN = -1e30  # added to the logit of a key that must not be seen: exp() of it is exactly 0 in float32


def tree_mask(
    positions: jax.Array, tree: jax.Array, branch: jax.Array, window: int | None = None
) -> jax.Array:
    """The mask of the rows: bool[R, T, S], True where the token at T sees the key at S.

    Args:
      positions, tree, branch: i32[R, T], see `data/packing.py`.
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


def mask_bias(mask: jax.Array) -> jax.Array:
    """f32 of the mask's shape to add to attention logits: 0 where seen, a huge negative number elsewhere."""
    return jnp.where(mask, jnp.float32(0), jnp.float32(HIDDEN))


def soft_cap(x: jax.Array, cap: float | None) -> jax.Array:
    """cap * tanh(x / cap); x where cap is None."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def _xla(query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array, cap: float | None) -> jax.Array:
    rows, length, heads, head_dim = query.shape
    kv_heads = key.shape[2]
    group = heads // kv_heads
    # Laid out as plain batched products (R, K) x [G * T, H] x [H, S] before they are taken: on CPU that is 1.5
    # times as fast as einsums that leave the transposes to the product, and the keys are never repeated.
    query = query.reshape(rows, length, kv_heads, group, head_dim).transpose(0, 2, 3, 1, 4)
    query = query.reshape(rows, kv_heads, group * length, head_dim)
    key, value = key.transpose(0, 2, 3, 1), value.transpose(0, 2, 1, 3)
    logits = jnp.matmul(query, key, preferred_element_type=jnp.float32)
    logits = soft_cap(logits, cap).reshape(rows, kv_heads, group, length, length) + bias[:, None, None]
    # The softmax divides at the end, H numbers a query instead of S.
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    weights = weights.astype(value.dtype).reshape(rows, kv_heads, group * length, length)
    out = jnp.matmul(weights, value, preferred_element_type=jnp.float32)
    out = out.reshape(rows, kv_heads, group, length, head_dim) / total
    return out.astype(value.dtype).transpose(0, 3, 1, 2, 4).reshape(rows, length, heads, head_dim)


BACKENDS: dict[str, Callable[..., jax.Array]] = {"xla": _xla}


def check_backend(name: str) -> None:
    """ValueError naming the known backends where `name` is not one of them."""
    if name != "auto" and name not in BACKENDS:
        raise ValueError(f"unknown attention backend {name!r}; known: {', '.join(['auto', *BACKENDS])}")


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array,
    *,
    cap: float | None = None,
    backend: str = "auto",
) -> jax.Array:
    """Grouped-query attention with a float32 softmax; the queries are already scaled.

    Args:
      query: [R, T, N, H]; key, value: [R, S, K, H] with N a multiple of K.
      bias: f32[R, T, S], from `mask_bias`.
      cap: soft cap of the logits, before the mask.
      backend: a name of `BACKENDS`, or "auto" (the best one here).

    Returns: [R, T, N, H] in the dtype of `value`.
    """
    check_backend(backend)
    return BACKENDS["xla" if backend == "auto" else backend](query, key, value, bias, cap)
