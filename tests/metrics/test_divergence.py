"""Divergences against closed forms and a slow implementation; fitted temperatures against planted ones."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from consistency_jax.metrics import (
    DIVERGENCES,
    both_ways,
    divergences,
    fit_temperatures,
    tolerance_area,
    tolerance_curve,
)
from consistency_jax.metrics.divergence import BOUNDS

SLOW = {
    "kl": lambda p, q: sum(a * np.log(a / b) for a, b in zip(p, q)),
    "reverse_kl": lambda p, q: sum(b * np.log(b / a) for a, b in zip(p, q)),
    "jensen_shannon": lambda p, q: sum(
        (a * np.log(2 * a / (a + b)) + b * np.log(2 * b / (a + b))) / 2 for a, b in zip(p, q)
    ),
    "total_variation": lambda p, q: max(
        abs(sum(p[list(event)]) - sum(q[list(event)])) for event in events(len(p))
    ),
    "squared_hellinger": lambda p, q: 1 - sum(np.sqrt(a * b) for a, b in zip(p, q)),
    "chi_squared": lambda p, q: sum((a - b) ** 2 / b for a, b in zip(p, q)),
}


def events(count: int) -> list[list[int]]:
    return [[k for k in range(count) if bits >> k & 1] for bits in range(2**count)]


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum()


def ragged(seed: int, items: int = 40, languages: int = 3, longest: int = 6):
    """Scores with 1..K candidates an item and absent languages, -inf outside the mask."""
    rng = np.random.default_rng(seed)
    scores = 2 * rng.normal(size=(items, languages, longest))
    candidates = rng.permuted(np.arange(longest) < rng.integers(1, longest + 1, (items, 1)), axis=1)
    mask = candidates[:, None] & (rng.uniform(size=(items, languages, 1)) < 0.8)
    return np.where(mask, scores, -np.inf), mask


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_equals_a_slow_implementation_on_ragged_items(kind):
    scores, mask = ragged(0)
    temperature = np.random.default_rng(1).uniform(0.3, 3, (3, 3))
    values = divergences(scores, mask, kind, temperature)
    known = 0
    for n, i, j in np.ndindex(values.shape):
        own = mask[n].any(0)
        if not (mask[n, i].any() and mask[n, j].any()) or own.sum() < 2:
            assert np.isnan(values[n, i, j])
        elif i == j:
            assert values[n, i, j] == 0
        else:
            p, q = softmax(scores[n, i, own]), softmax(temperature[i, j] * scores[n, j, own])
            assert values[n, i, j] == pytest.approx(SLOW[kind](p, q), rel=1e-10, abs=1e-12)
            known += 1
    assert known > 50


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # p = (1/2, 1/2), q = (1/5, 4/5).
        ("kl", np.log(5 / 2) / 2 + np.log(5 / 8) / 2),
        ("reverse_kl", np.log(2 / 5) / 5 + np.log(8 / 5) * 4 / 5),
        (
            "jensen_shannon",
            (np.log(10 / 7) + np.log(10 / 13)) / 4 + np.log(4 / 7) / 10 + np.log(16 / 13) * 2 / 5,
        ),
        ("total_variation", 0.3),
        ("squared_hellinger", 1 - np.sqrt(0.1) - np.sqrt(0.4)),
        ("chi_squared", 0.09 / 0.2 + 0.09 / 0.8),
    ],
)
def test_closed_forms(kind, expected):
    scores = np.log([[[1.0, 1.0], [2.0, 8.0]]])
    assert divergences(scores, kind=kind)[0, 0, 1] == pytest.approx(expected, abs=1e-14)
    # T = 0 is the uniform round trip, T = 1/2 takes the square root.
    assert divergences(scores, kind=kind, temperature=0.0)[0, 0, 1] == pytest.approx(0, abs=1e-15)
    halved = divergences(scores, kind=kind, temperature=0.5)[0, 0, 1]
    assert halved == pytest.approx(SLOW[kind](np.array([0.5, 0.5]), np.array([1 / 3, 2 / 3])), abs=1e-14)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_range_and_symmetry(kind):
    scores, mask = ragged(2, items=300)
    scores[:150] *= 200  # as peaked as float64 can hold: nothing overflows
    values = divergences(scores, mask, kind)
    known = values[~np.isnan(values)]
    assert (known >= 0).all()
    assert np.isfinite(known).all()
    assert (known <= BOUNDS.get(kind, np.inf) + 1e-12).all()
    turned = values.transpose(0, 2, 1)
    if kind in BOUNDS:
        np.testing.assert_allclose(values, turned, rtol=1e-9, atol=1e-12)
    if kind == "reverse_kl":
        np.testing.assert_allclose(turned, divergences(scores, mask, "kl"), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_only_the_distribution_counts(kind):
    """A constant added to a language, the order of candidates, and what lies outside the mask are immaterial."""
    scores, mask = ragged(3)
    rng = np.random.default_rng(3)
    plain = divergences(scores, mask, kind)
    shifted = np.where(mask, scores + 50 * rng.normal(size=(40, 3, 1)), np.nan)
    np.testing.assert_allclose(divergences(shifted, mask, kind), plain, atol=1e-10, rtol=1e-9)
    order = rng.permutation(6)
    np.testing.assert_allclose(
        divergences(scores[:, :, order], mask[:, :, order], kind), plain, atol=1e-10, rtol=1e-9
    )


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_fitted_temperature_recovers_a_planted_one(kind):
    rng = np.random.default_rng(4)
    sharpness = np.array([1.0, 0.02, 30.0])  # of the languages: temperatures far from one
    scores, mask = ragged(4, items=60)
    common = rng.normal(size=(60, 1, 6))
    scores = np.where(mask, common * sharpness[:, None] + 10 * rng.normal(size=(60, 3, 1)), np.nan)
    expected = sharpness[:, None] / sharpness[None, :]
    expected[1, 2], expected[2, 1] = 0.02 / 30, min(30 / 0.02, 1024)
    fitted = fit_temperatures(scores, mask, kind)
    keep = ~np.eye(3, dtype=bool)
    keep[2, 1] = False  # beyond the range
    np.testing.assert_allclose(fitted[keep], expected[keep], rtol=1e-6)
    np.testing.assert_array_equal(np.diag(fitted), 1)
    values = divergences(scores, mask, kind, fitted)
    assert (
        np.nanmax(values[:, keep]) < 1e-6
    )  # total variation is linear in the error of T, the others quadratic


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_fitted_temperature_minimises_the_mean(kind):
    """Against scipy's bounded scalar minimiser from many starts, one pair after the other."""
    rng = np.random.default_rng(5)
    common = rng.normal(size=(80, 1, 5))
    scores = common * np.array([[1.0], [3.0]]) + rng.normal(size=(80, 2, 5))
    mask = np.broadcast_to(np.arange(5) < rng.integers(2, 6, (80, 1, 1)), scores.shape)
    fitted = fit_temperatures(scores, mask, kind)
    for i, j in ((0, 1), (1, 0)):

        def mean(t: float, i=i, j=j) -> float:
            return float(np.nanmean(divergences(scores, mask, kind, t)[:, i, j]))

        starts = [(0, 0.3), (0.2, 1), (0.7, 3), (2, 10)]
        best = min(
            minimize_scalar(mean, bounds=b, method="bounded", options={"xatol": 1e-9}).fun for b in starts
        )
        assert mean(fitted[i, j]) <= best + 1e-9


def test_ends_of_the_range():
    scores = np.array([[[1.0, 0.0], [-1.0, 0.0]], [[2.0, 0.0], [-1.0, 0.0]]])  # they contradict each other
    np.testing.assert_array_equal(fit_temperatures(scores), [[1, 0], [0, 1]])
    sure = np.array([[[500.0, 0.0], [1e-3, 0.0]], [[500.0, 0.0], [2e-3, 0.0]]])
    assert fit_temperatures(sure)[0, 1] == 1024
    apart = np.ones((2, 2, 2), bool)
    apart[0, 0] = apart[1, 1] = False
    np.testing.assert_array_equal(fit_temperatures(scores, apart), [[1, np.nan], [np.nan, 1]])
    assert np.isnan(divergences(scores, apart, temperature=fit_temperatures(scores, apart))[:, 0, 1]).all()
    assert fit_temperatures(np.zeros((0, 1, 2))).tolist() == [[1]]


def test_both_ways_is_the_mean_of_the_directions():
    values = divergences(*ragged(6), "kl")
    expected = [(values[:, i, j] + values[:, j, i]) / 2 for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_array_equal(both_ways(values), np.stack(expected, axis=1))


def test_tolerance_curve_and_its_area():
    values = np.array([[0.0, 0.1], [0.2, np.nan], [0.4, 0.3], [1.0, np.nan]])
    epsilons = np.array([0.0, 0.2, 0.5, 1.0])
    expected = [[0.25, 0], [0.5, 0.5], [0.75, 1], [1, 1]]
    np.testing.assert_array_equal(tolerance_curve(values, epsilons), expected)
    # The curve of the first column: 1/4 on 0..0.2, 1/2 on 0.2..0.4, 3/4 on 0.4..0.5, of 0.5.
    area = (0.25 * 0.2 + 0.5 * 0.2 + 0.75 * 0.1) / 0.5
    np.testing.assert_allclose(tolerance_area(values, 0.5), [area, 0.6])
    fine = np.linspace(0, 0.5, 20_001)
    assert np.trapezoid(tolerance_curve(values[:, 0], fine), fine) / 0.5 == pytest.approx(area, abs=1e-4)
    assert tolerance_area(values[:, 0], 1.0) == pytest.approx(1 - values[:, 0].mean())


def test_wrong_arguments_are_named():
    scores = np.zeros((2, 2, 3))
    with pytest.raises(ValueError, match="unknown divergence 'l2'; choose from kl, reverse_kl"):
        divergences(scores, kind="l2")
    with pytest.raises(ValueError, match=r"temperature must be one number or \[2, 2\], not \[3\]"):
        divergences(scores, temperature=np.ones(3))
    for wrong in (-1.0, np.nan, -np.ones((2, 2))):
        with pytest.raises(ValueError, match="temperature must be 0 or more, not "):
            divergences(scores, temperature=wrong)
    with pytest.raises(ValueError, match=r"1 scores are infinite, the first at .* = \[1, 0, 2\]"):
        divergences(np.where(np.arange(12).reshape(2, 2, 3) == 8, -np.inf, 0.0))
    with pytest.raises(ValueError, match="reach must be greater than 0"):
        tolerance_area(scores, 0)
