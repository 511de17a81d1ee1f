"""Answers of several languages become one question: what is right is what the first that tells it says."""

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.logs.answers import joined
from consistency_jax.logs.matching import spelling
from consistency_jax.logs.told import Scored


def test_what_one_language_leaves_out_another_tells():
    told = Scored("Q", ("a", "b"), (-1.0, -2.0), (), "", "en:1")
    other = told._replace(right=(1,), where="sw:1")
    items, table, notes = joined("task", {"en": {"q": told}, "sw": {"q": other}}, "mend")
    assert items[0].gold == 1
    assert table.gold.tolist() == [1]
    assert table.mask[0].any(1).tolist() == [True, True]
    assert notes == []
    third = told._replace(right=(0,), where="fr:1")
    with pytest.raises(DataError, match="fr:1: the right answer is 0, at sw:1 it is 1"):
        joined("task", {"en": {"q": told}, "sw": {"q": other}, "fr": {"q": third}}, "mend")


def test_what_is_odd_about_a_task_is_told():
    told = Scored("Q", ("a", "b"), (-1.0, -2.0), (0,), "", "x:1")
    whole = {str(n): told for n in range(12)}
    _, _, notes = joined("task", {"en": whole, "sw": {key: whole[key] for key in list(whole)[:11]}}, "mend")
    assert notes == [
        "task: 11 of 12 questions are there in all languages",
        "task: every right answer is 0, which cannot show whether the languages ask the same",
    ]
    unknown = {key: own._replace(right=()) for key, own in whole.items()}
    _, _, notes = joined("task", {"en": unknown, "sw": unknown}, "mend")
    blind = ", so that nothing shows whether the languages ask the same"
    assert notes == [f"task: what is right is not told of 12 of 12 questions{blind}"]
    part = unknown | {"3": whole["3"]}
    _, _, notes = joined("task", {"en": part, "sw": part}, "mend")
    assert notes == ["task: what is right is not told of 11 of 12 questions"]


def test_half_a_character_in_a_log_is_told():
    told = Scored("Q", ("a", "b"), (-1.0, -2.0), (0,), "", "x:1")
    for change in ({"prompt": "\ud83d"}, {"candidates": ("a", "\ud83d")}, {"group": "\ud83d"}):
        odd = told._replace(**change)
        with pytest.raises(DataError, match="x:1: .* holds a lone surrogate"):
            joined("task", {"en": {"q": odd}, "sw": {"q": told}}, "mend")


@pytest.mark.parametrize("score", [float("nan"), 1e300])
def test_scores_are_finite_in_a_table_too(score):
    told = Scored("Q", ("a", "b"), (score, -2.0), (), "", "x:1")
    with pytest.raises(DataError, match="x:1: a score is no finite number"):
        joined("task", {"en": {"q": told}, "sw": {"q": told}}, "mend")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1,000.0", "1000", True),
        ("18.", "18", True),
        ("$18", "18", True),
        ("-3.50", "-3.5", True),
        ("70%", "70", True),
        ("1.5", "15", False),
        ("1,5", "15", False),
        ("1,5", "1.5", True),
        ("1,234,567", "1234567", True),
        ("１８", "18", True),
        ("১৮", "18", True),
        ("007", "7", True),
        ("0,500", "0.5", True),
        ("3/4", "34", False),
        ("10:30", "1030", False),
        ("x=-3", "x=3", False),
        ("Answer 3.", "answer 3", True),
        ("-3", "3", False),
        ("Egypt.", " egypt", True),
        ("ＡＢＣ", "abc", True),
        ("May 5, 1990", "may 5 1990", True),
        ("Apollo-11", "Apollo 11", True),
        ("১৯৯০ সাল", "1990 সাল", True),
        ("12 000", "12,000", True),
        ("1.234.567", "1234567", True),
        ("1.5 or 2", "15 or 2", False),
        ("5", "–5", False),
        ("x = 3", "x = – 3", False),
        ("10²", "102", False),
        ("1914–1918", "1914-1918", True),
        ("2 - 1", "2–1", True),
        ("3 : 4 pm", "3 / 4 pm", False),
        ("1,000 years", "1000 years", True),
        ("अपोलो-11", "अपोलो 11", True),
        ("A", "B", False),
        ("100", "1", False),
    ],
)
def test_what_makes_no_other_answer(one, other, same):
    assert (spelling(one) == spelling(other)) is same


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("10.000", "de", "10000"),
        ("10.000", "en", "10"),
        ("1.234,5", "de", "2469/2"),
        ("1 234,5", "fr", "2469/2"),
        ("3,142", "fr", "1571/500"),
        ("١٫٥", "ar", "3/2"),
        ("12,34,567", "hi", "1234567"),
        ("1'500", "de-CH", "1500"),
        ("+5", "en", "5"),
        ("– 5", "en", "-5"),
        ("½", "en", "1/2"),
        ("2½", "en", "5/2"),
        ("-1 1/2", "en", "-3/2"),
        ("11/2", "en", "11/2"),
        ("İSTANBUL", "tr", "istanbul"),
        ("IĞDIR", "tr", "iğdir"),
        ("ığdır", "tr", "iğdir"),
        ("Illinois", "tr", "illinois"),
        ("IRAN", "en", "iran"),
        ("0.5", "en", "1/2"),
        ("1,000", "de", "1"),
        ("10.000", "pt-BR", "10000"),
    ],
)
def test_numbers_are_read_as_the_language_writes_them(text, language, value):
    assert spelling(text, language) == value
