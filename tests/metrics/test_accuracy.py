"""Accuracy: who is credited, who is left out, and what ties give."""

import numpy as np
import pytest

from consistency_jax.metrics import accuracy, all_agree_but_wrong, all_right, correct, responses, top_choice


def test_hand_worked_table():
    scores = np.array(
        [
            [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]],  # gold 0: right, wrong
            [[1.0, 5.0, 5.0], [1.0, 1.0, 1.0]],  # gold 1: tied with one, tied with two
            [[9.0, 0.0, 0.0], [9.0, 0.0, 0.0]],  # gold unknown
            [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]],  # gold 2: right, absent
        ]
    )
    mask = np.ones(scores.shape, bool)
    mask[3, 1] = False
    gold = np.array([0, 1, -1, 2])
    credit = correct(scores, gold, mask)
    np.testing.assert_allclose(credit, [[1, 0], [1 / 2, 1 / 3], [np.nan, np.nan], [1, np.nan]])
    result = accuracy(scores, gold, mask, languages=("en", "sw"))
    np.testing.assert_allclose(result.per_language, [2.5 / 3, 1 / 6])
    assert result.anchor == pytest.approx(2.5 / 3)
    assert result.mean_others == pytest.approx(1 / 6)
    assert result.variance == pytest.approx(((2.5 / 3 - 1 / 6) / 2) ** 2)


def test_credit_is_the_mean_over_random_tie_breaks():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, (30, 2, 5)).astype(float)
    gold = rng.integers(0, 5, 30)
    draws = [np.argmax(scores + rng.uniform(0, 0.5, scores.shape), -1) == gold[:, None] for _ in range(4000)]
    # Five standard errors of a share.
    np.testing.assert_allclose(correct(scores, gold), np.mean(draws, 0), atol=5 * 0.5 / np.sqrt(4000))


def test_any_of_several_right_answers_counts():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 3, (30, 2, 5)).astype(float)
    right = rng.random((30, 5)) < 0.4
    right[:3] = False  # unknown
    draws = [
        np.take_along_axis(right, np.argmax(scores + rng.uniform(0, 0.5, scores.shape), -1), 1)
        for _ in range(4000)
    ]
    expected = np.where(right.any(1)[:, None], np.mean(draws, 0), np.nan)
    np.testing.assert_allclose(correct(scores, right), expected, atol=5 * 0.5 / np.sqrt(4000))


def test_an_index_says_what_one_right_candidate_says():
    rng = np.random.default_rng(2)
    scores, base = rng.integers(0, 3, (2, 40, 3, 4)).astype(float)
    mask = rng.random(scores.shape) < 0.8
    gold = rng.integers(-1, 4, 40)
    right = np.arange(4) == gold[:, None]
    np.testing.assert_array_equal(correct(scores, right, mask), correct(scores, gold, mask))
    assert all_right(scores, right, mask) == pytest.approx(all_right(scores, gold, mask), nan_ok=True)
    for one, other in zip(*(vars(responses(base, scores, own, mask)).values() for own in (right, gold))):
        np.testing.assert_array_equal(one, other)
    wrong = all_agree_but_wrong(scores, right, mask)
    np.testing.assert_array_equal(wrong, all_agree_but_wrong(scores, gold, mask))


def test_all_agree_on_a_second_right_answer():
    scores = np.eye(3)[[[0, 0], [1, 1], [2, 2], [0, 1]]]
    right = np.array([[True, True, False]] * 4)
    np.testing.assert_array_equal(all_agree_but_wrong(scores, right), [0, 0, 1, 0])
    np.testing.assert_array_equal(all_right(scores, right), [1, 1, 0, 1])


def test_a_right_answer_for_another_right_one_is_no_wrong_one():
    base, scores = np.eye(3)[[[0], [0], [2], [2], [0]]], np.eye(3)[[[1], [2], [1], [2], [0]]]
    found = responses(base, scores, np.array([[True, True, False]] * 5))
    np.testing.assert_array_equal(found.changed[:, 0], [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(found.to_right[:, 0], [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(found.to_wrong[:, 0], [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(found.to_other_wrong[:, 0], [0, 0, 0, 0, 0])


def test_a_scorer_that_ties_everything_is_at_chance_wherever_the_gold_lies():
    for place in range(4):
        result = accuracy(np.zeros((10, 3, 4)), np.full(10, place))
        np.testing.assert_allclose(result.per_language, 0.25)
        assert result.mean_others == pytest.approx(0.25)
        assert np.isnan(result.anchor)


def test_masked_candidates_never_win():
    scores = np.array([[[np.nan, 1.0, 2.0]]])
    mask = np.array([[[False, True, True]]])
    np.testing.assert_array_equal(top_choice(scores, mask), [[[0, 0, 1]]])
    assert np.isnan(correct(scores, np.array([0]), mask)).all()  # the language lacks the gold
    np.testing.assert_array_equal(top_choice(np.full((1, 1, 2), -np.inf)), [[[0.5, 0.5]]])


def test_without_any_gold_everything_is_nan_without_a_warning():
    result = accuracy(np.zeros((3, 2, 4)), np.full(3, -1), languages=("en", "de"))
    assert np.isnan([*result.per_language, result.anchor, result.mean_others, result.variance]).all()


def test_wrong_gold_is_named():
    with pytest.raises(ValueError, match=r"gold must lie in -1\.\.3; found values 0 to 4"):
        correct(np.zeros((2, 2, 4)), np.array([0, 4]))
    with pytest.raises(ValueError, match="gold must be 2 integers"):
        correct(np.zeros((2, 2, 4)), np.array([0.0, 1.0]))
