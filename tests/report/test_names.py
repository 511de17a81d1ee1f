"""What people call a language, and how its text runs, by CLDR."""

from consistency_jax.report.names import direction, language_name


def test_names_are_those_of_cldr_and_a_code_stands_for_itself_where_there_is_none():
    codes = ("sw", "zh", "pt-BR", "en", "xx", "language 3")
    names = ["Swahili", "Chinese", "Portuguese (Brazil)", "English", "xx", "language 3"]
    assert [language_name(code) for code in codes] == names


def test_a_script_that_a_language_is_seldom_written_in_is_named_and_runs_its_own_way():
    assert [language_name(code) for code in ("kor_Hang", "kas_Deva")] == ["Korean", "Kashmiri (Devanagari)"]
    codes = ("arb_Arab", "arb_Latn", "eng_Latn", "hin_Latn", "zh_Hant", "pan_Arab")
    names = ["Arabic", "Arabic (Latin)", "English", "Hindi (Latin)", "Chinese (Traditional)"]
    assert [language_name(code) for code in codes[:5]] == names
    assert [direction(code) for code in codes] == ["rtl", "auto", "auto", "auto", "auto", "rtl"]


def test_text_runs_as_its_language_does():
    assert [direction(code) for code in ("ar", "fa", "he", "ur")] == ["rtl"] * 4
    assert [direction(code) for code in ("en", "zh", "xx")] == ["auto"] * 3  # by the text itself
