"""Direct consistency optimization (DCO): languages agree on how they order the same candidates.

With l_i the policy's and r_i the reference's log-probabilities of an item's candidates in language i, e_i the
distance to a target table that is consistent by construction, and v_i > 0 the steering weights,

    loss     = mean over items  sum_i  mean_{k<m} | e_i(k) - e_i(m) |,   e_i = l_i - target_i
    target_i = c_i * sum_j v_j r_j / sum_j v_j           partners "all": exactly consistent
    target_i = r_i + (v_p / v_i) * r_p                   one partner p each: the published sampling

For two languages, two candidates and v = (b, 1) both are the published loss,
|rew_1 - off_2 / b| + |rew_2 - b * off_1|, with off_i = r_i(c) - r_i(r), rew_i = (l_i(c) - l_i(r)) - off_i.

Sources: the pair loss is published (arXiv 2603.04678 and its code). The loss over all K candidates and the
target over all N languages are this project's derivations; they extend it and equal it where N = K = 2.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.runtime.keys import WEIGHT, Key

SCALES = ("mean", "product", "one")
DCO = {
    "steer": Key({}, WEIGHT, "language -> weight, 1 by default; larger stays closer to the reference"),
    "partners": Key(
        "all", ("all", "random"), "A language moves towards all others, or one drawn for each item"
    ),
    "scale": Key("mean", SCALES, "c_i of the target: keeps the published scale, product of experts, or 1"),
}


def steering(weights: Mapping[str, float], languages: Sequence[str]) -> np.ndarray:
    """f32[L]: the steering weights as the objectives take them; 1 where a language has none."""
    return np.array([weights.get(language, 1.0) for language in languages], np.float32)


def dco(
    policy: jax.Array,
    reference: jax.Array,
    *,
    mask: jax.Array | None = None,
    steer: jax.Array | None = None,
    partners: str | jax.Array = "all",
    candidates: str | jax.Array = "all",
    scale: str = "mean",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The DCO loss of B items in L languages with K aligned candidates.

    An item takes part with the languages that have at least two of its candidates, if there are two such
    languages, and with the candidates that all of these languages have. What lies in any other cell, NaN and
    infinity included, changes neither the loss nor a gradient, and an item that takes no part is not counted.

    Args:
      policy: f32[B, L, K], sums of log-probabilities over the answer's tokens, nats.
      reference: f32[B, L, K], the same under the fixed reference. No gradient flows into it.
      mask: bool[B, L, K], the cells that exist; all of them by default.
      steer: f32[L] > 0: the larger, the closer a language stays to its reference. Only ratios matter; ones by
        default.
      partners: "all" languages at once, or i32[B, L], the index of each language's partner in each item. A
        language whose partner is absent, itself, or outside 0..L-1 (say -1) sits out in that item.
      candidates: "all" pairs of candidates, or i32[B, 2], one pair (chosen, rejected) an item; an item whose
        two are the same or absent is not counted; indices outside 0..K-1 are an error in numpy, and where they
        cannot be seen (a jax array) the item is not counted.
      scale: "mean" keeps the scale of the published loss for any number of languages, c_i = 1 + mean_{j != i}
        v_j / v_i; "product" is the plain product of experts, c_i = sum_j v_j / v_i. Alike for two languages,
        and so for partners, who take no part in this. "one" is the weighted mean itself, c_i = 1: as consistent
        (c_i is a temperature, which the definition leaves free), and it neither sharpens what the model says nor,
        where one weight is large, asks for far larger differences than the reference has.

    Returns:
      The loss (a scalar, nats): mean over candidate pairs, sum over languages, mean over items; 0 if no item
      counts. And metrics, scalars: means over items, languages and pairs (of differences in a pair):
        loss                      the loss again
        error                     |distance to the target|, nats
        reward                    |change against the reference|, nats
        reward_target             the change that would reach the target, nats
        pair_agreement            share of candidate pairs that two languages order alike (a tie counts half)
        reference_pair_agreement  the same for the reference
        drift                     mean of l - r, nats: the loss is blind to it; below 0 candidates lose mass
        kl                        KL(policy || reference) of the candidates' distributions, nats
        items                     number of items counted

    Raises:
      ValueError: for shapes that do not fit or a value that can be seen to be wrong. Values of jax arrays are
        not looked at, so that the function can be traced and never waits for a device.
    """
    policy, reference, mask, steer, partners, candidates = checked(
        "dco", policy, reference, mask, steer, partners, candidates, scale
    )
    used, shared = participants(mask, partners)
    cells = used[:, :, None] & shared[:, None, :]
    policy = jnp.where(cells, policy, 0.0)
    target = jnp.where(cells, target_table(reference, mask, steer, partners, scale), 0.0)
    reference = jnp.where(cells, jax.lax.stop_gradient(reference), 0.0)

    pairs = _candidate_pairs(shared, candidates)
    counted = used & pairs.any((1, 2))[:, None]
    items = counted.any(1).sum()
    pair_weight = pairs / jnp.maximum(pairs.sum((1, 2), keepdims=True), 1)
    distance = jnp.abs(_differences(policy - target))
    per_language = jnp.einsum("BKM,BLKM->BL", pair_weight, distance, precision="highest")
    loss = jnp.where(counted, per_language, 0.0).sum() / jnp.maximum(items, 1)

    policy = jax.lax.stop_gradient(policy)
    weight = counted[:, :, None, None] * pair_weight[:, None]
    cell_weight = cells & counted[:, :, None]
    metrics = {
        "loss": jax.lax.stop_gradient(loss),
        "error": _mean(jax.lax.stop_gradient(distance), weight),
        "reward": _mean(jnp.abs(_differences(policy - reference)), weight),
        "reward_target": _mean(jnp.abs(_differences(target - reference)), weight),
        "pair_agreement": _pair_agreement(policy, counted, pair_weight),
        "reference_pair_agreement": _pair_agreement(reference, counted, pair_weight),
        "drift": _mean(policy - reference, cell_weight),
        "kl": _mean(_candidate_kl(policy, reference, cells), counted),
        "items": items,
        "weight": items.astype(policy.dtype),
    }
    return loss, metrics


def dco_target(
    reference: jax.Array,
    *,
    mask: jax.Array | None = None,
    steer: jax.Array | None = None,
    partners: str | jax.Array = "all",
    scale: str = "mean",
) -> jax.Array:
    """The table f32[B, L, K] at which `dco` with the same options is 0: its closed-form optimum.

    A loss on differences between candidates leaves a constant for each item and language free; this is the
    optimum with the constant that the formula gives. Cells that take no part keep the reference.
    Arguments and errors are those of `dco`.
    """
    _, reference, mask, steer, partners, _ = checked(
        "dco_target", reference, reference, mask, steer, partners, "all", scale
    )
    used, shared = participants(mask, partners)
    target = target_table(reference, mask, steer, partners, scale)
    return jnp.where(used[:, :, None] & shared[:, None, :], target, reference)


def target_table(reference, mask, steer, partners, scale) -> jax.Array:
    """f32[B, L, K]: target_i of the formula; only cells that take part mean anything."""
    present = _present(mask)
    reference = jnp.where(mask & present[:, :, None], jax.lax.stop_gradient(reference), 0.0)
    if not isinstance(partners, str):
        index = jnp.clip(partners, 0, reference.shape[1] - 1)
        partner = jnp.take_along_axis(reference, index[:, :, None], axis=1)
        return reference + (steer[index] / steer)[:, :, None] * partner
    weight = jnp.where(present, steer, 0.0)
    total = weight.sum(1, keepdims=True)
    others = jnp.maximum(present.sum(1, keepdims=True) - 1, 1) if scale == "mean" else 1
    consensus = jnp.einsum("BL,BLK->BK", weight, reference, precision="highest") / jnp.maximum(total, 1e-30)
    temperature = jnp.ones_like(weight) if scale == "one" else 1 + (total - weight) / (others * steer)
    return temperature[:, :, None] * consensus[:, None, :]


def _present(mask) -> jax.Array:
    """bool[B, L]: a language with fewer than two candidates orders nothing."""
    return mask.sum(2) >= 2


def participants(mask, partners) -> tuple[jax.Array, jax.Array]:
    """The languages bool[B, L] and the candidates bool[B, K] of each item that take part."""
    present = _present(mask)
    shared = (mask | ~present[:, :, None]).all(1)
    if isinstance(partners, str):
        used = present & (present.sum(1, keepdims=True) >= 2)
    else:
        languages = mask.shape[1]
        valid = (partners >= 0) & (partners < languages) & (partners != jnp.arange(languages))
        index = jnp.clip(partners, 0, languages - 1)
        used = present & valid & jnp.take_along_axis(present, index, axis=1)
    return used, shared & used.any(1, keepdims=True)


def _candidate_pairs(shared, candidates) -> jax.Array:
    """bool[B, K, K]: the pairs compared. Of "all" each stands twice, as (k, m) and (m, k): same mean."""
    count = shared.shape[1]
    both = shared[:, :, None] & shared[:, None, :] & ~jnp.eye(count, dtype=bool)
    if isinstance(candidates, str):
        return both
    chosen, rejected = (candidates[:, i, None] == jnp.arange(count) for i in (0, 1))
    return both & chosen[:, :, None] & rejected[:, None, :]


def _differences(table) -> jax.Array:
    """[B, L, K] -> [B, L, K, K]: table(k) - table(m)."""
    return table[..., :, None] - table[..., None, :]


def _mean(values, weight) -> jax.Array:
    weight = jnp.broadcast_to(weight, values.shape).astype(values.dtype)
    return (values * weight).sum() / jnp.maximum(weight.sum(), 1e-30)


def _pair_agreement(table, used, pair_weight) -> jax.Array:
    """Share of (language pair, candidate pair) ordered alike: (1 + mean sign_i * sign_j) / 2."""
    sign = jnp.sign(_differences(table)) * used[:, :, None, None]
    count = used.sum(1)[:, None, None]
    alike = (sign.sum(1) ** 2 - (sign**2).sum(1)) / jnp.maximum(count * (count - 1), 1)
    return _mean((1 + alike) / 2, jnp.where(count >= 2, pair_weight, 0.0))


def _candidate_kl(policy, reference, cells) -> jax.Array:
    """f32[B, L]: KL between the distributions over an item's candidates."""
    log_policy, log_reference = log_softmax(policy, cells), log_softmax(reference, cells)
    return jnp.where(cells, jnp.exp(log_policy) * (log_policy - log_reference), 0.0).sum(2)


def log_softmax(table, cells) -> jax.Array:
    """f32[B, L, K]: log-probabilities of the candidates that are there (bool[B, L, K])."""
    # A finite floor: exp(-1e9) is 0, and rows without any candidate stay free of NaN.
    return jax.nn.log_softmax(jnp.where(cells, table, -1e9))


def checked(caller, policy, reference, mask, steer, partners, candidates, scale):
    """The arguments of `caller` as arrays with their defaults filled in, or a ValueError that says what is wrong."""
    if np.ndim(policy) != 3:
        raise ValueError(
            f"{caller}: policy must have shape [items, languages, candidates], not {np.shape(policy)}"
        )
    items, languages, count = np.shape(policy)
    _check_shape(caller, "reference", reference, (items, languages, count))
    if languages < 2 or count < 2:
        raise ValueError(
            f"{caller} compares languages and candidates: it needs two of each, not {languages} and {count}"
        )
    if scale not in SCALES:
        raise ValueError(f"{caller}: scale must be one of {', '.join(SCALES)}, not {scale!r}")
    policy, reference = jnp.asarray(policy), jnp.asarray(reference)
    dtype = jnp.promote_types(jnp.promote_types(policy.dtype, reference.dtype), jnp.float32)

    if mask is None:
        mask = jnp.ones((items, languages, count), bool)
    _check_shape(caller, "mask", mask, (items, languages, count))

    if steer is None:
        steer = np.ones(languages)
    _check_shape(caller, "steer (one weight a language)", steer, (languages,))
    if not isinstance(steer, jax.Array):
        steer = np.asarray(steer, np.float64)
        if not (np.isfinite(steer) & (steer > 0)).all():
            raise ValueError(
                f"{caller}: steer must be finite and above 0 for every language, not {steer.tolist()}"
            )

    partners = _checked_index(caller, "partners", partners, (items, languages), limit=None)
    candidates = _checked_index(caller, "candidates", candidates, (items, 2), limit=count)
    mask, steer = jnp.asarray(mask, bool), jnp.asarray(steer, dtype)
    return policy.astype(dtype), reference.astype(dtype), mask, steer, partners, candidates


def _checked_index(caller, name, value, shape, limit):
    if isinstance(value, str):
        if value != "all":
            raise ValueError(
                f'{caller}: {name} must be "all" or an integer array {list(shape)}, not {value!r}'
            )
        return value
    _check_shape(caller, name, value, shape)
    if not isinstance(value, jax.Array):
        value = np.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"{caller}: {name} must hold integers, not {value.dtype}")
    if limit and isinstance(value, np.ndarray) and ((value < 0) | (value >= limit)).any():
        raise ValueError(
            f"{caller}: {name} must lie in 0..{limit - 1}; found values from {value.min()} to {value.max()}"
        )
    return jnp.asarray(value)


def _check_shape(caller, name, value, shape):
    if np.shape(value) != shape:
        raise ValueError(f"{caller}: {name} must have shape {list(shape)}, not {list(np.shape(value))}")
