"""chrF against sacrebleu, Spearman's correlation against scipy, cosines against their definition."""

import numpy as np
import pytest
import sacrebleu
from scipy.stats import spearmanr

from consistency_jax.metrics.bootstrap import weighted_means
from consistency_jax.metrics.written import chrf, pair_cosines, spearman_of, spearman_parts

TEXTS = [
    "Nefertiti",
    "nefertiti was a Queen of Egypt",
    "Нефертити",
    "the  Queen of Egypt",
    "18",
    "a",
    "埃及的王后",
    "",
    "Egypt, the queen of",
]


@pytest.mark.parametrize("answer", TEXTS)
def test_chrf_is_that_of_sacrebleu(answer):
    metric = sacrebleu.CHRF(lowercase=True)
    for right in TEXTS:
        if right:
            expected = metric.sentence_score(answer, [right]).score / 100
            assert chrf(answer, [right]) == pytest.approx(expected, abs=1e-12)
    assert chrf(answer, TEXTS[:4]) == max(chrf(answer, [right]) for right in TEXTS[:4])


@pytest.mark.parametrize("ties", [True, False])
def test_spearman_is_that_of_scipy(ties):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3)) + rng.normal(size=(40, 1))
    values = values.round() if ties else values
    values[rng.random(values.shape) < 0.1] = np.nan
    found = spearman_of(np.nanmean(spearman_parts(values), axis=0))
    for place, (one, two) in enumerate([(0, 1), (0, 2), (1, 2)]):
        expected = spearmanr(values[:, one], values[:, two], nan_policy="omit").statistic
        assert found[place] == pytest.approx(expected, abs=1e-12)
    constant = np.stack([np.ones(5), np.arange(5)], axis=1)
    assert np.isnan(spearman_of(spearman_parts(constant).mean(0)))


def test_questions_that_count_twice_count_twice():
    """Means over resampled items: a weight of two is the item twice, with the ranks that it had."""
    values = np.random.default_rng(1).normal(size=(6, 2))
    parts = spearman_parts(values)
    doubled = spearman_of(np.concatenate([parts, parts[:1]]).mean(0))
    weights = np.array([2, 1, 1, 1, 1, 1])[:, None]
    means = weighted_means(parts.reshape(6, -1), np.repeat(weights, 5, axis=1)).reshape(5, 1)
    np.testing.assert_allclose(spearman_of(means), doubled)


def test_cosines_of_two_languages():
    vectors = np.array([[[1.0, 0], [1, 1], [0, 2]], [[1, 0], [np.nan, np.nan], [0, 0]]])
    np.testing.assert_allclose(pair_cosines(vectors)[0], [np.sqrt(0.5), 0, np.sqrt(0.5)], atol=1e-12)
    assert np.isnan(pair_cosines(vectors)[1]).all()
