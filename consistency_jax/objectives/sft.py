"""Supervised fine-tuning: raise the log-probability of the gold answer. Also what pretrains the embedded base model.

loss = - sum_{item, language} l(gold)  /  the number of answer tokens   ("mean": per token, as language models train)
                                       /  the number of items           ("sum":  per item, summed over languages)

`sft_all` sums over all candidates of an item instead of the gold one alone: it raises them all and needs no labels. It
is this project's reading of the published variant that trains on all four answers, which is not spelled out.
"""

import jax
import jax.numpy as jnp

from consistency_jax.runtime.keys import Key

NORMALIZATIONS = ("mean", "sum")
SFT = {"normalization": Key("mean", NORMALIZATIONS, "Mean per token, or sum per item")}


def sft(
    policy: jax.Array, *, gold: jax.Array, length: jax.Array, mask: jax.Array, normalization: str = "mean"
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The negative log-likelihood of the gold answers of B items in L languages.

    Args:
      policy: f32[B, L, K], sums of log-probabilities over the answer's tokens, nats.
      gold: i32[B], index of the gold candidate; items with -1 (unknown) take no part.
      length: i32[B, L, K], tokens behind each sum.
      mask: bool[B, L, K], the cells that exist.
      normalization: "mean" per token, or "sum" per item.

    Returns:
      The loss (a scalar, nats) and metrics: loss, items, weight (what the mean is taken over).

    Raises:
      ValueError: for an unknown normalization.
    """
    index = jnp.maximum(gold, 0)[:, None, None]
    cells = (jnp.arange(mask.shape[2]) == index) & mask & (gold >= 0)[:, None, None]
    return _nll("sft", policy, length, cells, normalization)


def sft_all(
    policy: jax.Array, *, length: jax.Array, mask: jax.Array, normalization: str = "mean"
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The negative log-likelihood of every candidate. Arguments, returns and errors are those of `sft`."""
    return _nll("sft_all", policy, length, mask, normalization)


def _nll(name, policy, length, cells, normalization) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss over these cells, bool[B, L, K]; others change neither it nor a gradient."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"{name}: normalization must be {' or '.join(NORMALIZATIONS)}, not {normalization!r}"
        )
    nll = -jnp.where(cells, policy, 0.0).sum()
    tokens = jnp.where(cells, length, 0).sum()
    items = cells.any((1, 2)).sum()
    count = tokens if normalization == "mean" else items
    loss = nll / jnp.maximum(count, 1)
    metrics = {"loss": loss, "items": items, "weight": count.astype(jnp.float32)}
    return loss, jax.tree.map(jax.lax.stop_gradient, metrics)
