"""The bootstrap: against resampling by hand, against theory, and its pairing."""

import numpy as np
import pytest

from consistency_jax.metrics import bootstrap_delta, bootstrap_mean, interval, resampled_means, weighted_means


def test_weighted_means_leave_out_nan():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(weighted_means(values), [2, np.nan])
    weights = np.array([[1.0, 1], [3, 1], [5, 1]])
    np.testing.assert_array_equal(weighted_means(values, weights), [2.5, np.nan])


def test_every_replicate_is_the_mean_of_the_items_it_drew():
    """Columns that mark one item each tell how often it was drawn; every other mean follows from that."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 3))
    values[2:5, 1] = np.nan
    weights = rng.uniform(size=(12, 3))
    counts = resampled_means(np.eye(12), replicates=200, seed=4) * 12
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
    np.testing.assert_allclose(counts.sum(1), 12)
    samples = resampled_means(values, weights, replicates=200, seed=4)
    for replicate, drawn in zip(samples, np.round(counts).astype(int)):
        rows = np.repeat(np.arange(12), drawn)
        np.testing.assert_allclose(replicate, weighted_means(values[rows], weights[rows]), atol=1e-12)


def test_interval_has_the_width_that_theory_gives():
    values = np.random.default_rng(1).normal(5, 2, 2000)
    result = bootstrap_mean(values, replicates=4000)
    half = 1.96 * values.std() / np.sqrt(2000)
    # Percentiles of 4,000 replicates vary by some per cent of the width.
    assert result.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert result.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert result.estimate == pytest.approx(values.mean())


def test_pairing_removes_what_the_items_share():
    rng = np.random.default_rng(2)
    difficulty = rng.normal(0, 10, 500)
    base, final = difficulty, difficulty + rng.normal(1, 0.1, 500)
    result = bootstrap_delta(base, final)
    assert 0.9 < result.low < result.estimate < result.high < 1.1
    assert bootstrap_mean(final).high - bootstrap_mean(final).low > 1
    same = bootstrap_delta(base, base)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


def test_items_are_drawn_by_seed_and_chunks_do_not_matter(monkeypatch):
    values = np.random.default_rng(3).normal(size=(50, 2))
    plain = resampled_means(values, replicates=100, seed=1)
    np.testing.assert_array_equal(plain, resampled_means(values, replicates=100, seed=1))
    assert not np.array_equal(plain, resampled_means(values, replicates=100, seed=2))
    monkeypatch.setattr("consistency_jax.metrics.bootstrap._CHUNK", 50 * 7)
    np.testing.assert_allclose(resampled_means(values, replicates=100, seed=1), plain, atol=1e-12)


def test_missing_values_of_one_column_do_not_touch_another():
    values = np.random.default_rng(4).normal(size=(40, 2))
    alone = resampled_means(values[:, :1], replicates=50)
    values[::2, 1] = np.nan
    np.testing.assert_allclose(resampled_means(values, replicates=50)[:, :1], alone, atol=1e-12)


def test_intervals_leave_out_replicates_without_a_value():
    samples = np.arange(101.0)[:, None].repeat(3, axis=1)
    samples[:1, 1] = np.nan
    samples[:, 2] = np.nan
    np.testing.assert_allclose(interval(samples, 0.9), [[5, 5.95, np.nan], [95, 95.05, np.nan]])


def test_nothing_to_resample_is_nan_without_a_warning():
    assert np.isnan(resampled_means(np.zeros((0, 2)), replicates=3)).all()
    result = bootstrap_mean(np.full(4, np.nan))
    assert np.isnan([result.estimate, result.low, result.high]).all()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"the same items in both, not \[3\] and \[4\]"):
        bootstrap_delta(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match=r"\[items, figures\]"):
        resampled_means(np.zeros(3))
    with pytest.raises(ValueError, match="replicates must be 1 or more, not 0"):
        resampled_means(np.zeros((3, 1)), replicates=0)
    with pytest.raises(ValueError, match="weights must have shape"):
        resampled_means(np.zeros((3, 1)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        interval(np.zeros(3), 95)
