"""Whose answer a language took: against counts over all draws of tied answers."""

import itertools

import numpy as np

from consistency_jax.metrics import adopted


def test_equals_counts_over_all_draws_of_ties():
    rng = np.random.default_rng(0)
    base, scores = rng.integers(0, 3, (2, 40, 3, 3)).astype(float)
    mask = np.ones(base.shape, bool)
    mask[:10, :, 2] = False
    mask[10:15, 1] = False
    values, weights = adopted(base, scores, mask)

    def firsts(table, n, l):
        own = np.where(mask[n, l], table[n, l], -np.inf)
        return np.flatnonzero(mask[n, l] & (own == own.max()))

    for n, i, j in itertools.product(range(40), range(3), range(3)):
        if i == j or not (mask[n, i].any() and mask[n, j].any()):
            assert np.isnan(values[n, i, j])
            assert weights[n, i, j] == 0
            continue
        draws = list(itertools.product(firsts(base, n, i), firsts(base, n, j), firsts(scores, n, i)))
        differed = [(own, other, now) for own, other, now in draws if own != other]
        np.testing.assert_allclose(weights[n, i, j], len(differed) / len(draws), atol=1e-12)
        taken = sum(now == other for _, other, now in differed)
        np.testing.assert_allclose(weights[n, i, j] * values[n, i, j], taken / len(draws), atol=1e-12)


def test_who_keeps_its_answers_takes_none_and_who_copies_takes_all():
    base = np.eye(4)[np.array([[0, 1], [2, 3], [1, 1], [3, 0]])]
    scores = base.copy()
    scores[:, 1] = base[:, 0]  # the second language now says what the first one said
    values, weights = adopted(base, scores)
    np.testing.assert_array_equal(weights[:, 1, 0], [1, 1, 0, 1])
    np.testing.assert_array_equal(values[weights[:, 1, 0] > 0, 1, 0], 1)
    np.testing.assert_array_equal(values[:, 0, 1] * weights[:, 0, 1], 0)
