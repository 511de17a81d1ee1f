"""The product of experts against sums by hand, and response change against answers one by one."""

import numpy as np
import pytest

from consistency_jax.metrics import changed_answers, experts, responses


def test_consensus_is_the_weighted_geometric_mean():
    rng = np.random.default_rng(0)
    scores, weights = rng.normal(size=(20, 3, 4)), np.array([3.0, 1.0, 0.5])
    mask = np.ones(scores.shape, bool)
    mask[:5, 1] = False
    mask[5:10, :, 3] = False
    result = experts(np.where(mask, scores, np.nan), mask, weights)
    for n in range(20):
        there, own = mask[n].any(1), mask[n].any(0)
        p = np.exp(scores[n][np.ix_(there, own)])
        p /= p.sum(1, keepdims=True)
        geometric = np.prod(p ** (weights[there] / weights[there].sum())[:, None], axis=0)
        expected = geometric / geometric.sum()
        got = np.exp(result.consensus[n, own])
        np.testing.assert_allclose(got / got.sum(), expected, atol=1e-9)  # a consensus is rounded
        assert result.consensus[n, own].sum() == pytest.approx(0, abs=1e-8)
        assert result.mask[n].tolist() == own.tolist()


def test_shares_add_up_and_fall_to_zero_for_a_flat_expert():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(50, 4, 5))
    scores[:, 2] = 7.0
    mask = np.ones(scores.shape, bool)
    mask[:10, 3] = False
    result = experts(scores, mask)
    np.testing.assert_allclose(np.nansum(result.share, 1), 1, atol=1e-12)
    np.testing.assert_allclose(result.share[:, 2], 0, atol=1e-12)
    assert np.isnan(result.share[:10, 3]).all()
    np.testing.assert_allclose(result.strength, (result.consensus**2).sum(1))
    # Sharper is louder: the same opinion at ten times the sharpness has ten times the share.
    loud = np.stack([scores[:, 0], 10 * scores[:, 0]], axis=1)
    np.testing.assert_allclose(experts(loud).share, np.broadcast_to([1 / 11, 10 / 11], (50, 2)), atol=1e-12)


def test_without_is_the_consensus_of_the_others():
    rng = np.random.default_rng(2)
    scores, weights = rng.normal(size=(30, 3, 4)), np.array([2.0, 1.0, 4.0])
    mask = np.ones(scores.shape, bool)
    mask[:8, 0] = False
    mask[:3, 1] = False  # one language alone
    result = experts(scores, mask, weights)
    for language in range(3):
        others = mask.copy()
        others[:, language] = False
        expected = experts(scores, others, weights)
        alone = ~(mask[:, language].any(1) & (mask.any(2).sum(1) > 1))
        assert not result.without_mask[alone, language].any()
        np.testing.assert_allclose(result.without[~alone, language], expected.consensus[~alone], atol=1e-9)
    gold = rng.integers(0, 4, 30)
    np.testing.assert_array_equal(result.correct(gold), result.consensus.argmax(1) == gold)
    assert np.isnan(result.correct_without(gold)[:3]).all()
    assert result.correct_without(gold)[20, 1] == (result.without[20, 1].argmax() == gold[20])


def test_an_unsure_wrong_expert_is_outvoted_by_a_sure_right_one():
    """Why accuracy rises: two unsure wrong languages, one sure right one."""
    scores = np.log([[[0.4, 0.35, 0.25], [0.4, 0.25, 0.35], [0.05, 0.9, 0.05]]])
    result = experts(scores)
    assert result.consensus[0].argmax() == 1
    assert result.share[0, 2] > 0.9
    assert result.correct_without(np.array([1])).tolist() == [[1, 1, 0]]
    steered = experts(scores, weights=[100.0, 100.0, 1.0])
    assert steered.consensus[0].argmax() == 0


def test_weights_are_checked():
    for weights in ([1.0], [1.0, 0.0], [1.0, np.inf]):
        with pytest.raises(ValueError, match="weights must be 2 numbers greater than 0"):
            experts(np.zeros((1, 2, 3)), weights=weights)


def test_responses_of_answers_one_by_one():
    rng = np.random.default_rng(3)
    before, after, gold = (
        rng.integers(0, 4, (200, 2)),
        rng.integers(0, 4, (200, 2)),
        rng.integers(-1, 4, 200),
    )
    result = responses(np.eye(4)[before], np.eye(4)[after], gold)
    was, now = before == gold[:, None], after == gold[:, None]
    known = gold >= 0
    moved = before != after
    np.testing.assert_array_equal(result.changed, moved)
    for name, expected in (
        ("to_right", ~was & now),
        ("to_wrong", was & ~now),
        ("to_other_wrong", moved & ~was & ~now),
    ):
        values = getattr(result, name)
        np.testing.assert_array_equal(values[known], expected[known], err_msg=name)
        assert np.isnan(values[~known]).all()


def test_parts_add_up_where_answers_tie():
    rng = np.random.default_rng(4)
    base, final = (rng.integers(0, 3, (300, 2, 4)).astype(float) for _ in range(2))
    gold = rng.integers(0, 4, 300)
    result = responses(base, final, gold)
    np.testing.assert_array_equal(result.changed, changed_answers(base, final))
    total = result.to_right + result.to_wrong + result.to_other_wrong
    np.testing.assert_allclose(total, result.changed, atol=1e-12)
