"""Groups of languages (trained, unseen, one script) and of items (a relation, a subject).

A figure of a group of languages is the mean over its pairs, or over its languages; of a group of items, the mean
over them. Both are masks or rows for the functions that take all.
"""

from collections.abc import Sequence

import numpy as np

from consistency_jax.metrics.rankc import language_pairs


def pairs_within(count: int, members: Sequence[int]) -> np.ndarray:
    """bool[P]: the pairs of `count` languages whose two languages both are among `members` (indices)."""
    inside = np.isin(np.arange(count), members)
    first, second = language_pairs(count)
    return inside[first] & inside[second]


def item_groups(names: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows of each group of items: {name: i[n]}, the largest group first, then by name."""
    labels, codes = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
    rows = np.split(
        np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=len(labels)))[:-1]
    )
    order = sorted(range(len(labels)), key=lambda n: (-len(rows[n]), labels[n]))
    return {str(labels[n]): rows[n] for n in order}
