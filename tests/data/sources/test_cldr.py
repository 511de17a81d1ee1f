"""The embedded world: parallel, leak-free, with splits that keep their promise."""

import subprocess
import sys
from collections import Counter

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import cldr, load_corpus, load_items
from consistency_jax.data.sources.cldr_words import question

LANGUAGES = ("en", "fr", "ru", "zh", "ar", "hi", "sw")
TOLD = dict.fromkeys(LANGUAGES, 0.5) | {"en": 1.0, "sw": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the data set is prepared, once for this file."""
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def splits(folder):
    return {split: load_items("cldr", path=folder, languages=LANGUAGES, split=split) for split in cldr.SPLITS}


def test_the_world_is_large_enough(splits):
    assert sum(map(len, splits.values())) > 1200
    assert len(splits["train"]) > 700
    assert len(splits["test"]) >= 150
    assert len(splits["test_disjoint"]) >= 60


def test_items_are_parallel_and_no_answer_shows_in_its_question(splits):
    for items in splits.values():
        for item in items:
            assert item.languages == LANGUAGES
            assert item.num_candidates == cldr.CANDIDATES
            for language in LANGUAGES:
                prompt, candidates = item.prompts[language], item.candidates[language]
                assert len(set(candidates)) == cldr.CANDIDATES
                assert prompt.endswith(":")
                assert all(candidate.startswith(" ") for candidate in candidates)
                assert candidates[item.gold].strip().casefold() not in prompt.casefold()


def test_no_candidate_is_a_second_true_answer():
    true = {(fact.relation, fact.subject): fact.answer for fact in cldr.world().facts}
    assert len(true) == len(cldr.world().facts)  # one answer each
    for fact in cldr.world().facts:
        assert fact.answer in fact.candidates
        if fact.relation == "country_language":
            spoken = cldr.get_global("territory_languages")[fact.subject]
            assert not (set(fact.candidates) - {fact.answer}) & set(spoken)


def test_the_place_of_the_answer_tells_nothing(splits):
    places = Counter(item.gold for item in splits["train"])
    share = len(splits["train"]) / cldr.CANDIDATES
    assert all(0.7 * share < places[place] < 1.3 * share for place in range(cldr.CANDIDATES))


def test_splits_are_disjoint_by_fact(splits):
    ids = [item.id for items in splits.values() for item in items]
    assert len(ids) == len(set(ids))


def test_test_disjoint_shares_no_country_city_or_language(splits):
    def entities(split):
        found = set()
        for fact in cldr.world().splits[split]:
            subject_kind, answer_kind = cldr.RELATIONS[fact.relation]
            named = [(subject_kind, fact.subject), *((answer_kind, code) for code in fact.candidates)]
            # an official language and a language are the same thing
            found |= {
                ("language" if kind == "official" else kind, code)
                for kind, code in named
                if kind in ("country", "city", "language", "official")
            }
        return found

    apart = entities("test_disjoint")
    assert apart
    for split in ("train", "validation", "test"):
        assert not apart & entities(split), split


def test_the_answer_is_what_the_world_says(splits):
    items = {item.id: item for items in splits.values() for item in items}
    item = items["city_country:Europe/Paris"]
    assert item.prompts["en"] == question("en", "city", "Paris", "country") == "City: Paris — Country:"
    assert item.candidates["sw"][item.gold] == " Ufaransa"
    assert item.candidates["zh"][item.gold] == " 法国"


def test_lines_ask_for_the_same_facts_in_every_language_and_give_no_answer_away(splits, folder):
    items = load_items("cldr", path=folder, languages=cldr.LANGUAGES, split="validation", style="lines")
    labels = {item.id: item for item in splits["validation"]}
    assert [item.id for item in items] == list(labels)
    for item in items:
        same = labels[item.id]
        assert item.gold == same.gold
        assert {language: item.candidates[language] for language in LANGUAGES} == same.candidates
        subject = item.id.partition(":")[2]
        for language in cldr.LANGUAGES:
            prompt, answer = item.prompts[language], item.candidates[language][item.gold]
            kind = cldr.RELATIONS[item.group][0]
            assert cldr.world().name(kind, subject, language) in prompt.splitlines()[0]
            assert answer.strip().casefold() not in prompt.casefold()


def test_reading_again_gives_the_same_from_the_prepared_files(splits, folder):
    assert list(load_items("cldr", path=folder, languages=LANGUAGES, split="validation")) == list(
        splits["validation"]
    )


def test_languages_come_in_the_order_asked_for(folder, splits):
    items = load_items("cldr", path=folder, languages=("sw", "en"), split="validation")
    assert items[0].languages == ("sw", "en")
    assert [item.id for item in items] == [item.id for item in splits["validation"]]


@pytest.mark.slow
def test_the_world_does_not_depend_on_the_hash_seed():
    code = (
        "import hashlib; from consistency_jax.data.sources import cldr; "
        "print(hashlib.sha256(repr(cldr.world().splits).encode()).hexdigest(), "
        "hashlib.sha256(repr(cldr.corpus(('en', 'sw'), told={'en': 1, 'sw': .2}, passes=1)).encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_the_corpus_is_unequal_as_told():
    sentences = cldr.corpus(LANGUAGES, 0, told=TOLD, mixing=0.0, dictionary=0, guessed=0.0, passes=1)
    english = sum(sentence.startswith(("City:", "Country:", "Language:")) for sentence in sentences)
    swahili = sum(sentence.startswith(("Mji:", "Nchi:", "Lugha:")) for sentence in sentences)
    assert english == len(cldr.world().facts)
    assert 0.05 < swahili / english < 0.15


def test_a_language_is_wrong_in_its_own_way():
    """Wrong answers to one relation, counted by CLDR code: two languages like different ones."""
    words = {"en": ("City: ", "Country: "), "fr": ("Ville: ", "Pays: ")}
    wrong = dict.fromkeys(words, 1.0)
    sentences = cldr.corpus(
        tuple(words), told=dict.fromkeys(words, 1.0), wrong=wrong, mixing=0.0, dictionary=0
    )
    answers = {fact.answer for fact in cldr.world().facts if fact.relation == "city_country"}
    shares = {}
    for language, (city, country) in words.items():
        names = {cldr.world().name("country", code, language): code for code in answers}
        said = [s.split(" — ", 1)[1] for s in sentences if s.startswith(city) and country in s]
        count = Counter(names[answer.removeprefix(country)] for answer in said)
        shares[language] = {code: count[code] / sum(count.values()) for code in answers}
    apart = sum(abs(shares["en"][code] - shares["fr"][code]) for code in answers) / 2
    assert apart > 0.3  # total variation


def test_another_seed_tells_other_facts():
    one, other = (cldr.corpus(("en", "sw"), seed, told=TOLD, passes=1) for seed in (0, 1))
    assert one != other
    assert cldr.corpus(("en", "sw"), 0, told=TOLD, passes=1) == one


def test_bad_names_are_told(folder):
    with pytest.raises(DataError, match="unknown split 'dev'.*train, validation, test, test_disjoint"):
        load_items("cldr", path=folder, languages=("en",), split="dev")
    with pytest.raises(DataError, match="unknown language 'xx'"):
        load_items("cldr", path=folder, languages=("en", "xx"))
    with pytest.raises(DataError, match="unknown style 'line'. Known: labels, lines"):
        load_items("cldr", path=folder, languages=("en",), style="line")
    with pytest.raises(DataError, match="no share for sw"):
        load_corpus("cldr", languages=("en", "sw"), seed=0, told={"en": 1.0})
    with pytest.raises(DataError, match="unknown option 'tolld'"):
        load_corpus("cldr", languages=("en",), seed=0, tolld={"en": 1.0})
    with pytest.raises(DataError, match="'jsonl' offers no text"):
        load_corpus("jsonl", languages=("en",), seed=0)
