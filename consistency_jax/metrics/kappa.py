"""Agreement beyond chance: how much more alike do languages answer than they would anyway?

All have one form, (observed - expected) / (1 - expected), and differ in what they expect: 1 is full agreement, 0 what
chance gives, below 0 less than that. None is a mean over items, each is a function of such means. So a figure comes in
two halves: `*_parts` gives what is averaged, one row an item, and `*_of` makes the figure of the means; between them
stands any mean over items, resampled ones too. `capa`, `fleiss_kappa` and `krippendorff_alpha` are both at once.

Where answers tie, parts are expectations over even draws among them.

Sources: CAPA, arXiv 2502.04313, between languages in arXiv 2509.04032; Fleiss 1971; Krippendorff 2011. Several right
candidates in CAPA are this project's derivation: two that are right by chance name the same one in 1 of R cases.
"""

from collections.abc import Callable

import numpy as np

from consistency_jax.metrics.accuracy import right_cells, top_choice
from consistency_jax.metrics.arrays import checked_scores
from consistency_jax.metrics.bootstrap import weighted_means
from consistency_jax.metrics.distribution import log_probabilities
from consistency_jax.metrics.rankc import language_pairs, shared_candidates


def capa(
    scores: np.ndarray, gold: np.ndarray, mask: np.ndarray | None = None, *, probabilities: bool = False
) -> np.ndarray:
    """f64[P]: agreement of each two languages beyond what their accuracies give, -1..1; pairs as `language_pairs`.

    Expected: each is right as often as it is, and one that is wrong names any wrong candidate alike,
    a * b + (1 - a) * (1 - b) * mean(1 / (K - 1)). NaN where both are always right, for then nothing can be told.

    Args:
      scores: [N, L, K], higher is better; gold: as `correct` takes it; mask: bool[N, L, K].
      probabilities: of the whole distributions that log-probabilities `scores` stand for, not of the first answers.
    """
    return _of(capa_of, capa_parts(scores, gold, mask, probabilities=probabilities))


def capa_parts(
    scores: np.ndarray, gold: np.ndarray, mask: np.ndarray | None = None, *, probabilities: bool = False
) -> np.ndarray:
    """f64[N, 5, P]: same answer, first right, second right, same by chance if both are right, and if both are wrong.

    NaN for items that a language lacks, without gold, or with one candidate.
    """
    scores, mask = checked_scores(scores, mask)
    chosen = np.exp(log_probabilities(scores, mask)) * mask if probabilities else top_choice(scores, mask)
    first, second = language_pairs(scores.shape[1])
    asked = shared_candidates(mask)
    right = right_cells(gold, scores.shape) & asked
    credit = (chosen * right[:, None]).sum(2)
    rights, wrongs = right.sum(1), (asked & ~right).sum(1)
    ways = [np.divide(1.0, n, out=np.zeros(len(scores)), where=n > 0)[:, None] for n in (rights, wrongs)]
    same = (chosen @ chosen.transpose(0, 2, 1))[:, first, second]
    parts = np.stack(np.broadcast_arrays(same, credit[:, first], credit[:, second], *ways), axis=1)
    there = mask.any(2)
    known = there[:, first] & there[:, second] & ((rights > 0) & (rights + wrongs > 1))[:, None]
    return np.where(known[:, None], parts, np.nan)


def capa_of(means: np.ndarray) -> np.ndarray:
    """[..., 5, P] means of `capa_parts` -> [..., P]."""
    same, first, second, both_right, both_wrong = np.moveaxis(means, -2, 0)
    return _beyond(same, first * second * both_right + (1 - first) * (1 - second) * both_wrong)


def fleiss_kappa(scores: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Agreement of all languages at once, beyond what the share of each answer gives; of the items that all have.

    Answers are told apart by their place among the candidates: A to D of an exam. `scores` [N, L, K], higher is better.
    """
    return float(_of(fleiss_of, fleiss_parts(scores, mask))[0])


def fleiss_parts(scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """f64[N, 1 + K, 1]: the shares of pairs of languages that agree, and of each answer; NaN where one is absent."""
    chosen, agreeing, there = _answers(scores, mask)
    languages = chosen.shape[1]
    shares = [agreeing / max(languages * (languages - 1), 1), chosen.sum(1) / max(languages, 1)]
    return np.where((there == languages) & (there > 1), np.concatenate(shares, axis=1), np.nan)[..., None]


def fleiss_of(means: np.ndarray) -> np.ndarray:
    """[..., 1 + K, 1] means of `fleiss_parts` -> [..., 1]."""
    return _beyond(means[..., 0, :], (means[..., 1:, :] ** 2).sum(-2))


def krippendorff_alpha(scores: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Nominal alpha of all languages at once: as `fleiss_kappa`, also of items that some languages lack, and with the
    correction for small samples."""
    return float(_of(alpha_of, alpha_parts(scores, mask))[0])


def alpha_parts(scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """f64[N, 3 + 2K, 1]: agreement, N, the number of answers, that of each answer, and what of its square is an answer
    with itself; zeros where fewer than two languages have the item."""
    chosen, agreeing, there = _answers(scores, mask)
    parts = [agreeing / np.maximum(there - 1, 1), there, chosen.sum(1), (chosen**2).sum(1)]
    counted = np.where(there > 1, np.concatenate(parts, axis=1), 0.0)
    return np.insert(counted, 1, len(counted), axis=1)[..., None]


def alpha_of(means: np.ndarray) -> np.ndarray:
    """[..., 3 + 2K, 1] means of `alpha_parts` -> [..., 1]."""
    (agreeing, items, answers), each = np.moveaxis(means[..., :3, :], -2, 0), means[..., 3:, :]
    counts, own = np.split(each * items[..., None, :], 2, axis=-2)
    total = answers * items
    with np.errstate(divide="ignore", invalid="ignore"):
        return _beyond(agreeing * items / total, (counts**2 - own).sum(-2) / (total * (total - 1)))


def _answers(scores, mask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[N, L, K] what each language answers of the candidates that another has, too, [N, 1] ordered pairs of languages
    that agree, [N, 1] how many have it. An answer that no other language could give (none, in a log) is like no other,
    in other questions too."""
    scores, mask = checked_scores(scores, mask)
    chosen = top_choice(scores, mask) * (mask.sum(1) > 1)[:, None]
    agreeing = chosen.sum(1) ** 2 - (chosen**2).sum(1)
    return chosen, agreeing.sum(1, keepdims=True), mask.any(2).sum(1, keepdims=True)


def _beyond(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    room = 1 - expected
    return np.divide(observed - expected, room, out=np.full(np.shape(room), np.nan), where=room > 1e-12)


def _of(made: Callable[[np.ndarray], np.ndarray], parts: np.ndarray) -> np.ndarray:
    flat = parts.reshape(len(parts), int(np.prod(parts.shape[1:])))
    return made(weighted_means(flat).reshape(parts.shape[1:]))
