"""Consistency of answers as they are written, without a word on which are the same: how near two languages' answers
are in a space of sentences (xSC), and whether they come near to what is right on the same questions (xAC).

Source: Qi et al., "Cross-lingual consistency ...", arXiv 2407.01358, which takes LaBSE for the space, and chrF in small
letters for nearness; chrF is that of sacrebleu.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from consistency_jax.metrics.rankc import language_pairs

ORDERS, BETA = 6, 2.0  # of chrF: the longest n-grams, and how much more recall counts


def chrf(answer: str, right: Sequence[str]) -> float:
    """0..1: the F-score of character n-grams of an answer against the nearest of the texts that are right, in small
    letters and without spaces. Orders that one of the two is too short for do not count."""
    own = _grams(answer)
    return max(_score(own, _grams(text)) for text in right)


def _grams(text: str) -> list[Counter[str]]:
    text = "".join(text.lower().split())
    return [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for n in range(1, ORDERS + 1)]


def _score(answer: Sequence[Counter[str]], right: Sequence[Counter[str]]) -> float:
    shares = [
        ((one & two).total() / one.total(), (one & two).total() / two.total())
        for one, two in zip(answer, right, strict=True)
        if one and two
    ]
    if not shares:
        return 0.0
    precision, recall = np.mean(shares, axis=0)
    below = BETA**2 * precision + recall
    return float((1 + BETA**2) * precision * recall / below) if below else 0.0


def pair_cosines(vectors: np.ndarray) -> np.ndarray:
    """f64[N, P]: cosine of each two languages' vectors, f[N, L, D]; pairs in the order of `language_pairs`. NaN where
    one is NaN or 0."""
    vectors = np.asarray(vectors, np.float64)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit = vectors / np.where(length > 0, length, np.nan)
    first, second = language_pairs(vectors.shape[1])
    return (unit[:, first] * unit[:, second]).sum(-1)


def spearman_parts(values: np.ndarray) -> np.ndarray:
    """f64[N, 5, P]: of each two languages the ranks of their values f[N, L] over items, x and y, and xx, yy, xy; what
    `spearman_of` makes Spearman's correlation of. NaN for items that one of the two lacks."""
    values = np.asarray(values, np.float64)
    first, second = language_pairs(values.shape[1])
    parts = np.full((len(values), 5, len(first)), np.nan)
    for pair, (one, two) in enumerate(zip(first, second)):
        there = np.isfinite(values[:, one]) & np.isfinite(values[:, two])
        # Around 0 and at most 1, so that sums of squares lose no digits.
        x, y = (_ranks(values[there, own]) / max(there.sum(), 1) - 0.5 for own in (one, two))
        parts[there, :, pair] = np.stack([x, y, x * x, y * y, x * y], axis=1)
    return parts


def _ranks(values: np.ndarray) -> np.ndarray:
    """Of f[N], from 1; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def spearman_of(means: np.ndarray) -> np.ndarray:
    """[..., 5, P] means of `spearman_parts` -> [..., P], -1..1. NaN where a language's values are all the same."""
    x, y, xx, yy, xy = np.moveaxis(means, -2, 0)
    spread = np.sqrt(np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0))
    return np.divide(xy - x * y, spread, out=np.full(np.shape(spread), np.nan), where=spread > 1e-9)
