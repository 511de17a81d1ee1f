"""RankC against a brute-force reimplementation, hand-worked cases, and its laws."""

import itertools

import numpy as np
import pytest

from consistency_jax.metrics import (
    WEIGHTS,
    accuracy,
    chance,
    chance_corrected,
    clc,
    floor,
    language_pairs,
    rankc,
    rankc_of_pairs,
)


def brute_weights(count: int, weights: str) -> list[float]:
    place = [count - j + 1 for j in range(1, count + 1)]
    raw = {"softmax": np.exp(place), "norm1": np.array(place), "norm2": np.array(place) ** 2}[weights]
    return list(raw / raw.sum())


def brute_rankc(order_a: list[int], order_b: list[int], weights: str) -> float:
    """RankC of two strict rankings (candidates from best to worst), as its formula says."""
    total = 0.0
    for j, weight in enumerate(brute_weights(len(order_a), weights), start=1):
        total += weight * len(set(order_a[:j]) & set(order_b[:j])) / j
    return total


def orders(scores: np.ndarray) -> list[list[int]]:
    """Every ranking that the scores allow: all orders of every group of ties."""
    groups = [
        list(itertools.permutations(np.flatnonzero(scores == value).tolist()))
        for value in sorted(set(scores.tolist()), reverse=True)
    ]
    return [list(itertools.chain(*choice)) for choice in itertools.product(*groups)]


def brute_expectation(a: np.ndarray, b: np.ndarray, weights: str) -> float:
    return float(np.mean([brute_rankc(x, y, weights) for x in orders(a) for y in orders(b)]))


def random_items(seed: int, items: int, longest: int, values: int | None = None):
    """Ragged pairs of rankings [N, K] with a mask, NaN outside it; few `values` make ties."""
    rng = np.random.default_rng(seed)
    mask = rng.permuted(np.arange(longest) < rng.integers(1, longest + 1, (items, 1)), axis=1)
    scores = rng.normal(size=(2, items, longest))
    if values:
        scores = rng.integers(0, values, (2, items, longest)).astype(float)
    return *np.where(mask, scores, np.nan), mask


@pytest.mark.parametrize("weights", WEIGHTS)
def test_equals_brute_force_on_a_thousand_ragged_rankings(weights):
    a, b, mask = random_items(0, 1000, 10)
    expected = [
        brute_rankc(orders(a[n][mask[n]])[0], orders(b[n][mask[n]])[0], weights) for n in range(len(a))
    ]
    # Sums of ten float64 numbers.
    np.testing.assert_allclose(rankc(a, b, mask, weights), expected, atol=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_equals_the_mean_over_all_tie_breaks_on_a_thousand_ragged_rankings_with_ties(weights):
    a, b, mask = random_items(1, 1000, 5, values=3)
    expected = [brute_expectation(a[n][mask[n]], b[n][mask[n]], weights) for n in range(len(a))]
    np.testing.assert_allclose(rankc(a, b, mask, weights), expected, atol=1e-12)


def test_equals_the_average_of_random_tie_breaks_of_long_rankings():
    a, b, mask = random_items(2, 20, 10, values=4)
    rng = np.random.default_rng(2)
    draws = 4000
    noise = rng.uniform(0, 0.5, (2, draws, 1, 10))
    samples = [rankc(a + noise[0, i], b + noise[1, i], mask) for i in range(draws)]
    # Four standard errors of a mean of values that spread over less than 1.
    tolerance = 4 * np.std(samples, axis=0) / np.sqrt(draws) + 1e-12
    assert (np.abs(np.mean(samples, axis=0) - rankc(a, b, mask)) <= tolerance).all()


def test_hand_worked_cases():
    # Three candidates, weights softmax(3, 2, 1) = 0.665241, 0.244728, 0.090031.
    first, second, third = 0.6652409557748219, 0.24472847105479767, 0.09003057317038046
    a = np.array([[3.0, 2.0, 1.0]] * 6)
    b = np.array(
        [
            [3.0, 2.0, 1.0],  # the same order
            [1.0, 2.0, 3.0],  # opposite: top 1 none, top 2 shares the middle, top 3 all
            [2.0, 3.0, 1.0],  # the first two change places
            [3.0, 1.0, 2.0],  # the last two change places
            [2.0, 2.0, 1.0],  # the first two tie: top 1 shared in half of the draws
            [1.0, 1.0, 1.0],  # all tie: j / 3 of the top j is shared
        ]
    )
    expected = [
        1.0,
        0 * first + second / 2 + third,
        0 * first + second + third,
        first + second / 2 + third,
        first / 2 + second + third,
        first / 3 + second * 2 / 3 + third,
    ]
    np.testing.assert_allclose(rankc(a, b), expected, atol=1e-12)
    # norm1: 3/6, 2/6, 1/6. norm2: 9/14, 4/14, 1/14.
    np.testing.assert_allclose(rankc(a, b, weights="norm1")[1], 2 / 12 + 1 / 6, atol=1e-12)
    np.testing.assert_allclose(rankc(a, b, weights="norm2")[1], 2 / 14 + 1 / 14, atol=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_is_symmetric_and_lies_between_floor_and_one(weights):
    for values in (None, 3):
        a, b, mask = random_items(3, 2000, 10, values)
        result = rankc(a, b, mask, weights)
        np.testing.assert_array_equal(result, rankc(b, a, mask, weights))
        assert (result <= 1).all()
        assert (result >= floor(mask.sum(1), weights) - 1e-12).all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_equal_rankings_give_exactly_one_and_opposite_ones_the_floor(weights):
    for count in range(1, 17):
        scores = np.random.default_rng(count).normal(size=(5, count))
        assert (rankc(scores, 3 * scores + 1, weights=weights) == 1).all()
        np.testing.assert_allclose(rankc(scores, -scores, weights=weights), floor(count, weights), atol=1e-12)


def test_order_of_candidates_and_what_is_masked_are_immaterial():
    a, b, mask = random_items(4, 300, 8, values=4)
    order = np.random.default_rng(4).permutation(8)
    plain = rankc(a, b, mask)
    np.testing.assert_allclose(rankc(a[:, order], b[:, order], mask[:, order]), plain, atol=1e-12)
    np.testing.assert_array_equal(rankc(np.where(mask, a, np.inf), np.where(mask, b, -np.inf), mask), plain)


def test_ties_do_not_favour_an_index():
    constant, random = np.zeros((500, 4)), np.random.default_rng(5).normal(size=(500, 4))
    np.testing.assert_allclose(rankc(constant, random), chance(4), atol=1e-12)
    np.testing.assert_allclose(rankc(constant, constant), chance(4), atol=1e-12)


@pytest.mark.parametrize(
    ("count", "low", "level"), [(4, 0.0902, 0.377), (5, 0.0641, 0.310), (10, 0.0030, 0.158)]
)
def test_floor_and_chance_are_the_known_values(count, low, level):
    assert floor(count) == pytest.approx(low, abs=5e-5)
    assert chance(count) == pytest.approx(level, abs=5e-4)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_chance_is_the_mean_over_all_rankings_and_floor_their_minimum(count, weights):
    values = [
        brute_rankc(list(range(count)), list(order), weights)
        for order in itertools.permutations(range(count))
    ]
    assert chance(count, weights) == pytest.approx(np.mean(values), abs=1e-12)
    assert floor(count, weights) == pytest.approx(np.min(values), abs=1e-12)


def test_chance_correction_maps_chance_to_zero_and_one_to_one():
    counts = np.array([2, 4, 10, 1])
    np.testing.assert_allclose(chance_corrected(chance(counts), counts)[:3], 0, atol=1e-12)
    np.testing.assert_allclose(chance_corrected(np.ones(4), counts), [1, 1, 1, np.nan])


def test_pairs_of_a_table_equal_rankc_of_each_two_languages():
    rng = np.random.default_rng(6)
    scores = rng.integers(0, 6, (1200, 5, 7)).astype(float)
    candidates = np.arange(7) < rng.integers(2, 8, (1200, 1))
    present = rng.uniform(size=(1200, 5)) < 0.8
    mask = candidates[:, None, :] & present[:, :, None]
    values = rankc_of_pairs(scores, mask)
    for column, (i, j) in enumerate(zip(*language_pairs(5))):
        expected = rankc(scores[:, i], scores[:, j], candidates)
        expected[~(present[:, i] & present[:, j])] = np.nan
        np.testing.assert_array_equal(values[:, column], expected)


def test_candidates_that_a_present_language_lacks_are_left_out():
    scores = np.array([[[3.0, 2.0, 1.0], [2.0, 9.0, 1.0]]])
    mask = np.array([[[True, True, True], [True, False, True]]])
    np.testing.assert_array_equal(rankc_of_pairs(scores, mask), [[1.0]])


def test_clc_is_the_mean_over_items_then_pairs():
    rng = np.random.default_rng(7)
    scores = rng.normal(size=(50, 4, 5))
    mask = np.ones(scores.shape, bool)
    mask[:10, 3] = False
    mask[49, :, 1:] = False  # one candidate ranks nothing: left out
    result = clc(scores, mask, languages=("sw", "en", "de", "ar"))
    rows = {(i, j): range(10 if 3 in (i, j) else 0, 49) for i in range(4) for j in range(i)}
    expected = {
        (i, j): 100 * np.mean([rankc(scores[[n], i], scores[[n], j])[0] for n in rows[i, j]]) for i, j in rows
    }
    for (i, j), value in expected.items():
        assert result.matrix[i, j] == pytest.approx(value, abs=1e-9)
        assert result.matrix[j, i] == result.matrix[i, j]
    assert (np.diag(result.matrix) == 100).all()
    assert result.all_pairs == pytest.approx(np.mean(list(expected.values())), abs=1e-9)
    english = [value for pair, value in expected.items() if 1 in pair]
    assert result.anchor_pairs == pytest.approx(np.mean(english), abs=1e-9)


def test_clc_of_random_rankings_is_chance_and_corrected_is_zero():
    scores = np.random.default_rng(8).normal(size=(20_000, 2, 4))
    # Standard error of the mean: about 0.3 / sqrt(20,000) = 0.2 points.
    assert clc(scores).all_pairs == pytest.approx(100 * float(chance(4)), abs=1)
    assert clc(scores, corrected=True).all_pairs == pytest.approx(0, abs=1.5)
    assert np.isnan(clc(scores).anchor_pairs)


def test_clc_without_common_items_is_nan_without_a_warning():
    mask = np.ones((4, 3, 2), bool)
    mask[:2, 0] = mask[2:, 1] = False
    result = clc(np.zeros((4, 3, 2)), mask, languages=("en", "de", "fr"))
    assert np.isnan(result.matrix[0, 1])
    assert np.isfinite(result.all_pairs)
    assert np.isnan(clc(np.zeros((0, 3, 2))).all_pairs)


def test_wrong_arguments_are_named():
    good = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"one shape \[items, candidates\], not \[2, 3\] and \[2, 4\]"):
        rankc(good, np.zeros((2, 4)))
    with pytest.raises(ValueError, match="weights must be one of softmax, norm1, norm2, not 'soft'"):
        rankc(good, good, weights="soft")
    with pytest.raises(ValueError, match=r"mask must have shape \[2, 3\]"):
        rankc(good, good, np.ones((3, 2), bool))
    with pytest.raises(ValueError, match=r"1 scores are NaN, the first at .* = \[1, 0, 2\]"):
        rankc(np.array([[1.0, 2, 3], [1, 2, np.nan]]), good)
    with pytest.raises(ValueError, match="at least one candidate"):
        chance(0)
    with pytest.raises(ValueError, match=r"\[items, languages, candidates\]"):
        clc(good)


def test_names_of_another_number_are_no_names():
    scores = np.random.default_rng(0).normal(size=(9, 3, 4))
    for names in (["fr", "en"], ["fr", "de", "ru", "en"]):
        with pytest.raises(ValueError, match=f"languages are {len(names)} names, and the scores have 3"):
            clc(scores, languages=names)
        with pytest.raises(ValueError, match=f"languages are {len(names)} names, and the scores have 3"):
            accuracy(scores, np.zeros(9, int), languages=names)
    assert np.isfinite(clc(scores, languages=np.array(["fr", "en", "ru"])).anchor_pairs)
