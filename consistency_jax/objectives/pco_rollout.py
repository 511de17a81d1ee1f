"""Preference-based consistency optimization (PCO) on answers that the policy itself has drawn.

For n answers y_s ~ pi_i of the policy in language i, with the cost of each and a baseline of the others,

    cost_s   = log pi_i(y_s) - log q_i(y_s) - reward_s          reward_s = beta_i * log q_j(tau y_s)
    loss     = mean over items  sum_i  mean_s  cost_s            an estimate of PCO's loss (objectives/pco.py)
    gradient = mean over items  sum_i  mean_s  (cost_s - mean_{t != s} cost_t) * grad log pi_i(y_s)

whose expectation is the gradient of KL(pi_i || q_i) - E[reward]: the score function has mean 0, so that neither the
policy's own logarithm in the cost nor the baseline, which does not know y_s, adds anything.

Sources: PCO's loss is published (arXiv 2603.04678); this estimator of it, the leave-one-out baseline in it and the KL
per token are this project's derivations.
"""

import jax
import jax.numpy as jnp

from consistency_jax.objectives.dco import DCO
from consistency_jax.objectives.pco import tables
from consistency_jax.runtime.keys import Key, at_least

KLS = ("sequence", "token")
PCO_ROLLOUT = DCO | {
    "samples": Key(8, at_least(2, "one is the other's baseline"), "Answers drawn for each item and language"),
    "kl": Key("sequence", KLS, "token: an answer's divergence is divided by its length"),
}


def pco_rollout(
    policy: jax.Array,
    reference: jax.Array,
    rewards: jax.Array,
    *,
    mask: jax.Array | None = None,
    length: jax.Array | None = None,
    kl: str = "sequence",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """PCO's loss from n answers drawn from the policy, for B items in L languages.

    Args:
      policy: f32[B, L, n], log-probabilities of the answers under the policy that drew them, nats: sums over tokens.
      reference: f32[B, L, n], the same answers under the reference.
      rewards: f32[B, L, n], nats: beta_i * log q_j of the translated answers (translators.py: stochastic translators
        are averaged inside the log).
      mask: bool[B, L, n], the answers that count (say: that have a translation); all by default. A language with
        fewer than two in an item sits out: it has no baseline.
      length: i32[B, L, n], answer tokens, for the KL per token.
      kl: "sequence" as in the formula, or "token": each answer's KL is divided by its length, so that long answers do
        not stay closer to the reference than short ones. Its optimum is not PCO's where lengths differ.

    Returns:
      A scalar whose value is the loss and whose gradient is the estimate above; and metrics, scalars, means over the
      languages of all items:
        loss     the loss again
        reward   mean of the rewards, nats
        kl       estimate of KL(policy || reference) of whole answers, nats
        spread   standard deviation of the costs of one item and language, nats: what the baseline leaves
        items, weight   number of items counted

    Raises:
      ValueError: for an unknown kl, or "token" without length.
    """
    if kl not in KLS or (kl == "token" and length is None):
        raise ValueError(f"pco_rollout: kl must be one of {', '.join(KLS)} (token needs length), not {kl!r}")
    mask = jnp.ones(policy.shape, bool) if mask is None else jnp.asarray(mask, bool)
    counted = mask.sum(2) >= 2
    mask = mask & counted[:, :, None]
    count = jnp.maximum(mask.sum(2, keepdims=True), 2)
    policy, reference, rewards = (jnp.where(mask, x, 0.0) for x in (policy, reference, rewards))
    share = 1.0 if kl == "sequence" else 1.0 / jnp.maximum(length, 1)

    drawn = jax.lax.stop_gradient(policy)
    divergence = drawn - jax.lax.stop_gradient(reference)
    cost = jnp.where(mask, share * divergence - jax.lax.stop_gradient(rewards), 0.0)
    others = (cost.sum(2, keepdims=True) - cost) / (count - 1)
    # Values that are 0 and only have a gradient. The second is what dividing by the answer's own length leaves of the
    # logarithm's derivative; of whole sequences that has mean 0.
    moved = (cost - others) * (policy - drawn)
    if kl == "token":
        moved = moved + share * (policy - drawn)
    items = counted.any(1).sum()
    per_language = (jnp.where(mask, cost + moved, 0.0) / count).sum(2)
    loss = per_language.sum() / jnp.maximum(items, 1)

    languages = jnp.maximum(counted.sum(), 1)
    deviation = jnp.where(mask, cost - cost.sum(2, keepdims=True) / count, 0.0)
    variance = jnp.square(deviation).sum(2) / (count[..., 0] - 1)

    def mean(values: jax.Array) -> jax.Array:
        return (jnp.where(mask, values, 0.0) / count).sum() / languages

    metrics = {
        "loss": loss,
        "reward": mean(rewards),
        "kl": mean(divergence),
        "spread": jnp.where(counted, jnp.sqrt(variance), 0.0).sum() / languages,
        "items": items,
        "weight": items.astype(policy.dtype),
    }
    return loss, jax.tree.map(jax.lax.stop_gradient, metrics)


def pco_sampled(
    policy: jax.Array,
    reference: jax.Array,
    seeds: jax.Array,
    *,
    samples: int,
    mask: jax.Array | None = None,
    length: jax.Array | None = None,
    steer: jax.Array | None = None,
    partners: str | jax.Array = "all",
    scale: str = "mean",
    kl: str = "sequence",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`pco_rollout` where the answers are drawn among each item's K candidates, by the policy's softmax over them.

    The translator is the item's own table, so the reward of candidate k is that of `pco_exact`, and so is the optimum.

    Args:
      policy, reference, mask, steer, partners, scale: as of `pco_exact`.
      seeds: u32[B], a random number for each item of this step: all the randomness there is.
      samples: answers drawn for each item and language, with replacement; 2 at least.
      length, kl: as of `pco_rollout`; length i32[B, L, K].
    """
    if samples < 2:
        raise ValueError(f"pco_rollout: samples must be at least 2, for a baseline, not {samples}")
    log_p, log_q, target, cells = tables("pco_rollout", policy, reference, mask, steer, partners, scale)
    rewards = jnp.where(cells, target - log_q, 0.0)

    def draw(seed: jax.Array, logits: jax.Array) -> jax.Array:
        return jax.random.categorical(jax.random.key(seed), logits, axis=-1, shape=(samples, logits.shape[0]))

    drawn = jax.vmap(draw)(seeds, jax.lax.stop_gradient(log_p)).swapaxes(1, 2)  # i32[B, L, n]

    def of(table: jax.Array) -> jax.Array:
        return jnp.take_along_axis(table, drawn, axis=2)

    return pco_rollout(
        of(log_p),
        of(log_q),
        of(rewards),
        mask=jnp.broadcast_to(cells.any(2, keepdims=True), drawn.shape),
        length=None if length is None else of(length),
        kl=kl,
    )
