"""Generated answers: what matches, who agrees, and that only places in the table count."""

import numpy as np
import pytest

from consistency_jax.metrics import correct, generated_agreement, language_pairs, match_answers, normalised

CANDIDATES = [
    [("Paris", "St. Louis"), ("Париж", "Сент-Луис"), ("巴黎", "圣路易斯")],
    [("42", "7", "forty-two"), ("42", "7", "сорок два"), None],
    [("Rome", "Rome"), ("Рим", "Рим (город)"), ("罗马", "罗马")],
]


def test_normalised_texts():
    assert normalised("  St. LOUIS!\n") == normalised("st louis") == "st louis"
    assert normalised("ＰＡＲＩＳ。") == "paris"
    assert normalised("İstanbul") == normalised("istanbul") == "istanbul"
    assert normalised("STRASSE") == normalised("Straße")
    assert normalised("Cafe\u0301") == normalised("CAFÉ") == "café"
    assert normalised(" ... ") == "..."
    assert normalised("C++") != normalised("C")
    assert normalised("") == ""


def test_hand_worked_answers():
    answers = [["paris.", "Сент Луис", "巴黎"], ["7", None, "七"], [" ROME ", "Рим", "罗马市"]]
    result = match_answers(answers, CANDIDATES)
    expected = np.zeros((3, 3, 3))
    expected[0, 0, 0] = expected[0, 2, 0] = expected[1, 0, 1] = 1
    expected[2, 0, :2] = expected[2, 1, 0] = 1  # a doubled candidate matches in both places
    np.testing.assert_array_equal(result.scores, expected)
    np.testing.assert_array_equal(
        result.matched, [[1, 0, 1], [1, 0, 0], [1, 1, 0]]
    )  # "Сент Луис" has no hyphen
    np.testing.assert_array_equal(result.answered, [[1, 1, 1], [1, 0, 0], [1, 1, 1]])
    matched, strict = generated_agreement(result)
    nan = np.nan
    np.testing.assert_array_equal(matched, [[nan, 1, nan], [nan, nan, nan], [0.5, nan, nan]])
    np.testing.assert_array_equal(strict, [[0, 1, 0], [nan, nan, nan], [0.5, 0, 0]])
    gold = np.array([0, 1, 0])
    np.testing.assert_array_equal(
        correct(result.scores, gold, result.mask), [[1, nan, 1], [1, nan, nan], [0.5, 1, nan]]
    )


def test_exact_is_stricter():
    loose, exact = (
        match_answers([["paris", " Paris "]], [[("Paris",)] * 2], how) for how in ("normalised", "exact")
    )
    assert loose.matched.tolist() == [[True, True]]
    assert exact.matched.tolist() == [[False, True]]


def test_signs_and_marks_beside_digits_tell_answers_apart():
    assert len({normalised(text) for text in ("-1", "1", "1.5", "15", "1/2", "12", "10:30", "1030")}) == 8
    assert normalised("1,000") == normalised("1000.") == "1000"
    assert normalised("−1") == "-1"
    assert normalised("1914–1918") == normalised("1914-1918") == normalised("1914〜1918")
    candidates = [[("-19", "-10", "19", "10")], [("C", "C#", "C++")], [("C", "C#", "C++")]]
    found = match_answers([["19"], ["C#"], ["c#."]], candidates)
    np.testing.assert_array_equal(found.scores[:2, 0], [[0, 0, 1, 0], [0, 1, 0, 0]])
    np.testing.assert_array_equal(found.scores[2, 0], [1, 1, 0, 0])  # what is spelt so may be either


def random_answers(seed: int, items: int = 200, languages: int = 4, count: int = 5):
    rng = np.random.default_rng(seed)
    names = [[tuple(f"w{n}l{l}k{k}" for k in range(count)) for l in range(languages)] for n in range(items)]
    picked = rng.integers(-1, count, (items, languages))
    answers = [
        [names[n][l][k] if k >= 0 else "something else" for l, k in enumerate(row)]
        for n, row in enumerate(picked)
    ]
    return answers, names, picked


def test_agreement_equals_counting_places():
    answers, names, picked = random_answers(0)
    matched, strict = generated_agreement(match_answers(answers, names))
    for column, (i, j) in enumerate(zip(*language_pairs(4))):
        both = (picked[:, i] >= 0) & (picked[:, j] >= 0)
        same = both & (picked[:, i] == picked[:, j])
        np.testing.assert_array_equal(strict[:, column], same)
        np.testing.assert_array_equal(matched[both, column], same[both])
        assert np.isnan(matched[~both, column]).all()


def test_translating_strings_and_reordering_candidates_changes_nothing():
    answers, names, _ = random_answers(1)
    order = np.random.default_rng(1).permutation(5)

    def translate(text: str) -> str:
        return "".join(chr(0x4E00 + ord(character)) for character in text)

    plain = generated_agreement(match_answers(answers, names))
    turned = match_answers(
        [[translate(text) if l % 2 else text for l, text in enumerate(row)] for row in answers],
        [
            [tuple((translate(own[k]) if l % 2 else own[k]) for k in order) for l, own in enumerate(row)]
            for row in names
        ],
    )
    for one, other in zip(plain, generated_agreement(turned)):
        np.testing.assert_array_equal(one, other)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="how must be normalised or exact, not 'fuzzy'"):
        match_answers([["a"]], [[("a",)]], "fuzzy")
    with pytest.raises(ValueError, match="must have the same N and L"):
        match_answers([["a", "b"]], [[("a",)]])
    assert match_answers([], []).scores.shape == (0, 0, 1)
