"""Agreement of answers: a hand-worked table, and expectations over tie-breaks by brute force."""

import itertools

import numpy as np
import pytest

from consistency_jax.metrics import (
    agreement_if_either_right,
    all_agree,
    all_agree_but_wrong,
    all_right,
    changed_answers,
    language_pairs,
    top1_agreement,
)


def one_hot_scores(answers: np.ndarray, candidates: int) -> np.ndarray:
    return np.eye(candidates)[answers]


def test_hand_worked_answers():
    answers = np.array([[0, 0, 0], [1, 1, 2], [2, 2, 2], [0, 1, 2]])
    gold = np.array([0, 1, 1, -1])
    scores = one_hot_scores(answers, 3)
    # Pairs (0, 1), (0, 2), (1, 2).
    expected = [[1, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]]
    np.testing.assert_array_equal(top1_agreement(scores), expected)
    both, either = agreement_if_either_right(scores, gold)
    np.testing.assert_array_equal(both, [[1, 1, 1], [1, 0, 0], [0, 0, 0], [np.nan] * 3])
    np.testing.assert_array_equal(either, [[1, 1, 1], [1, 1, 1], [0, 0, 0], [np.nan] * 3])
    np.testing.assert_array_equal(all_right(scores, gold), [1, 0, 0, np.nan])
    np.testing.assert_array_equal(all_agree(scores), [1, 0, 1, 0])
    np.testing.assert_array_equal(all_agree_but_wrong(scores, gold), [0, 0, 1, np.nan])


def test_absent_languages_are_left_out():
    scores = one_hot_scores(np.array([[0, 0, 1], [0, 1, 1]]), 2)
    mask = np.ones(scores.shape, bool)
    mask[0, 2] = mask[1, :2] = False
    gold = np.array([0, 0])
    np.testing.assert_array_equal(top1_agreement(scores, mask), [[1, np.nan, np.nan], [np.nan] * 3])
    np.testing.assert_array_equal(all_right(scores, gold, mask), [1, np.nan])
    np.testing.assert_array_equal(all_agree(scores, mask), [1, np.nan])
    np.testing.assert_array_equal(all_agree_but_wrong(scores, gold, mask), [0, np.nan])
    np.testing.assert_array_equal(
        changed_answers(scores, scores, mask), [[0, 0, np.nan], [np.nan, np.nan, 0]]
    )


def test_ties_give_the_mean_over_all_tie_breaks():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 2, (200, 3, 3)).astype(float)
    gold = rng.integers(0, 3, 200)
    both, either = agreement_if_either_right(scores, gold)
    first, second = language_pairs(3)
    for n in range(200):
        tops = [np.flatnonzero(row == row.max()).tolist() for row in scores[n]]
        draws = np.array(list(itertools.product(*tops)))
        right = draws == gold[n]
        same = (draws == draws[:, :1]).all(1)
        near = {"abs": 1e-12}
        assert top1_agreement(scores)[n] == pytest.approx(
            (draws[:, first] == draws[:, second]).mean(0), **near
        )
        assert both[n] == pytest.approx((right[:, first] & right[:, second]).mean(0), **near)
        assert either[n] == pytest.approx((right[:, first] | right[:, second]).mean(0), **near)
        assert all_right(scores, gold)[n] == pytest.approx(right.all(1).mean(), **near)
        assert all_agree(scores)[n] == pytest.approx(same.mean(), **near)
        assert all_agree_but_wrong(scores, gold)[n] == pytest.approx((same & ~right[:, 0]).mean(), **near)


def test_changed_answers_of_hand_worked_tables():
    base = np.array([[[2.0, 1, 0]], [[2, 1, 0]], [[1, 1, 0]], [[1, 1, 0]], [[1, 1, 1]]])
    final = np.array([[[9.0, 1, 0]], [[0, 1, 0]], [[5, 5, 0]], [[5, 0, 0]], [[1, 1, 1]]])
    # The same answer; another; the same tie; one of two tied; the same tie of three.
    np.testing.assert_allclose(changed_answers(base, final)[:, 0], [0, 1, 0, 0.5, 0])
