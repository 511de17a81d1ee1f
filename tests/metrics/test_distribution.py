"""Scores as distributions over an item's candidates."""

import numpy as np
import pytest

from consistency_jax.metrics.distribution import entropy, log_probabilities


def test_entropy_of_known_distributions():
    scores = np.log([[[0.5, 0.25, 0.25], [1.0, 1.0, 1.0]]])
    np.testing.assert_allclose(entropy(scores)[0], [1.5 * np.log(2), np.log(3)])
    mask = np.array([[[True, True, False], [False, False, False]]])
    values = entropy(scores, mask)[0]
    assert values[0] == pytest.approx(-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)))
    assert np.isnan(values[1])
    assert entropy(np.array([[[900.0, 0.0]]]))[0, 0] == 0


def test_log_probabilities_are_those_of_a_softmax_over_the_mask():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20, 3, 5)) * 30 - 500  # sums over long answers: exp of them is 0
    mask = rng.random(scores.shape) < 0.7
    logp = log_probabilities(scores, mask)
    for cell in np.ndindex(scores.shape[:2]):
        here = scores[cell][mask[cell]]
        expected = here - np.logaddexp.reduce(here) if len(here) else here
        np.testing.assert_allclose(logp[cell][mask[cell]], expected, atol=1e-9)
        assert not logp[cell][~mask[cell]].any()


def test_an_infinite_score_has_no_distribution():
    with pytest.raises(ValueError, match=r"1 scores are infinite, .* = \[0, 0, 1\]"):
        log_probabilities(np.array([[[0.0, -np.inf, -np.inf]]]), np.array([[[True, True, False]]]))
