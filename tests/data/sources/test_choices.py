"""Multiple-choice questions as texts: letters of shown options, or the options' words."""

from consistency_jax.data.items import ParallelItem
from consistency_jax.data.sources.choices import ANSWERS, Question, answer_word, ask, choice_row, parted

OPTIONS = ("Rome", "Oslo", "Bern")


def test_letters_answer_for_options_that_are_shown():
    prompt, answers = ask("de", "Wo liegt der Vatikan?", OPTIONS, "letters")
    assert prompt == "Wo liegt der Vatikan?\nA. Rome\nB. Oslo\nC. Bern\nAntwort:"
    assert answers == (" A", " B", " C")


def test_words_answer_a_question_that_stands_alone():
    prompt, answers = ask("sw", "Wapi?", OPTIONS, "full")
    assert (prompt, answers) == ("Wapi?\nJibu:", (" Rome", " Oslo", " Bern"))


def test_an_option_that_stands_there_twice_is_told_once():
    def told(*options: str, answers: str) -> list[str]:
        return list(choice_row("x", {"en": Question("q", options, 0, "x.csv:1")}, answers).warnings)

    for answers in ANSWERS:
        assert told(*OPTIONS, answers=answers) == []
        twice = told("Rome", "Oslo", "Rome", "Oslo", "Rome", answers=answers)
        assert twice == ["language 'en' holds the option 'Rome' more than once"]


def test_a_question_becomes_one_item_in_its_languages():
    questions = {
        "sw": Question("Wapi?", ("Roma", "Oslo"), 1, "sw.csv:3", "geography"),
        "en": Question("Where?", ("Rome", "Oslo"), 1, "en.csv:7", "geography"),
    }
    row = choice_row("q1", questions, "full", {"en": "Before."})
    assert row.where == "sw.csv:3"
    assert row.item == ParallelItem(
        "q1",
        "geography",
        {"sw": "Wapi?\nJibu:", "en": "Where?\nAnswer:"},
        {"sw": (" Roma", " Oslo"), "en": (" Rome", " Oslo")},
        1,
        {"en": "Before."},
    )


def test_codes_of_a_language_in_every_spelling():
    assert all(parted(code) for code in ("en", "eng_Latn", "sw"))
    assert not any(parted(code) for code in ("zh", "zh-CN", "zho_Hans", "khm_Khmr", "km"))
    assert {answer_word(code) for code in ("pt", "pt-BR", "por_Latn")} == {"Resposta"}
    assert (answer_word("quy_Latn"), answer_word("sw")) == (None, "Jibu")
    assert ask("pt-BR", "Q?", ("a",), "full")[0] == "Q?\nResposta:"
    assert ask("quy", "Q?", ("a",), "full")[0] == "Q?\nAnswer:"
