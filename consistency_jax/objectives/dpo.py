"""Preference objectives: a chosen answer (here the gold one) against a rejected answer of the same prompt.

With l the policy's and r the reference's sums of log-probabilities, |y| an answer's tokens, w the chosen and u the
rejected answer, s(x) = -(1 - e) log sigmoid(x) - e log sigmoid(-x) and e the label smoothing, a pair's loss is

    dpo    s( beta * ((l_w - r_w) - (l_u - r_u)) )  -  gamma * l_w / |w|                          arXiv 2305.18290
    ipo    ( ((l_w - r_w) - (l_u - r_u)) - 1 / (2 tau) )^2                                        arXiv 2310.12036
    simpo  s( beta * (l_w / |w| - l_u / |u|) - margin )                                           arXiv 2405.14734
    orpo   - l_w / |w|  -  odds_weight * log sigmoid( logit(p_w) - logit(p_u) ),  p_y = exp(l_y / |y|)
                                                                                                  arXiv 2403.07691

and the loss is the mean over pairs: each language of each item is one, as in monolingual preference data. `margin` is
the gamma of SimPO's paper, `odds_weight` the lambda of ORPO's, gamma the weight of the NLL per token that CM-Align
adds to DPO (arXiv 2509.08541). SimPO and ORPO know no reference. Label smoothing (a share e of the pairs is taken to be
labelled the wrong way round) is not of these papers but usual in code for DPO; for SimPO it is done alike.
Default values are this project's but for DPO's beta 0.1.

IPO's log-ratios are sums, as in its paper and as DPO's here. TRL takes means per token, which ask of an answer in more
tokens for a larger change of its probability: of the same answer more in languages that a tokenizer cuts finely.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.runtime.keys import NOT_NEGATIVE, POSITIVE, Key, Rule

_SMOOTHING = {
    "label_smoothing": Key(
        0.0,
        Rule("in [0, 0.5)", lambda e: 0 <= e < 0.5, "must lie in [0, 0.5): at 0.5 labels would say nothing"),
        "Share of labels held to be wrong",
    )
}
DPO = _SMOOTHING | {
    "beta": Key(0.1, POSITIVE, "Factor of log-ratios of sums; larger stays closer to the reference"),
    "gamma": Key(0.0, NOT_NEGATIVE, "Weight of the chosen answer's NLL per token"),
}
IPO = {"tau": Key(0.1, POSITIVE, "The log-ratio should grow by 1 / (2 tau), in nats")}
SIMPO = _SMOOTHING | {
    "beta": Key(2.0, POSITIVE, "Factor of means per token"),
    "margin": Key(1.0, NOT_NEGATIVE, "What beta * the difference should exceed (the paper's gamma)"),
}
ORPO = {"odds_weight": Key(0.1, NOT_NEGATIVE, "Weight of the odds ratio (the paper's lambda)")}

# ORPO's odds have no bound where the probability is 1: above this mean log-probability they are taken to be those here.
SURE = -1e-6


class Pairs(NamedTuple):
    """Pairs of B items in L languages; cells that are no pair hold what is harmless."""

    taken: jax.Array  # bool[B, L]
    policy: tuple[jax.Array, jax.Array]  # f32[B, L] each: chosen, rejected, nats
    reference: tuple[jax.Array, jax.Array]  # the same; zeros without a reference
    per_token: tuple[jax.Array, jax.Array]  # the policy's, divided by the answers' tokens
    reference_per_token: tuple[jax.Array, jax.Array]  # the reference's


def dpo(
    policy: jax.Array,
    reference: jax.Array,
    *,
    chosen: jax.Array,
    rejected: jax.Array,
    length: jax.Array,
    mask: jax.Array | None = None,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    gamma: float = 0.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Direct preference optimization, with the chosen answer's NLL per token where gamma > 0.

    What lies in cells that are in no pair, NaN and infinity included, changes neither the loss nor a gradient.

    Args:
      policy: f32[B, L, K], sums of log-probabilities over the answer's tokens, nats.
      reference: f32[B, L, K], the same under the fixed reference. No gradient flows into it.
      chosen: i32[B] or i32[B, L], index of the chosen candidate; -1: no pair.
      rejected: i32[B] or i32[B, L], index of the rejected one; -1, or the chosen one itself: no pair.
      length: i32[B, L, K], tokens behind each sum.
      mask: bool[B, L, K], the cells that exist; all of them by default.
      beta: how strongly differences count; the larger, the closer the optimum stays to the reference.
      label_smoothing: e, in [0, 0.5).
      gamma: weight of the NLL term.

    Returns:
      The loss (a scalar, nats; 0 where there is no pair) and metrics, scalars, means over pairs:
        loss                       the loss again
        pair_accuracy              share of pairs whose argument of the sigmoid is above 0
        margin                     that argument
        chosen, rejected           log-probability per token, nats
        reward_chosen, reward_rejected   beta * (l - r) (dpo and ipo alone)
        items                      number of items with a pair
        weight                     number of pairs

    Raises:
      ValueError: for shapes that do not fit.
    """
    pairs = chosen_and_rejected("dpo", policy, reference, chosen, rejected, length, mask)
    rewards = [beta * (l - r) for l, r in zip(pairs.policy, pairs.reference, strict=True)]
    margin = rewards[0] - rewards[1]
    loss = _smoothed(margin, label_smoothing) - gamma * pairs.per_token[0]
    return _result(pairs, loss, margin, reward_chosen=rewards[0], reward_rejected=rewards[1])


def ipo(
    policy: jax.Array,
    reference: jax.Array,
    *,
    chosen: jax.Array,
    rejected: jax.Array,
    length: jax.Array,
    mask: jax.Array | None = None,
    tau: float = 0.1,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Identity preference optimization: the log-ratio grows by 1 / (2 tau) and no further, however sure a label is.

    Args, returns and errors are those of `dpo`; margin is the log-ratio's growth, rewards are l - r (both in nats).
    """
    pairs = chosen_and_rejected("ipo", policy, reference, chosen, rejected, length, mask)
    rewards = [l - r for l, r in zip(pairs.policy, pairs.reference, strict=True)]
    margin = rewards[0] - rewards[1]
    loss = jnp.square(margin - 1 / (2 * tau))
    return _result(pairs, loss, margin, reward_chosen=rewards[0], reward_rejected=rewards[1])


def simpo(
    policy: jax.Array,
    *,
    chosen: jax.Array,
    rejected: jax.Array,
    length: jax.Array,
    mask: jax.Array | None = None,
    beta: float = 2.0,
    label_smoothing: float = 0.0,
    margin: float = 1.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Simple preference optimization: log-probabilities per token, a target margin, no reference.

    Args, returns and errors are those of `dpo`; margin is the gamma of the paper, in the units of beta * nats.
    """
    pairs = chosen_and_rejected("simpo", policy, None, chosen, rejected, length, mask)
    difference = beta * (pairs.per_token[0] - pairs.per_token[1]) - margin
    return _result(pairs, _smoothed(difference, label_smoothing), difference)


def orpo(
    policy: jax.Array,
    *,
    chosen: jax.Array,
    rejected: jax.Array,
    length: jax.Array,
    mask: jax.Array | None = None,
    odds_weight: float = 0.1,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Odds ratio preference optimization: the chosen answer's NLL per token and a log odds ratio, no reference.

    Args, returns and errors are those of `dpo`; odds_weight is the lambda of the paper.
    """
    pairs = chosen_and_rejected("orpo", policy, None, chosen, rejected, length, mask)
    ratio = _logit(pairs.per_token[0]) - _logit(pairs.per_token[1])
    return _result(pairs, -pairs.per_token[0] - odds_weight * jax.nn.log_sigmoid(ratio), ratio)


def _smoothed(x, label_smoothing) -> jax.Array:
    return -(1 - label_smoothing) * jax.nn.log_sigmoid(x) - label_smoothing * jax.nn.log_sigmoid(-x)


def _logit(logp) -> jax.Array:
    """log(p / (1 - p)) of p = exp(logp)."""
    logp = jnp.minimum(logp, SURE)
    return logp - jnp.log(-jnp.expm1(logp))


def chosen_and_rejected(name, policy, reference, chosen, rejected, length, mask) -> Pairs:
    """The pairs of a table, or a ValueError that says which argument does not fit."""
    if np.ndim(policy) != 3:
        raise ValueError(
            f"{name}: policy must have shape [items, languages, candidates], not {np.shape(policy)}"
        )
    shape = np.shape(policy)
    mask = jnp.ones(shape, bool) if mask is None else mask
    reference = jnp.zeros(shape, jnp.float32) if reference is None else jax.lax.stop_gradient(reference)
    for label, value in (("reference", reference), ("length", length), ("mask", mask)):
        if np.shape(value) != shape:
            raise ValueError(f"{name}: {label} must have shape {list(shape)}, not {list(np.shape(value))}")
    indices = []
    for label, value in (("chosen", chosen), ("rejected", rejected)):
        if np.shape(value) not in (shape[:1], shape[:2]):
            raise ValueError(
                f"{name}: {label} must have shape {list(shape[:1])} or {list(shape[:2])}, not {list(np.shape(value))}"
            )
        value = jnp.asarray(value)
        indices.append(jnp.broadcast_to(value[:, None] if value.ndim == 1 else value, shape[:2]))

    def cells(table, index, dtype=jnp.float32) -> jax.Array:
        index = jnp.clip(index, 0, shape[2] - 1)[:, :, None]
        return jnp.take_along_axis(jnp.asarray(table), index, axis=2)[:, :, 0].astype(dtype)

    taken = indices[0] != indices[1]
    for index in indices:
        taken &= (index >= 0) & (index < shape[2]) & cells(mask, index, bool)
    tables = [
        [jnp.where(taken, cells(table, index), fill) for index in indices]
        for table, fill in ((policy, -1.0), (reference, -1.0), (length, 1.0))
    ]
    per_token = [
        tuple(l / jnp.maximum(n, 1) for l, n in zip(sums, tables[2], strict=True)) for sums in tables[:2]
    ]
    return Pairs(taken, tuple(tables[0]), tuple(tables[1]), *per_token)


def _result(pairs, loss, margin, **more) -> tuple[jax.Array, dict[str, jax.Array]]:
    count = pairs.taken.sum()

    def mean(values) -> jax.Array:
        return jnp.where(pairs.taken, values, 0.0).sum() / jnp.maximum(count, 1)

    values = {"loss": loss, "pair_accuracy": margin > 0, "margin": margin, **more}
    values |= {"chosen": pairs.per_token[0], "rejected": pairs.per_token[1]}
    metrics = {name: mean(value) for name, value in values.items()}
    loss = metrics["loss"]
    metrics |= {"items": pairs.taken.any(1).sum(), "weight": count.astype(jnp.float32)}
    return loss, jax.tree.map(jax.lax.stop_gradient, metrics)
