"""Paired bootstrap over items: how sure is a figure, or a difference of figures?

A replicate draws as many items as there are, with replacement, and takes every figure again from the items
drawn. The draws depend on (items, replicates, seed) alone, so two tables of the same items resampled with the
same seed meet the same draws: the difference of their replicates is the paired bootstrap of the difference.
Items are drawn whole, with all their languages, because languages of one item are not independent.

A figure here is a weighted mean over items, or any function of such means (their mean over languages, their
variance, ...): `resampled_means` gives the replicates of the means, everything else is arithmetic on them.
"""

from dataclasses import dataclass

import numpy as np

# Numbers in memory at once for the draws of one chunk of replicates: 64 MB.
_CHUNK = 8_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate and its percentile interval, in the units of the values."""

    estimate: float
    low: float
    high: float


def weighted_means(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """f64[M]: the mean over items of each column of `values` [N, M]; NaN values are left out.

    With `weights` [N, M] (>= 0) it is sum(weight * value) / sum(weight).
    """
    totals, weights = _totals_and_weights(values, weights)
    return _ratio(totals.sum(0), weights.sum(0))


def resampled_means(
    values: np.ndarray, weights: np.ndarray | None = None, *, replicates: int = 2000, seed: int = 0
) -> np.ndarray:
    """f64[R, M]: `weighted_means` of R bootstrap samples of the N items.

    Args:
      values: [N, M], one row an item, one column a figure; NaN where an item does not speak about it.
      weights: [N, M] >= 0, ones by default.
      replicates: R.
      seed: of the draws, which are the same for every call with the same N, R and seed.

    Raises:
      ValueError: no replicates, or arrays that do not fit.
    """
    if replicates < 1:
        raise ValueError(f"replicates must be 1 or more, not {replicates}")
    totals, weights = _totals_and_weights(values, weights)
    if not len(totals):
        return np.full((replicates, totals.shape[1]), np.nan)
    # Most columns miss the same items, or all do: one resampled weight serves them all.
    patterns, column = weights[:, :1], np.zeros(weights.shape[1], int)
    if (weights != patterns).any():
        patterns, column = np.unique(weights, axis=1, return_inverse=True)
        column = column.ravel()
    means = np.empty((replicates, totals.shape[1]))
    start = 0
    for counts in _draws(len(totals), replicates, seed):
        stop = start + len(counts)
        means[start:stop] = _ratio(counts @ totals, (counts @ patterns)[:, column])
        start = stop
    return means


def interval(replicates: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """f64[2, ...]: the central percentile interval over axis 0 of replicates [R, ...], NaN left out."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    replicates = np.asarray(replicates, np.float64)
    bounds = np.full((2, *replicates.shape[1:]), np.nan)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    known = ~np.isnan(replicates)
    full = known.all(0)
    bounds[:, full] = np.quantile(replicates[:, full], tails, axis=0)
    for place in np.argwhere(known.any(0) & ~full):
        column = (slice(None), *place)
        bounds[column] = np.quantile(replicates[column][known[column]], tails)
    return bounds


def bootstrap_mean(
    values: np.ndarray, *, replicates: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The mean of values [N] over items (NaN left out) with its bootstrap interval."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1:
        raise ValueError(f"bootstrap_mean: values must be one number an item, not {list(values.shape)}")
    samples = resampled_means(values[:, None], replicates=replicates, seed=seed)
    low, high = interval(samples[:, 0], confidence)
    return Interval(float(weighted_means(values[:, None])[0]), float(low), float(high))


def bootstrap_delta(
    base: np.ndarray, final: np.ndarray, *, replicates: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """mean(final) - mean(base) over the same items, values [N] each, with its paired bootstrap interval."""
    base, final = np.asarray(base, np.float64), np.asarray(final, np.float64)
    if base.ndim != 1 or base.shape != final.shape:
        raise ValueError(
            f"bootstrap_delta: the same items in both, not {list(base.shape)} and {list(final.shape)}"
        )
    both = np.stack([base, final], axis=1)
    samples = resampled_means(both, replicates=replicates, seed=seed)
    low, high = interval(samples[:, 1] - samples[:, 0], confidence)
    means = weighted_means(both)
    return Interval(float(means[1] - means[0]), float(low), float(high))


def _totals_and_weights(values, weights) -> tuple[np.ndarray, np.ndarray]:
    """weight * value, with zeros for NaN, and the weights that count, both f64[N, M]."""
    values = np.asarray(values, np.float64)
    if values.ndim != 2:
        raise ValueError(f"values must be [items, figures], not {list(values.shape)}")
    known = ~np.isnan(values)
    if weights is not None:
        weights = np.asarray(weights, np.float64)
        if weights.shape != values.shape:
            raise ValueError(f"weights must have shape {list(values.shape)}, not {list(weights.shape)}")
        known &= ~np.isnan(weights)
    weights = np.where(known, 1.0 if weights is None else weights, 0.0)
    return np.where(known, values, 0.0) * weights, weights


def _draws(items: int, replicates: int, seed: int):
    """How often each item is drawn, f64[r, N], in chunks that are parts of one sequence of R replicates."""
    rng = np.random.default_rng([seed, items])
    step = max(1, _CHUNK // items)
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        drawn = rng.integers(0, items, size=(rows, items))
        drawn += items * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * items).reshape(rows, items).astype(np.float64)


def _ratio(totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    totals, weights = np.broadcast_arrays(totals, weights)
    return np.divide(totals, weights, out=np.full(totals.shape, np.nan), where=weights > 0)
