"""The definition itself: how far does a language answer from its round trip through another?

A model is epsilon-consistent between languages i and j iff, for an f-divergence,

    D_f( p_i || q_ij ) <= epsilon,    p_i = softmax(l_i),    q_ij = softmax(T_ij * l_j),

with l the sums of log-probabilities of index-aligned candidates: on them the round trip through j is a
re-indexing, hence exact. The temperature T >= 0 is what the definition leaves open; it is fixed, or fitted to
each ordered pair. Items are compared over the candidates that all their languages have.

    kl                 sum p log(p / q)            reverse_kl         sum q log(q / p)
    jensen_shannon     sum (p log(p / m) + q log(q / m)) / 2,  m = (p + q) / 2;  0..log 2
    total_variation    sum |p - q| / 2;  0..1      squared_hellinger  sum (sqrt p - sqrt q)^2 / 2;  0..1
    chi_squared        sum (p - q)^2 / q

Source: the definition, arXiv 2603.04678; its computation, the fit of T and the tolerance curve are this project's
derivations.
"""

import numpy as np

from consistency_jax.metrics.arrays import checked_scores, mean_known
from consistency_jax.metrics.distribution import log_probabilities, log_softmax
from consistency_jax.metrics.rankc import language_pairs, shared_candidates

# The most that each can be; those that are not named have no bound.
BOUNDS = {"jensen_shannon": float(np.log(2)), "total_variation": 1.0, "squared_hellinger": 1.0}

# Temperatures that a fit starts from; the last is the most that it gives: so sharp that hardly anything is left.
_GRID = np.concatenate([[0.0], 4.0 ** np.arange(-5, 6)])
_TOLERANCE = 1e-7  # of a fitted temperature, relative
_CHUNK = 100_000  # numbers in an array at once: what a core's cache holds
_LARGEST = 600.0  # exponents stop here, before float64 does


def divergences(
    scores: np.ndarray,
    mask: np.ndarray | None = None,
    kind: str = "jensen_shannon",
    temperature: float | np.ndarray = 1.0,
) -> np.ndarray:
    """f64[N, L, L]: entry [n, i, j] compares language i of item n with its round trip through language j.

    Args:
      scores: [N, L, K] sums of log-probabilities, nats.
      mask: bool[N, L, K]; a language without any candidate of an item is absent from it.
      kind: one of `DIVERGENCES`. kl, reverse_kl and jensen_shannon are in nats.
      temperature: T, one for all, or [L, L] as `fit_temperatures` gives it.

    Returns:
      0 for i = j; NaN where a language is absent or fewer than two candidates are shared (nothing is compared).
    """
    scores, mask = _checked(scores, mask, kind)
    languages = scores.shape[1]
    temperature = np.asarray(temperature, np.float64)
    if temperature.shape not in ((), (languages, languages)):
        raise ValueError(
            f"temperature must be one number or [{languages}, {languages}], not {list(temperature.shape)}"
        )
    if (temperature < 0).any() or not temperature.ndim and np.isnan(temperature):
        raise ValueError(f"temperature must be 0 or more, not {temperature.min():g}")
    first, second = _ordered_pairs(languages)
    if temperature.ndim:
        temperature = np.nan_to_num(temperature[first, second])  # NaN: no item has the pair
    values = np.full((len(scores), languages, languages), np.nan)
    values[:, first, second] = _each(scores, mask, kind, first, second, temperature, _value)
    compared = mask.any(2) & (shared_candidates(mask).sum(1) >= 2)[:, None]
    values[:, np.arange(languages), np.arange(languages)] = np.where(compared, 0.0, np.nan)
    return values


def fit_temperatures(
    scores: np.ndarray, mask: np.ndarray | None = None, kind: str = "jensen_shannon"
) -> np.ndarray:
    """f64[L, L]: the T in [0, 1024] of each ordered pair that minimises its mean divergence over items.

    The best of a coarse grid is refined to a root of the derivative, for all pairs at once, to seven digits.
    (KL is convex in T; for the others the grid guards against another minimum.) Ones on the diagonal, NaN for
    pairs without an item. T = 0 is a round trip that says nothing, 1024 one whose first answer is all that counts.

    Arguments as for `divergences`.
    """
    scores, mask = _checked(scores, mask, kind)
    first, second = _ordered_pairs(scores.shape[1])

    def mean(pairs, temperature, what) -> np.ndarray:
        values = _each(scores, mask, kind, first[pairs], second[pairs], temperature, what)
        return mean_known(values, axis=0)

    values = np.stack([mean(slice(None), t, _value) for t in _GRID])
    known = ~np.isnan(values[0])
    best = np.argmin(np.where(known, values, 0.0), axis=0)
    found = np.where(known, _GRID[best], np.nan)
    # The minimum lies beside the grid's best, on the side to which the mean falls.
    slope = mean(slice(None), np.nan_to_num(found), _slope)
    ends = np.stack([_GRID[np.maximum(best - 1, 0)], _GRID[np.minimum(best + 1, len(_GRID) - 1)]])
    slopes = np.stack([mean(slice(None), end, _slope) for end in ends])
    rises = (slope > 0).astype(int)
    ends[rises, np.arange(len(first))], slopes[rises, np.arange(len(first))] = found, slope
    # Without a change of sign the grid's best stands: it is an end of the range.
    todo = np.flatnonzero((slopes[0] < 0) & (slopes[1] > 0))
    if len(todo):
        from scipy.optimize.elementwise import find_root  # half a second, which few need

        root = find_root(
            lambda temperature, pairs: mean(pairs, temperature, _slope),
            tuple(ends[:, todo]),
            args=(todo,),
            tolerances={"xrtol": _TOLERANCE},
        )
        found[todo] = root.x
    fitted = np.eye(scores.shape[1])
    fitted[first, second] = found
    return fitted


def both_ways(values: np.ndarray) -> np.ndarray:
    """[N, L, L] -> f64[N, P]: the mean of the two directions of each pair, in the order of `language_pairs(L)`."""
    first, second = language_pairs(values.shape[1])
    return (values[:, first, second] + values[:, second, first]) / 2


def tolerance_curve(values: np.ndarray, epsilons: np.ndarray) -> np.ndarray:
    """f64[E, ...]: the share of items whose divergence is at most epsilon.

    `values` [N, ...] with NaN left out; `epsilons` [E]. NaN where no item is known.
    """
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    return np.stack([mean_known(np.where(known, values <= e, np.nan), axis=0) for e in np.asarray(epsilons)])


def tolerance_area(values: np.ndarray, reach: float) -> np.ndarray:
    """f64[...]: the area under the tolerance curve over 0..reach, divided by `reach`: 1 is exact consistency.

    Exact: mean over items of max(0, 1 - value / reach). Where `reach` bounds the divergence it is
    1 - mean / reach. `values` [N, ...], NaN left out.
    """
    if not reach > 0:
        raise ValueError(f"reach must be greater than 0, not {reach}")
    return mean_known(np.maximum(1 - np.asarray(values, np.float64) / reach, 0.0), axis=0)


# ------------------------------------------------------------------------------------------------- the six divergences
# Each from log p and log q (both 0, and p = q = 0, outside the mask): the terms whose sum is the divergence, and
# q * dD/dq, from which its derivative by T follows: dq/dT = q * (l - E_q l).
def _kl(p, log_p, q, log_q):
    return p * (log_p - log_q), lambda: -p


def _reverse_kl(p, log_p, q, log_q):
    terms = q * (log_q - log_p)
    return terms, lambda: terms


def _jensen_shannon(p, log_p, q, log_q):
    log_m = np.log(np.maximum((p + q) / 2, np.finfo(np.float64).tiny))
    of_q = q * (log_q - log_m) / 2
    return p * (log_p - log_m) / 2 + of_q, lambda: of_q


def _total_variation(p, log_p, q, log_q):
    return np.abs(p - q) / 2, lambda: q * np.sign(q - p) / 2


def _squared_hellinger(p, log_p, q, log_q):
    root_p, root_q = np.sqrt(p), np.sqrt(q)
    return (root_p - root_q) ** 2 / 2, lambda: -root_p * root_q / 2


def _chi_squared(p, log_p, q, log_q):
    excess = p * np.expm1(np.minimum(log_p - log_q, _LARGEST))
    return excess, lambda: -excess - p


_FORMULAS = {
    "kl": _kl,
    "reverse_kl": _reverse_kl,
    "jensen_shannon": _jensen_shannon,
    "total_variation": _total_variation,
    "squared_hellinger": _squared_hellinger,
    "chi_squared": _chi_squared,
}
DIVERGENCES = tuple(_FORMULAS)


def _value(terms, pull, q, log_p):
    return np.maximum(terms.sum(-1), 0.0)


def _slope(terms, pull, q, log_p):
    """By T of the round trip softmax(T * log_p)."""
    return (pull() * (log_p - (q * log_p).sum(-1, keepdims=True))).sum(-1)


def _each(scores, mask, kind, first, second, temperature, what) -> np.ndarray:
    """f64[N, D]: values, or slopes by T, of every item and each of D ordered pairs; T one number or [D]."""
    out = np.empty((len(scores), len(first)))
    step = max(1, _CHUNK // max(1, len(first) * scores.shape[2]))
    for start in range(0, len(scores), step):
        chunk = slice(start, start + step)
        present = mask[chunk].any(2)
        shared = shared_candidates(mask[chunk])
        cells = present[:, :, None] & shared[:, None, :]
        log_p = log_probabilities(scores[chunk], cells)
        if np.ndim(temperature):
            log_q = log_softmax(temperature[:, None] * log_p[:, second], cells[:, second])
        else:
            log_q = log_softmax(temperature * log_p, cells)[:, second]
        p, q = np.exp(log_p) * cells, np.exp(log_q) * cells[:, second]
        terms, pull = _FORMULAS[kind](p[:, first], log_p[:, first], q, log_q)
        known = present[:, first] & present[:, second] & (shared.sum(1) >= 2)[:, None]
        out[chunk] = np.where(known, what(terms, pull, q, log_p[:, second]), np.nan)
    return out


def _ordered_pairs(languages: int) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero(~np.eye(languages, dtype=bool))


def _checked(scores, mask, kind) -> tuple[np.ndarray, np.ndarray]:
    if kind not in _FORMULAS:
        raise ValueError(f"unknown divergence {kind!r}; choose from {', '.join(DIVERGENCES)}")
    return checked_scores(scores, mask)
