"""Agreement beyond chance, against published worked examples, the `krippendorff` package and the formulas by loops."""

import json

import krippendorff
import numpy as np
import pytest

from consistency_jax.logs import read_logs
from consistency_jax.metrics import capa, fleiss_kappa, krippendorff_alpha, mother_tongue_effect
from consistency_jax.metrics.kappa import alpha_parts, fleiss_parts


def one_hot(answers: np.ndarray, candidates: int) -> np.ndarray:
    return np.eye(candidates)[answers]


def from_counts(counts: np.ndarray) -> np.ndarray:
    """Answers [N, raters] of which this many name each category."""
    return np.array([np.repeat(np.arange(counts.shape[1]), row) for row in counts])


# Ten subjects, fourteen raters, five categories; kappa is 0.210 (Fleiss 1971, as it is often reprinted).
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)


def test_the_worked_example_of_fleiss():
    assert fleiss_kappa(one_hot(from_counts(FLEISS), 5)) == pytest.approx(0.20993, abs=1e-5)


def test_fleiss_kappa_takes_the_items_that_all_languages_have():
    scores = one_hot(from_counts(FLEISS), 5)
    more = np.concatenate([scores, scores[:3]])
    mask = np.ones(more.shape, bool)
    mask[10:, 4] = False
    assert fleiss_kappa(more, mask) == pytest.approx(fleiss_kappa(scores))


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_alpha_is_that_of_the_krippendorff_package(missing):
    rng = np.random.default_rng(0)
    for _ in range(20):
        answers = rng.integers(0, 4, (15, 3))
        answers[:, 1] = np.where(rng.random(15) < 0.5, answers[:, 0], answers[:, 1])
        there = rng.random(answers.shape) >= missing
        mask = np.repeat(there[:, :, None], 4, axis=2)
        expected = krippendorff.alpha(
            np.where(there, answers, np.nan).T, level_of_measurement="nominal", value_domain=range(4)
        )
        assert krippendorff_alpha(one_hot(answers, 4), mask) == pytest.approx(expected, abs=1e-12)


def test_no_answer_is_like_no_other_whatever_its_place(tmp_path):
    """Logs put a language that said nothing behind the candidates, at a place that another question may use."""
    rng = np.random.default_rng(4)
    answers = rng.integers(0, 4, (30, 3))
    answers[:, 1] = np.where(rng.random(30) < 0.6, answers[:, 0], answers[:, 1])
    silent = rng.random(answers.shape) < 0.3
    lines = [
        {
            "id": str(n),
            "language": code,
            "candidates": [*"ABCD"],
            "answer": None if silent[n, l] else "ABCD"[answers[n, l]],
        }
        for n in range(30)
        for l, code in enumerate(("en", "fr", "sw"))
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = read_logs(tmp_path / "log.jsonl").tables["answers"]
    own = np.where(silent, 4 + np.arange(90).reshape(30, 3), answers)  # each a category of its own
    expected = krippendorff.alpha(own.T, level_of_measurement="nominal", value_domain=range(94))
    assert krippendorff_alpha(table.scores("sum"), table.mask) == pytest.approx(expected, abs=1e-12)


def test_ties_count_as_even_draws():
    """Against the parts' means over drawn answers; items with many ties are whole items all the same."""
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 2, (30, 3, 7)).astype(float)
    scores[::4] = 0.0  # all tied
    drawn = [(scores + 1e-3 * rng.random(scores.shape)).argmax(-1) for _ in range(4000)]
    for parts in (fleiss_parts, alpha_parts):
        found, means = parts(scores), np.mean([parts(one_hot(own, 7)) for own in drawn], axis=0)
        assert not np.isnan(found).any()
        used = slice(None) if parts is fleiss_parts else slice(0, 10)
        np.testing.assert_allclose(found[:, used], means[:, used], atol=0.04)
    halves = np.concatenate([np.tile(np.eye(7)[0], (50, 2, 1)), np.zeros((50, 2, 7))])
    assert fleiss_kappa(halves) == pytest.approx((4 / 7 - 5 / 14) / (1 - 5 / 14))
    assert krippendorff_alpha(np.zeros((1, 2, 4))) == pytest.approx(0.0)
    assert krippendorff_alpha(np.zeros((100, 2, 4))) == pytest.approx(0.0)


def test_no_items_tell_nothing():
    nothing = np.zeros((0, 3, 4))
    assert np.isnan(capa(nothing, np.zeros(0, int))).all()
    assert np.isnan([fleiss_kappa(nothing), krippendorff_alpha(nothing)]).all()


def test_nothing_is_told_where_one_answer_is_all_that_was_given():
    scores = one_hot(np.zeros((5, 3), int), 4)
    assert np.isnan(fleiss_kappa(scores))
    assert np.isnan(krippendorff_alpha(scores))
    assert np.isnan(capa(scores, np.zeros(5, int))).all()


def test_capa_by_hand():
    # Same in 2 of 4; right: 2 of 4 and 1 of 4; with 3 candidates, expected 1/2 * 1/4 + 1/2 * 3/4 * 1/2 = 5/16.
    answers = np.array([[0, 0], [0, 1], [1, 1], [1, 2]])
    found = capa(one_hot(answers, 3), np.zeros(4, int))
    assert found == pytest.approx([(1 / 2 - 5 / 16) / (1 - 5 / 16)])


def test_capa_of_distributions_is_the_published_formula():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(40, 3, 5))
    mask = np.ones(scores.shape, bool)
    mask[:10, :, 3:] = False
    gold = rng.integers(0, 3, 40)
    p = np.exp(scores) * mask
    p /= p.sum(-1, keepdims=True)
    expected = []
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        observed = sum(float(p[n, a] @ p[n, b]) for n in range(40)) / 40
        right = [sum(p[n, l, gold[n]] for n in range(40)) / 40 for l in (a, b)]
        ways = sum(1 / (mask[n, 0].sum() - 1) for n in range(40)) / 40
        chance = right[0] * right[1] + (1 - right[0]) * (1 - right[1]) * ways
        expected.append((observed - chance) / (1 - chance))
    np.testing.assert_allclose(capa(scores, gold, mask, probabilities=True), expected, atol=1e-12)


@pytest.mark.parametrize("several", [False, True])
def test_languages_that_share_nothing_but_accuracy_have_a_capa_of_zero(several):
    """Right with a chance of their own, and among right and wrong answers alike, at random."""
    rng = np.random.default_rng(2)
    items, candidates = 200_000, 5
    right = np.zeros((items, candidates), bool)
    right[:, 0] = True
    right[:, 1] = several
    rights = 1 + several
    draws = [
        np.where(
            rng.random(items) < accuracy,
            rng.integers(0, rights, items),
            rng.integers(rights, candidates, items),
        )
        for accuracy in (0.7, 0.4)
    ]
    gold = right if several else np.zeros(items, int)
    assert abs(capa(one_hot(np.stack(draws, 1), candidates), gold)[0]) < 0.01


def test_items_without_gold_or_a_language_are_left_out_of_capa():
    answers = np.array([[0, 0], [0, 1], [1, 1], [1, 2]])
    scores, gold = one_hot(answers, 3), np.zeros(4, int)
    more = np.concatenate([scores, scores[:2]])
    mask = np.ones(more.shape, bool)
    mask[5, 1] = False
    unknown = np.append(gold, [-1, 0])
    assert capa(more, unknown, mask) == pytest.approx(capa(scores, gold))


def test_the_mother_tongue_effect():
    """Items from languages 1, 2, 0 (the anchor itself) and nowhere."""
    answers = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1], [0, 0, 0]])
    found = mother_tongue_effect(one_hot(answers, 2), np.zeros(4, int), np.array([1, 2, 0, -1]), 0)
    nan = np.nan
    np.testing.assert_array_equal(found, [[nan, 1, nan], [nan, nan, 0], [nan] * 3, [nan] * 3])
    assert np.isnan(mother_tongue_effect(one_hot(answers, 2), np.zeros(4, int), np.ones(4), None)).all()
