"""Do the intervals hold what they promise? Their coverage in a world where the truth is known.

The items at hand stand for the population, so the true change of a figure is the one that they give. Test sets are
drawn from them, with replacement; each gets the bootstrap interval that a report would give it, and

    coverage = share of the drawn test sets whose interval holds the true change

which is the nominal level where the intervals are right. It is lower where few items tell of a change: the percentile
interval of a test set that happens to hold none of these items is [0, 0].

This is the bootstrap of the bootstrap: Hall, "The Bootstrap and Edgeworth Expansion", 1992, section 3.11; Beran,
"Prepivoting to reduce level error of confidence sets", 1987.
"""

from collections.abc import Sequence

import numpy as np

from consistency_jax.metrics.bootstrap import interval, resampled_means, weighted_means

_ROUNDING = 1e-9  # relative to the largest value: an interval that ends at the truth holds it


def coverage(
    values: np.ndarray,
    levels: Sequence[float] = (0.95,),
    *,
    sets: int = 250,
    size: int | None = None,
    replicates: int = 400,
    seed: int = 0,
) -> np.ndarray:
    """f64[C, M], 0..1: how often the interval of each level held the true mean of each column.

    Its own standard error is sqrt(c * (1 - c) / sets): 1.4 points at 0.95 with 250 sets.

    Args:
      values: [N, M], one row an item, one column a figure: the item's paired difference; NaN where it does not speak.
      levels: C nominal levels, between 0 and 1.
      sets: test sets that are drawn.
      size: items of each; N by default.
      replicates: bootstrap samples behind the intervals of each.
      seed: of all draws.

    Returns:
      NaN for a column without any value other than one and the same: there is nothing to cover.
    """
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    least = np.min(values, axis=0, initial=np.inf, where=known)
    most = np.max(values, axis=0, initial=-np.inf, where=known)
    found = np.full((len(levels), values.shape[1]), np.nan)
    varied = np.flatnonzero(most > least)
    if not len(varied):
        return found
    values = values[:, varied]
    truth = weighted_means(values)
    slack = _ROUNDING * np.maximum(np.abs(most), np.abs(least))[varied]
    draws = np.random.default_rng([seed, len(values)])
    held = np.zeros((len(levels), len(varied)))
    told = np.zeros(len(varied))
    for _ in range(sets):
        rows, own = draws.integers(0, len(values), size or len(values)), int(draws.integers(2**32))
        samples = resampled_means(values[rows], replicates=replicates, seed=own)
        told += ~np.isnan(samples).all(0)  # a set may miss all items that speak of a column
        for c, level in enumerate(levels):
            low, high = interval(samples, level)
            held[c] += (low <= truth + slack) & (truth <= high + slack)
    found[:, varied] = np.divide(held, told, out=np.full(held.shape, np.nan), where=told > 0)
    return found
