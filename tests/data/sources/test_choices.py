"""Multiple-choice questions as texts: letters of shown options, or the options' words."""

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.choices import ask, check_answers, doubled_options

OPTIONS = ("Rome", "Oslo", "Bern")


def test_letters_answer_for_options_that_are_shown():
    prompt, answers = ask("de", "Wo liegt der Vatikan?", OPTIONS, "letters")
    assert prompt == "Wo liegt der Vatikan?\nA. Rome\nB. Oslo\nC. Bern\nAntwort:"
    assert answers == (" A", " B", " C")


def test_words_answer_a_question_that_stands_alone():
    prompt, answers = ask("sw", "Wapi?", OPTIONS, "full")
    assert (prompt, answers) == ("Wapi?\nJibu:", (" Rome", " Oslo", " Bern"))


def test_an_option_that_stands_there_twice_is_told_once():
    assert doubled_options("en", OPTIONS) == []
    told = doubled_options("en", ("Rome", "Oslo", "Rome", "Oslo", "Rome"))
    assert told == ["language 'en' holds the option 'Rome' more than once"]


def test_another_kind_of_answers_is_refused():
    with pytest.raises(DataError, match="x.csv: unknown answers 'words'.*Known: letters, full"):
        check_answers("words", "x.csv")
    check_answers("full", "x.csv")
