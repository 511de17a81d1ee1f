"""RankC: do two languages rank the same candidates alike? And CLC, its mean over items and language pairs.

    rankc(a, b) = sum_j w_j |top_j(a) & top_j(b)| / j,    j = 1..K
    softmax: w_j = exp(K - j + 1) / sum,   norm1: w_j ~ K - j + 1,   norm2: w_j ~ (K - j + 1)^2

Ties. Where scores are equal the ranking is not determined, and an order by index would reward languages for
a habit of the data file. Here a tie is broken uniformly at random, independently in the two languages, and
rankc is the exact expectation over these orders. Candidate k is in the top j of a language with probability

    P_j(k) = min(1, max(0, (j - g_k) / t_k)),    g_k candidates score higher, t_k the same (k included),

and E|top_j(a) & top_j(b)| = sum_k P_j^a(k) P_j^b(k). So a language that ties all candidates stands at the
chance level with every language, itself included, and rankc(a, a) = 1 exactly where a has no ties.

Sources: RankC and its weights, arXiv 2310.10378; CLC = 100 * RankC over language pairs, arXiv 2603.04678.
Floor, chance level and the rule for ties are this project's derivations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from consistency_jax.metrics.arrays import checked_scores, mean_known

WEIGHTS = ("softmax", "norm1", "norm2")

# Items at once: with 26 languages and 10 candidates the overlaps of a chunk take 28 MB.
_CHUNK = 512


def rankc(
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    mask: np.ndarray | None = None,
    weights: str = "softmax",
) -> np.ndarray:
    """RankC of every item: f64[N], from the floor (see `floor`) to 1, higher is more alike. Symmetric.

    Args:
      scores_a: [N, K], higher is better; the scores of one language.
      scores_b: [N, K], the other language's, candidates in the same order.
      mask: bool[N, K], the candidates that exist (items may have fewer than K); all by default.
      weights: "softmax" (published), "norm1" or "norm2".

    Returns:
      f64[N]; NaN for an item without candidates.

    Raises:
      ValueError: for shapes that differ, unknown weights, or a NaN score of a candidate that exists.
    """
    scores_a, scores_b = np.asarray(scores_a), np.asarray(scores_b)
    if scores_a.ndim != 2 or scores_a.shape != scores_b.shape:
        raise ValueError(
            f"rankc: both scores must have one shape [items, candidates], not {list(scores_a.shape)} "
            f"and {list(scores_b.shape)}"
        )
    scores = np.stack([scores_a, scores_b], axis=1)
    if mask is not None:
        mask = np.asarray(mask, bool)
        if mask.shape != scores_a.shape:
            raise ValueError(f"rankc: mask must have shape {list(scores_a.shape)}, not {list(mask.shape)}")
        mask = np.repeat(mask[:, None, :], 2, axis=1)
    return rankc_of_pairs(scores, mask, weights)[:, 0]


def rankc_of_pairs(
    scores: np.ndarray, mask: np.ndarray | None = None, weights: str = "softmax"
) -> np.ndarray:
    """RankC of every item and every two languages: f64[N, P], the pairs in the order of `language_pairs(L)`.

    Args:
      scores: [N, L, K], higher is better.
      mask: bool[N, L, K]; a language without any candidate of an item is absent from it. A candidate counts
        where all languages present have it.
      weights: as for `rankc`.

    Returns:
      f64[N, P]; NaN where a language of the pair is absent or no candidate is shared.
    """
    scores, mask = checked_scores(scores, mask)
    table = _weight_table(scores.shape[2], weights)
    depth = np.arange(1, scores.shape[2] + 1)[:, None]
    first, second = language_pairs(scores.shape[1])
    values = np.empty((len(scores), len(first)))
    for start in range(0, len(scores), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        present = mask[chunk].any(2)
        shared = shared_candidates(mask[chunk])
        top = _top_chances(scores[chunk], present[:, :, None] & shared[:, None, :])
        overlap = (top @ top.transpose(0, 1, 3, 2))[:, :, first, second]
        # Summing what is missing, not what is there, makes equal rankings exactly 1.
        missing = table[shared.sum(1)][:, :, None] * (1 - overlap / depth)
        known = present[:, first] & present[:, second] & shared.any(1)[:, None]
        values[chunk] = np.where(known, 1 - missing.sum(1), np.nan)
    return values


def floor(candidates: int | np.ndarray, weights: str = "softmax") -> np.ndarray:
    """The least RankC that K candidates allow, two opposite rankings: f64 of the shape of `candidates`."""
    return _for_counts(candidates, weights, lambda j, k: np.maximum(2 * j - k, 0) / j)


def chance(candidates: int | np.ndarray, weights: str = "softmax") -> np.ndarray:
    """The expected RankC of two random rankings of K candidates. f64 of the shape of `candidates`."""
    return _for_counts(candidates, weights, lambda j, k: j / k)


def chance_corrected(
    values: np.ndarray, candidates: int | np.ndarray, weights: str = "softmax"
) -> np.ndarray:
    """(RankC - chance) / (1 - chance): 1 is the same ranking, 0 what random rankings give.

    `candidates` is the number of candidates of each item, broadcast against `values`. NaN for one candidate,
    where there is nothing to rank.
    """
    values, level = np.broadcast_arrays(np.asarray(values, np.float64), chance(candidates, weights))
    corrected = np.full(values.shape, np.nan)
    return np.divide(values - level, 1 - level, out=corrected, where=level < 1 - 1e-9)


@dataclass(frozen=True)
class CLC:
    """Crosslingual consistency of a table, 0..100.

    matrix: f64[L, L], mean RankC of each two languages; 100 on the diagonal by definition; NaN where no item
      has both languages.
    all_pairs: mean of the matrix over all pairs of different languages; NaN if there is none.
    anchor_pairs: mean over the pairs that hold the anchor language (English); NaN where it is not given.
    """

    matrix: np.ndarray
    all_pairs: float
    anchor_pairs: float


def clc(
    scores: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    languages: Sequence[str] | None = None,
    anchor: str = "en",
    weights: str = "softmax",
    corrected: bool = False,
) -> CLC:
    """Mean RankC, times 100, of every two languages, over all pairs, and over the pairs with English.

    Items with fewer than two candidates are left out: they rank nothing.

    Args:
      scores: [N, L, K], higher is better.
      mask: bool[N, L, K], as for `rankc_of_pairs`.
      languages: L names, to find the anchor; without them, or without it among them, `anchor_pairs` is NaN.
      anchor: the language whose pairs are also reported apart.
      weights: as for `rankc`.
      corrected: correct every item for chance, by its own number of candidates.

    Raises:
      ValueError: another number of names than of languages.
    """
    scores, mask = checked_scores(scores, mask)
    values = clc_values(scores, mask, weights=weights, corrected=corrected)
    means = mean_known(values, axis=0)
    count = scores.shape[1]
    names = list(languages if languages is not None else ())
    if names and len(names) != count:
        raise ValueError(f"languages are {len(names)} names, and the scores have {count}")
    position = names.index(anchor) if anchor in names else None
    return CLC(
        matrix=pair_matrix(means, count, diagonal=100.0),
        all_pairs=float(mean_known(means, axis=-1)),
        anchor_pairs=float(mean_known(means[..., anchor_pairs(count, position)], axis=-1)),
    )


def clc_values(
    scores: np.ndarray, mask: np.ndarray, *, weights: str = "softmax", corrected: bool = False
) -> np.ndarray:
    """f64[N, P]: 100 * RankC of every item and language pair; NaN where there is nothing to compare."""
    values = rankc_of_pairs(scores, mask, weights)
    count = shared_candidates(mask).sum(1)
    if corrected:
        values = chance_corrected(values, np.maximum(count, 1)[:, None], weights)
    return np.where((count >= 2)[:, None], 100 * values, np.nan)


def language_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices (first < second) of all pairs of `count` languages, P = count * (count - 1) / 2 of each."""
    return np.triu_indices(count, 1)


def anchor_pairs(count: int, position: int | None) -> np.ndarray:
    """bool[P]: the language pairs that hold the language at `position`; none of them for None."""
    first, second = language_pairs(count)
    if position is None:
        return np.zeros(len(first), bool)
    return (first == position) | (second == position)


def pair_matrix(values: np.ndarray, count: int, diagonal: float) -> np.ndarray:
    """[..., P] -> the symmetric matrices [..., count, count] with that diagonal."""
    first, second = language_pairs(count)
    matrix = np.full((*values.shape[:-1], count, count), diagonal, np.float64)
    matrix[..., first, second] = matrix[..., second, first] = values
    return matrix


def shared_candidates(mask: np.ndarray) -> np.ndarray:
    """bool[N, L, K] -> bool[N, K]: the candidates that all languages present in an item have."""
    present = mask.any(2)
    return (mask | ~present[:, :, None]).all(1) & present.any(1, keepdims=True)


def _top_chances(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """f64[n, J, L, K]: P_j(k), the chance that candidate k is among the top j = 1..K of a language."""
    other, own = scores[..., None, :], scores[..., :, None]
    counted = mask[..., None, :]
    higher = ((other > own) & counted).sum(-1)
    tied = np.maximum(((other == own) & counted).sum(-1), 1)
    depth = np.arange(1, scores.shape[-1] + 1)[:, None, None]
    chances = np.clip((depth - higher[:, None]) / tied[:, None], 0, 1)
    return chances * mask[:, None]


def _weight_table(longest: int, weights: str) -> np.ndarray:
    """f64[K + 1, K]: row k holds the weights w_1..w_k of an item with k candidates, then zeros."""
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, not {weights!r}")
    table = np.zeros((longest + 1, longest))
    for k in range(1, longest + 1):
        place = np.arange(k, 0, -1, dtype=np.float64)
        raw = {"softmax": np.exp(place - k), "norm1": place, "norm2": place**2}[weights]
        table[k, :k] = raw / raw.sum()
    return table


def _for_counts(candidates, weights, share) -> np.ndarray:
    """sum_j w_j share(j, K) for every K in `candidates`."""
    candidates = np.asarray(candidates)
    if candidates.size and candidates.min() < 1:
        raise ValueError(f"a ranking needs at least one candidate, not {candidates.min()}")
    longest = int(candidates.max(initial=1))
    depth = np.arange(1, longest + 1)
    counts = np.arange(1, longest + 1)[:, None]
    levels = (_weight_table(longest, weights)[1:] * np.minimum(share(depth, counts), 1)).sum(1)
    return levels[candidates - 1]
