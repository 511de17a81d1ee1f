"""Accuracy: the gold candidate, or one of several that are right, has the highest score.

Where several candidates share the highest score, the answer is drawn among them: the credit is the expectation, the
share of right ones among those tied. An order by index would instead reward the place of the gold in the data file. All
figures are shares, 0..1; items whose gold is unknown are left out.

`gold` is everywhere i[N], an index into the candidates, -1 unknown, or bool[N, K], which candidates are right.
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

    NaN where there is none to give: the gold is unknown, or the language lacks the item or all that is right.
    """
    scores, mask = checked_scores(scores, mask)
    right = right_cells(gold, scores.shape)[:, None] & mask
    return np.where(right.any(2), (top_choice(scores, mask) * right).sum(2), np.nan)


def mother_tongue_effect(
    scores: np.ndarray,
    gold: np.ndarray,
    origin: np.ndarray,
    anchor: int | None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """f64[N, L]: credit of an item in the language it comes from, less its credit in the anchor; NaN in all others.

    `origin` i[N], the language an item comes from, -1 unknown; `anchor` the place of English, whose own column is NaN.
    Source: arXiv 2504.10356, of written answers; here of candidates.
    """
    credit = correct(scores, gold, mask)
    if anchor is None:
        return np.full(credit.shape, np.nan)
    own = np.arange(credit.shape[1]) == np.asarray(origin)[:, None]
    own[:, anchor] = False
    return np.where(own, credit - credit[:, anchor, None], np.nan)


def labelled(gold: np.ndarray) -> np.ndarray:
    """bool[N]: of which items something is known to be right."""
    gold = np.asarray(gold)
    return gold.any(1) if gold.ndim == 2 else gold >= 0


def right_cells(gold: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """bool[N, K]: which candidates are right, of scores of this shape [N, L, K].

    Raises:
      ValueError: gold of another kind or shape, or outside -1..K-1.
    """
    gold = np.asarray(gold)
    if gold.dtype == bool and gold.shape == (shape[0], shape[2]):
        return gold
    if gold.shape != shape[:1] or not np.issubdtype(gold.dtype, np.integer):
        raise ValueError(
            f"gold must be {shape[0]} integers or bool[{shape[0]}, {shape[2]}], not {gold.dtype}{list(gold.shape)}"
        )
    if ((gold < -1) | (gold >= shape[2])).any():
        raise ValueError(f"gold must lie in -1..{shape[2] - 1}; found values {gold.min()} to {gold.max()}")
    return np.arange(shape[2]) == gold[:, None]


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

    `scores` [N, L, K], higher is better; `mask` bool[N, L, K]; `languages` L names.
    Without the anchor among them `anchor` is NaN and `mean_others` is the mean over all. ValueError for another number
    of names than of languages.
    """
    per_language = mean_known(correct(scores, gold, mask), axis=0)
    names = list(languages if languages is not None else ())
    if names and len(names) != len(per_language):
        raise ValueError(f"languages are {len(names)} names, and the scores have {len(per_language)}")
    position = names.index(anchor) if anchor in names else None
    others = np.arange(len(per_language)) != (-1 if position is None else position)
    return Accuracy(
        per_language=per_language,
        anchor=np.nan if position is None else float(per_language[position]),
        mean_others=float(mean_known(per_language[others], axis=0)),
        variance=float(variance_known(per_language)),
    )
