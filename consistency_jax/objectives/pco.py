"""Preference-based consistency optimization (PCO) on a set of candidates, with its expectation as an exact sum.

With p_i and q_i the policy's and the reference's distributions over an item's K candidates in language i (softmax of
their log-probabilities) and beta_i = v_p / v_i for steering weights v > 0 and partner p,

    loss = mean over items  sum_i  KL(p_i || q_i) - beta_i * E_{k ~ p_i}[ log q_p(k) ]
         = mean over items  sum_i  sum_k p_i(k) (log p_i(k) - log q_i(k) - beta_i * log q_p(k))

Its optimum is p_i proportional to q_i * q_p^beta_i, which is DCO's: log p_i differs from DCO's target by a constant.

Sources: the loss is published for two languages (arXiv 2603.04678), with an expectation over all answers. The sum over
a set of candidates, where a round trip through another language is that language's table at the same index, is this
project's derivation, as is `partners="all"`: DCO's exactly consistent target over all languages (objectives/dco.py), of
the log q, in the place of log q_i + beta_i * log q_p; for two languages both are the same but for scale "one".
"""

import jax
import jax.numpy as jnp

from consistency_jax.objectives.dco import checked, log_softmax, participants, target_table


def pco_exact(
    policy: jax.Array,
    reference: jax.Array,
    *,
    mask: jax.Array | None = None,
    steer: jax.Array | None = None,
    partners: str | jax.Array = "all",
    scale: str = "mean",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The PCO loss of B items in L languages with K aligned candidates.

    Arguments, errors, and which items, languages and candidates take part are those of `dco`.

    Returns:
      The loss (a scalar, nats; its smallest value is not 0): sum over languages, mean over items; 0 if no item counts.
      And metrics, scalars, means over the languages of all items:
        loss      the loss again
        error     KL(policy || optimum), nats: what can still be gained
        kl        KL(policy || reference) of the candidates' distributions, nats
        reward    beta * E[log q_p], nats (for partners "all": E[target - log q_i])
        items, weight   number of items counted
    """
    log_p, log_q, target, cells = tables("pco_exact", policy, reference, mask, steer, partners, scale)
    used = cells.any(2)
    p = jnp.where(cells, jnp.exp(log_p), 0.0)

    def expected(values: jax.Array) -> jax.Array:
        """f32[B, L]: of p."""
        return (p * jnp.where(cells, values, 0.0)).sum(2)

    per_language = expected(log_p - target)
    items = used.any(1).sum()
    loss = per_language.sum() / jnp.maximum(items, 1)
    count = jnp.maximum(used.sum(), 1)
    metrics = {
        "loss": loss,
        "error": expected(log_p - log_softmax(target, cells)).sum() / count,
        "kl": expected(log_p - log_q).sum() / count,
        "reward": expected(target - log_q).sum() / count,
        "items": items,
        "weight": items.astype(log_p.dtype),
    }
    return loss, jax.tree.map(jax.lax.stop_gradient, metrics)


def tables(caller, policy, reference, mask, steer, partners, scale) -> tuple[jax.Array, ...]:
    """log p, log q and the target of log p, f32[B, L, K], and the cells that count, bool[B, L, K]; arguments and errors
    of `caller` are those of `dco`."""
    policy, reference, mask, steer, partners, _ = checked(
        caller, policy, reference, mask, steer, partners, "all", scale
    )
    used, shared = participants(mask, partners)
    # Partners may sit out themselves, so references are normalized wherever the candidates that count are present.
    candidates = mask & shared[:, None, :]
    cells = used[:, :, None] & shared[:, None, :] & (shared.sum(1) >= 2)[:, None, None]
    log_q = jnp.where(candidates, log_softmax(jax.lax.stop_gradient(reference), candidates), 0.0)
    target = jnp.where(cells, target_table(log_q, mask, steer, partners, scale), 0.0)
    return log_softmax(policy, cells), log_q, target, cells
