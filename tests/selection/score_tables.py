"""Random tables of scores, as selections take them."""

import numpy as np


def random_table(seed, items=200, languages=5, candidates=4):
    """Scores of few values (so that many are tied), with languages and last candidates missing."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, candidates + 1, items)
    mask = np.zeros((items, languages, candidates), bool)
    for cells, k in zip(mask, count, strict=True):
        cells[rng.random(languages) < 0.8, :k] = True
    gold = np.where(rng.random(items) < 0.8, rng.integers(0, count), -1)
    return rng.integers(0, 5, mask.shape).astype(float), mask, gold
