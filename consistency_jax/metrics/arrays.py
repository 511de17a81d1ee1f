"""What every metric takes and gives: scores with a mask in, values that are NaN where nothing is known out."""

import numpy as np


def checked_scores(scores: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """scores f64[N, L, K] and mask bool[N, L, K], or a ValueError that says what is wrong."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 3:
        raise ValueError(f"scores must be [items, languages, candidates], not {list(scores.shape)}")
    mask = np.ones(scores.shape, bool) if mask is None else np.asarray(mask, bool)
    if mask.shape != scores.shape:
        raise ValueError(f"mask must have shape {list(scores.shape)}, not {list(mask.shape)}")
    if bad := np.argwhere(np.isnan(scores) & mask).tolist():
        raise ValueError(f"{len(bad)} scores are NaN, the first at [item, language, candidate] = {bad[0]}")
    return scores, mask


def mean_known(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over the entries that are not NaN; NaN, without a warning, where there is none."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def variance_known(values: np.ndarray) -> np.ndarray:
    """Variance over the last axis of the entries that are not NaN."""
    return mean_known((values - mean_known(values, axis=-1)[..., None]) ** 2, axis=-1)
