"""Splash attention on TPU: blocks of the tree mask that hold nothing are skipped, logits never reach memory.

The kernel is JAX's own (`jax.experimental.pallas.ops.tpu.splash_attention`). Its usual masks are constants of the
program, or runs of segments, and neither can say which branch sees which. So the mask of every row is handed over
as data, cut into square blocks: an empty block is skipped, a full one is not masked, any other is read. Trees lie
next to each other in a row, so most blocks off the diagonal are empty.

Rows are run one after the other (the kernel's table of blocks is one row's); heads of a row share its table.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask_info as mask_info

LANES = 128  # the width of a TPU register: rows are padded to a multiple of it
LARGEST_BLOCK = 512  # tokens

Blocks = tuple[mask_info.MaskInfo, mask_info.MaskInfo]  # for the passes by query block, and by key block


def block_size(length: int) -> int:
    """The side of a block: the largest multiple of 128 up to 512 that divides the padded row."""
    lanes = -(-length // LANES)
    return LANES * max(n for n in range(1, LARGEST_BLOCK // LANES + 1) if lanes % n == 0)


def cut_mask(mask: jax.Array) -> Blocks:
    """What `attend` needs of a mask, made once for all layers.

    Args:
      mask: bool[R, T, T], on the diagonal True.

    Returns: tables with a leading axis R.
    """
    padding = -mask.shape[-1] % LANES
    mask = jnp.pad(mask, ((0, 0), (0, padding), (0, padding)))
    # A padded token sees nothing. Its block is not skipped, for it holds real tokens too (the padding is shorter than
    # a block): so it gets the mean of some values, finite, and passes no gradient on.
    block = block_size(mask.shape[-1])

    def cut(mask: jax.Array) -> Blocks:
        by_query, _ = mask_info.process_dynamic_mask(mask[None], (block, block))
        by_key, _ = mask_info.process_dynamic_mask_dkv(mask[None], (block, block))
        return by_query._replace(is_dynamic_mask=None), by_key._replace(is_dynamic_mask=None)

    return jax.vmap(cut)(mask)


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, blocks: Blocks, cap: float | None, interpret: bool
) -> jax.Array:
    """Attention of rows that lie whole on one device.

    Args:
      query: [R, T, N, H], scaled; key, value: [R, T, K, H] with N a multiple of K; float32 or bfloat16.
      blocks: from `cut_mask`.
      cap: soft cap of the logits.
      interpret: run the kernel as plain XLA operations, for tests where there is no TPU.

    Returns: [R, T, N, H].
    """
    length = query.shape[1]
    block = block_size(length)
    padding = -length % LANES
    sizes = kernel.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )

    def one_row(query: jax.Array, key: jax.Array, value: jax.Array, blocks: Blocks) -> jax.Array:
        by_query, by_key = blocks
        run = kernel.SplashAttentionKernel(
            by_query,
            by_query,
            by_key,
            block_sizes=sizes,
            is_mqa=False,
            save_residuals=False,
            mask_value=kernel.DEFAULT_MASK_VALUE,
            attn_logits_soft_cap=cap,
            residual_checkpoint_name=None,
            mask_function=None,
            interpret=interpret,
        )
        return run(query, key, value)

    def heads_first(x: jax.Array) -> jax.Array:
        return jnp.pad(x, ((0, 0), (0, padding), (0, 0), (0, 0))).transpose(0, 2, 1, 3)

    out = jax.vmap(one_row)(heads_first(query), heads_first(key), heads_first(value), blocks)
    return out.transpose(0, 2, 1, 3)[:, :length]
