"""Coverage of bootstrap intervals: against closed forms, where few items tell of a change and where all do."""

import numpy as np
import pytest
from scipy.stats import binom

from consistency_jax.metrics import coverage


@pytest.mark.parametrize("told", [1, 3, 20])
def test_equals_the_binomial_closed_form(told: int):
    """`told` of 40 items changed by 1: a test set draws X of them, its bootstrap counts are Binomial(40, X / 40)."""
    items, sets = 40, 600
    values = np.zeros((items, 1))
    values[:told] = 1
    drawn = np.arange(items + 1)
    low, high = (binom.ppf(tail, items, drawn / items) for tail in (0.025, 0.975))
    expected = (binom.pmf(drawn, items, told / items) * ((low <= told) & (told <= high))).sum()
    found = coverage(values, sets=sets, seed=5)[0, 0]
    # Four standard errors of the drawn sets; 400 replicates move an end of an interval now and then.
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / sets) + 0.01)
    assert (found < 0.7) == (
        told == 1
    )  # the interval of a set that holds none of the changed items is [0, 0]


def test_many_items_are_covered_as_promised():
    values = np.random.default_rng(0).normal(size=(150, 3))
    levels = (0.5, 0.8, 0.95)
    found = coverage(values, levels, sets=400)
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found, np.broadcast_to(np.array(levels)[:, None], (3, 3)), atol=0.08)


def test_unknown_values_are_left_out_and_constant_columns_have_nothing_to_cover():
    rng = np.random.default_rng(1)
    values = np.stack([np.zeros(50), np.full(50, np.nan), np.full(50, 2.5), rng.normal(size=50)], axis=1)
    values[10:30, 3] = np.nan
    found = coverage(values, sets=50, replicates=100)
    assert np.isnan(found[0, :3]).all()
    known = coverage(np.nan_to_num(values[:, 3:]), sets=50, replicates=100)
    assert 0.8 < found[0, 3] <= 1
    assert known.shape == (1, 1)


def test_is_a_function_of_its_seed_and_size():
    values = np.random.default_rng(2).normal(size=(30, 2))
    options = {"sets": 60, "replicates": 60}
    first, again = (coverage(values, (0.8,), seed=3, **options) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (coverage(values, (0.8,), seed=4, **options) != first).any()
    assert coverage(values, (0.8,), size=10, **options).shape == (1, 2)
    assert np.isnan(coverage(np.zeros((0, 2)))).all()
