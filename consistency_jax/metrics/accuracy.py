"""Accuracy: the gold candidate has the highest score.

Where several candidates share the highest score, the answer is drawn among them: the credit is the
expectation, 1 / (number tied) if the gold is one of them. An order by index would instead reward the place of
the gold in the data file. All figures are shares, 0..1; items whose gold is unknown (-1) are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from consistency_jax.metrics.arrays import checked_scores, mean_known, variance_known


def top_choice(scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """f64[N, L, K]: the chance that each candidate is the answer: 1 for the best, shared equally in a tie.

    `scores` [N, L, K], higher is better; `mask` bool[N, L, K]. Zeros where a language is absent.
    """
    scores, mask = checked_scores(scores, mask)
    best = np.where(mask, scores, -np.inf).max(-1, keepdims=True)
    top = mask & (scores == best)
    return top / np.maximum(top.sum(-1, keepdims=True), 1)


def correct(scores: np.ndarray, gold: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """f64[N, L]: the credit of every item and language, 0..1.

    NaN where there is none to give: the gold is unknown (-1), or the language lacks the item or its gold.
    `gold` i[N], an index into the candidates.
    """
    scores, mask = checked_scores(scores, mask)
    gold = _checked_gold(gold, scores.shape)
    place = np.maximum(gold, 0)[:, None, None]
    credit = np.take_along_axis(top_choice(scores, mask), place, axis=2)[:, :, 0]
    known = np.take_along_axis(mask, place, axis=2)[:, :, 0] & (gold >= 0)[:, None]
    return np.where(known, credit, np.nan)


@dataclass(frozen=True)
class Accuracy:
    """Shares, 0..1, NaN where nothing is known.

    per_language: f64[L].
    anchor: the anchor language's (English).
    mean_others: mean over the other languages.
    variance: of `per_language` over all languages (mean squared distance to their mean).
    """

    per_language: np.ndarray
    anchor: float
    mean_others: float
    variance: float


def accuracy(
    scores: np.ndarray,
    gold: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    languages: Sequence[str] | None = None,
    anchor: str = "en",
) -> Accuracy:
    """Accuracy per language, of English, mean of the others, and its variance over languages.

    `scores` [N, L, K], higher is better; `gold` i[N], -1 unknown; `mask` bool[N, L, K]; `languages` L names.
    Without the anchor among them `anchor` is NaN and `mean_others` is the mean over all.
    """
    per_language = mean_known(correct(scores, gold, mask), axis=0)
    names = list(languages or ())
    position = names.index(anchor) if anchor in names else None
    others = np.arange(len(per_language)) != (-1 if position is None else position)
    return Accuracy(
        per_language=per_language,
        anchor=np.nan if position is None else float(per_language[position]),
        mean_others=float(mean_known(per_language[others], axis=0)),
        variance=float(variance_known(per_language)),
    )


def _checked_gold(gold: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    gold = np.asarray(gold)
    if gold.shape != shape[:1] or not np.issubdtype(gold.dtype, np.integer):
        raise ValueError(f"gold must be {shape[0]} integers, not {gold.dtype}{list(gold.shape)}")
    if ((gold < -1) | (gold >= shape[2])).any():
        raise ValueError(f"gold must lie in -1..{shape[2] - 1}; found values {gold.min()} to {gold.max()}")
    return gold
