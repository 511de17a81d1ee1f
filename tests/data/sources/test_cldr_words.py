"""The words of the embedded world: all kinds in all languages, and the labels they make."""

from consistency_jax.data.sources.cldr_words import KINDS, WORDS, label, question


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
    assert question("fr", "city", "Nairobi", "country", "lines") == f"{city}: Nairobi\n{country}:"
