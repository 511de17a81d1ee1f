"""The words of the embedded world: all kinds in all languages, and the labels they make."""

import unicodedata

import pytest

from consistency_jax.data.sources.cldr import RELATIONS
from consistency_jax.data.sources.cldr_words import KINDS, QUESTIONS, WORDS, label, question

# A letter that each script has, as its Unicode name begins; the others are Latin.
SCRIPTS = {
    "el": "GREEK",
    "ru": "CYRILLIC",
    "uk": "CYRILLIC",
    "ar": "ARABIC",
    "fa": "ARABIC",
    "he": "HEBREW",
    "hi": "DEVANAGARI",
    "bn": "BENGALI",
    "ta": "TAMIL",
    "th": "THAI",
    "zh": "CJK",
    "ja": "HIRAGANA",
    "ko": "HANGUL",
}


def test_words_exist_for_every_kind_in_every_language():
    assert len(WORDS) >= 10
    for language, words in WORDS.items():
        assert len(words) == len(KINDS)
        assert all(word.strip() == word and word for word in words), language


def test_a_question_ends_where_the_answer_begins():
    asked = question("fr", "city", "Nairobi", "country")
    city, country = (WORDS["fr"][KINDS.index(kind)] for kind in ("city", "country"))
    assert asked == f"{city}: Nairobi — {country}:"
    assert asked + " Kenya" == f"{label('fr', 'city', 'Nairobi')} — {label('fr', 'country', 'Kenya')}"


def test_every_language_asks_for_every_relation_in_its_own_words():
    assert tuple(QUESTIONS) == tuple(WORDS)
    asked = {
        (language, relation): question(language, subject, "X", answer, "questions")
        for language in WORDS
        for relation, (subject, answer) in RELATIONS.items()
    }
    # What is asked of a city and of a country reads alike but for the label; all else differs.
    assert len(set(asked.values())) == len(asked)
    for (language, relation), text in asked.items():
        named, words, answer = text.split("\n")
        assert named == label(language, RELATIONS[relation][0], "X")
        assert answer == QUESTIONS[language][-1] + ":"
        assert words.strip() == words
        assert words[-1] in "?؟;？。"
        letters = [unicodedata.name(letter).split()[0] for letter in words if letter.isalpha()]
        assert letters.count(SCRIPTS.get(language, "LATIN")) > 0.5 * len(letters), words


@pytest.mark.parametrize(
    ("relation", "asked"),
    [
        ("city_country", "In which country is it?"),
        ("city_currency", "Which currency is used there?"),
        ("country_language", "What is the official language there?"),
        ("language_country", "In which country is it mostly spoken?"),
        ("language_script", "In which script is it written?"),
    ],
)
def test_a_question_asks_for_its_relation(relation: str, asked: str):
    subject, answer = RELATIONS[relation]
    assert question("en", subject, "X", answer, "questions") == f"{subject.capitalize()}: X\n{asked}\nAnswer:"
