"""What people call a language, and how its text runs, by CLDR."""

from consistency_jax.report.names import direction, language_name


def test_names_are_those_of_cldr_and_a_code_stands_for_itself_where_there_is_none():
    codes = ("sw", "zh", "pt-BR", "en", "xx", "language 3")
    names = ["Swahili", "Chinese", "Portuguese (Brazil)", "English", "xx", "language 3"]
    assert [language_name(code) for code in codes] == names


def test_text_runs_as_its_language_does():
    assert [direction(code) for code in ("ar", "fa", "he", "ur")] == ["rtl"] * 4
    assert [direction(code) for code in ("en", "zh", "xx")] == ["auto"] * 3  # by the text itself
