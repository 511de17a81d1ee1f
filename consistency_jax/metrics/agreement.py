"""Agreement of answers: what languages say first, whatever they rank below.

Every figure starts from `top_choice`, the distribution p_l(k) of the answer of language l, which is one
candidate or an even draw among tied ones; where answers tie, a figure is its expectation over independent
draws. Values are given for each item, 0..1, so that means and bootstrap intervals are taken elsewhere; NaN
marks an item that a figure does not speak about.
"""

import numpy as np

from consistency_jax.metrics.accuracy import correct, right_cells, top_choice
from consistency_jax.metrics.arrays import checked_scores
from consistency_jax.metrics.rankc import language_pairs


def top1_agreement(scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """f64[N, P]: do two languages give the same answer? Pairs in the order of `language_pairs(L)`.

    `scores` [N, L, K], higher is better; `mask` bool[N, L, K].
    """
    scores, mask = checked_scores(scores, mask)
    choice, present = top_choice(scores, mask), mask.any(2)
    first, second = language_pairs(scores.shape[1])
    same = (choice @ choice.transpose(0, 2, 1))[:, first, second]
    return np.where(present[:, first] & present[:, second], same, np.nan)


def drawn_agreement(p: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """f64[N, P]: the chance that answers that two languages draw are the same, sum_k p_a(k) p_b(k).

    `p` [N, L, K], distributions over candidates, of what is in `mask`.
    """
    p, present = np.where(mask, p, 0.0), mask.any(2)
    first, second = language_pairs(p.shape[1])
    same = (p @ p.transpose(0, 2, 1))[:, first, second]
    return np.where(present[:, first] & present[:, second], same, np.nan)


def agreement_if_either_right(
    scores: np.ndarray, gold: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Correct overlap: of the items that at least one language of a pair gets right, those that both do.

    The published overlap of correct answers, |R_a & R_b| / |R_a | R_b|. Where one candidate is right, this is also the
    agreement among such items, since candidates are aligned; of several right ones, two languages may both be right
    with different ones.

    Returns (both right, either right), each f64[N, P], NaN where the gold is unknown. The figure is the ratio
    of their means: the share of `both` among the items with `either`.
    """
    credit = correct(scores, gold, mask)
    first, second = language_pairs(credit.shape[1])
    both = credit[:, first] * credit[:, second]
    return both, credit[:, first] + credit[:, second] - both


def all_right(scores: np.ndarray, gold: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """f64[N]: all languages that have the item get it right. NaN with fewer than two, or without gold."""
    credit = correct(scores, gold, mask)
    known = ~np.isnan(credit)
    return np.where(known.sum(1) >= 2, np.where(known, credit, 1.0).prod(1), np.nan)


def all_agree(scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """f64[N]: all languages that have the item give the same answer. NaN with fewer than two."""
    choice, present = _choice_or_one(scores, mask)
    return np.where(present.sum(1) >= 2, choice.prod(1).sum(-1), np.nan)


def all_agree_but_wrong(scores: np.ndarray, gold: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """f64[N]: all languages that have the item give the same wrong answer. NaN as for `all_right`."""
    choice, present = _choice_or_one(scores, mask)
    right = right_cells(gold, choice.shape)
    known = right.any(1) & (present.sum(1) >= 2)
    return np.where(known, (choice.prod(1) * ~right).sum(-1), np.nan)


def changed_answers(base: np.ndarray, scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """f64[N, L]: does the answer differ from the base's? NaN where a language lacks the item.

    Half the sum of |p - p_base|: 0 for the same answer or the same tie, 1 for another answer.
    """
    scores, mask = checked_scores(scores, mask)
    moved = np.abs(top_choice(scores, mask) - top_choice(base, mask)).sum(-1) / 2
    return np.where(mask.any(2), moved, np.nan)


def _choice_or_one(scores, mask) -> tuple[np.ndarray, np.ndarray]:
    """The choices f64[N, L, K] with ones for languages absent, so that products run over those present."""
    scores, mask = checked_scores(scores, mask)
    present = mask.any(2)
    return np.where(present[:, :, None], top_choice(scores, mask), 1.0), present
