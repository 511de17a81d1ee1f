"""Multilingual reward-gap optimization (MPO): every language prefers the gold answer as clearly as English did.

With a the anchor language (English), t any other, l the policy's and r the reference's sums of log-probabilities, |y|
an answer's tokens, w the chosen (gold) and u the rejected one, h in R^D the hidden state of the prompt's last token,

    gap_t(l) = l_t(w) / |w|  -  l_t(u) / |u|
    loss     = mean over pairs (item, t)  ( beta * gap_t(l) - gap_a(r) )^2  +  mean_d ( h_a - h_a,ref )_d^2

The first term gives t the anchor's reward gap, the second keeps the anchor where it was; it counts once for each t, as
where pairs are trained one by one. No gradient flows into what the reference says.

Source: arXiv 2505.16869 (both terms; beta 1.0 to 1.5). Many languages of one item at once are this project's: the
published training takes one t at a time.
"""

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.objectives.dpo import chosen_and_rejected
from consistency_jax.runtime.keys import POSITIVE, Key, Rule

MPO = {
    "beta": Key(1.0, POSITIVE, "Factor of the policy's reward gap, a mean per token: 1 to 1.5 in the paper")
}
ONE_FOR_ALL = Rule(
    "random",
    lambda value: value == "random",
    "takes another wrong answer in every language, and mpo compares the same two answers across languages; set "
    "--config.objective.rejected=random",
)


def mpo(
    policy: jax.Array,
    state: jax.Array,
    reference: jax.Array,
    reference_state: jax.Array,
    *,
    anchor: int,
    chosen: jax.Array,
    rejected: jax.Array,
    length: jax.Array,
    mask: jax.Array | None = None,
    beta: float = 1.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The MPO loss of B items in L languages with K candidates.

    An item takes part if the anchor has a pair in it, with the other languages that have one. What lies in any other
    cell or state, NaN and infinity included, changes neither the loss nor a gradient.

    Args:
      policy: f32[B, L, K], sums of log-probabilities over the answer's tokens, nats.
      state: [B, L, D], the policy's hidden states of the prompts' last tokens; compared in float32.
      reference: f32[B, L, K], the policy's table under the fixed reference.
      reference_state: f32[B, D], the reference's states in the anchor language.
      anchor: index of the anchor language.
      chosen: i32[B] or i32[B, L], index of the chosen candidate; -1: no pair.
      rejected: i32[B] or i32[B, L], index of the rejected one; -1, or the chosen one itself: no pair.
      length: i32[B, L, K], tokens behind each sum.
      mask: bool[B, L, K], the cells that exist; all of them by default.
      beta: factor of the policy's gap: the larger, the smaller the gaps it asks for.

    Returns:
      The loss (a scalar; 0 where there is no pair) and metrics, scalars, means over pairs (item, t):
        loss               the loss again
        gap_loss, state_loss   its two terms
        gap, gap_target    the policy's gap, and the reference's gap in the anchor language, nats a token
        pair_accuracy      share of pairs whose gap is above 0
        items              number of items counted
        weight             number of pairs

    Raises:
      ValueError: for shapes that do not fit, or an anchor that is none of the languages.
    """
    pairs = chosen_and_rejected("mpo", policy, reference, chosen, rejected, length, mask)
    items, languages = pairs.taken.shape
    if not 0 <= anchor < languages:
        raise ValueError(f"mpo: anchor must lie in 0..{languages - 1}, not {anchor}")
    dim = np.shape(state)[-1]
    for name, value, shape in (
        ("state", state, (items, languages, dim)),
        ("reference_state", reference_state, (items, dim)),
    ):
        if np.shape(value) != shape:
            raise ValueError(f"mpo: {name} must have shape {list(shape)}, not {list(np.shape(value))}")

    taken = pairs.taken & pairs.taken[:, anchor, None] & (np.arange(languages) != anchor)
    counted = taken.any(1, keepdims=True)
    gap = jnp.where(taken, pairs.per_token[0] - pairs.per_token[1], 0.0)
    target = (pairs.reference_per_token[0] - pairs.reference_per_token[1])[:, anchor, None]
    target = jnp.where(counted, target, 0.0)
    difference = state[:, anchor].astype(jnp.float32) - jax.lax.stop_gradient(reference_state)
    moved = jnp.square(jnp.where(counted, difference, 0.0)).mean(1, keepdims=True)

    count = taken.sum()

    def mean(values: jax.Array) -> jax.Array:
        return jnp.where(taken, values, 0.0).sum() / jnp.maximum(count, 1)

    gap_loss, state_loss = mean(jnp.square(beta * gap - target)), mean(moved)
    loss = gap_loss + state_loss
    metrics = {
        "loss": loss,
        "gap_loss": gap_loss,
        "state_loss": state_loss,
        "gap": mean(gap),
        "gap_target": mean(target),
        "pair_accuracy": mean(gap > 0),
        "items": counted.sum(),
        "weight": count.astype(jnp.float32),
    }
    return loss, jax.tree.map(jax.lax.stop_gradient, metrics)
