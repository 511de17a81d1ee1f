"""Response change: which answers are no longer those of the base, and what became of them.

Where answers tie, `changed_answers` is the least share of draws that must change to turn one distribution of the
answer into the other, and the parts here are those of that least change: they add up to it.

`adopted` asks whose answer a language took: of the questions on which two languages differed, how often does one now
say what the other said before? (This project's definition.)
"""

from dataclasses import dataclass

import numpy as np

from consistency_jax.metrics.accuracy import correct, right_cells, top_choice
from consistency_jax.metrics.agreement import changed_answers
from consistency_jax.metrics.arrays import checked_scores


@dataclass(frozen=True)
class Response:
    """f64[N, L] each, 0..1: changed = the sum of the others; NaN where it cannot be known.

    changed: the answer is another than the base's.
    to_right: it was wrong and is right; to_wrong: it was right and is wrong; to_other_wrong: wrong as before;
    to_other_right: another one of several right ones.
    """

    changed: np.ndarray
    to_right: np.ndarray
    to_wrong: np.ndarray
    to_other_wrong: np.ndarray
    to_other_right: np.ndarray


def responses(
    base: np.ndarray, scores: np.ndarray, gold: np.ndarray, mask: np.ndarray | None = None
) -> Response:
    """What became of every item's answer in every language.

    `base`, `scores` [N, L, K], higher is better; `gold` as `accuracy` takes it, where it is unknown only `changed` is
    known; `mask` bool[N, L, K].
    """
    changed = changed_answers(base, scores, mask)
    gain = correct(scores, gold, mask) - correct(base, gold, mask)
    to_right, to_wrong = np.maximum(gain, 0.0), np.maximum(-gain, 0.0)
    moved = np.where(
        right_cells(gold, scores.shape)[:, None], top_choice(scores, mask) - top_choice(base, mask), 0.0
    )
    to_other_right = np.minimum(np.maximum(moved, 0.0).sum(2), np.maximum(-moved, 0.0).sum(2))
    to_other_wrong = np.maximum(changed - to_right - to_wrong - to_other_right, 0.0)
    to_other_right = np.where(np.isnan(to_other_wrong), np.nan, to_other_right)
    return Response(changed, to_right, to_wrong, to_other_wrong, to_other_right)


def adopted(
    base: np.ndarray, scores: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Did language i take the answer that language j had, where theirs differed? Two f64[N, L, L], entry [:, i, j].

    Args:
      base, scores: [N, L, K], higher is better; before and after.
      mask: bool[N, L, K].

    Returns:
      (values, weights): i's answer now is j's from before, 0..1, NaN where a language lacks the item; and the chance
      that the two differed before, 0 on the diagonal. The share over items is sum(weight * value) / sum(weight).
    """
    scores, mask = checked_scores(scores, mask)
    before, after = top_choice(base, mask), top_choice(scores, mask)
    differed = 1 - before @ before.transpose(0, 2, 1)
    there = mask.any(2)
    both = there[:, :, None] & there[:, None, :] & ~np.eye(there.shape[1], dtype=bool)
    weights = np.where(both, np.maximum(differed, 0.0), 0.0)
    # Before, i said something else than j's answer k with chance 1 - before_i(k).
    taken = (after * (1 - before)) @ before.transpose(0, 2, 1)
    values = np.divide(taken, weights, out=np.zeros(taken.shape), where=weights > 0)
    return np.where(both, values, np.nan), weights
