"""mParaRel: patterns and tuples of each language, in the published form."""

from pathlib import Path

import pytest
from source_files import as_jsonl, write

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items

PATTERNS = {
    "en": ["the capital of [X] is [Y]", "[Y], the capital of [X]"],
    "sw": ["mji mkuu wa [X] ni [Y]", "[Y] ni mji mkuu wa [X]"],
}
PLACES = [(f"land {n}", f"city {n}") for n in range(8)] + [("land 3", "city 9")]  # of one two are right


def row(language: str, n: int, **changes: object) -> dict[str, object]:
    land, city = PLACES[n]
    told = {
        "sub_uri": f"Q{land}",
        "obj_uri": f"Q{city}",
        "obj_label": f"{language} {city}",
        "sub_label": f"{language} {land}",
        "lineid": n,
    }
    return {key: value for key, value in (told | changes).items() if value is not None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for language, patterns in PATTERNS.items():
        told = [{"pattern": pattern, "checked-by-human": False} for pattern in patterns]
        write(tmp_path / "patterns" / language / "P36.jsonl", as_jsonl(told))
        facts = [row(language, n) for n in range(9) if (language, n) != ("sw", 6)]  # no name for that one
        write(tmp_path / "tuples" / language / "P36.jsonl", as_jsonl(facts))
    write(tmp_path / "tuples" / "en" / "P9.jsonl", as_jsonl([row("en", 0), row("en", 1)]))  # of English alone
    write(tmp_path / "patterns" / "en" / "P9.jsonl", as_jsonl([{"pattern": "[X] has [Y]"}]))
    write(tmp_path / "tuples" / "en" / "P31.jsonl", as_jsonl([row("en", 0)]))  # without a pattern
    return tmp_path


def test_facts_that_all_languages_have_are_asked_with_objects_that_all_can_name(folder: Path):
    items = load_items("mpararel", path=folder, languages=["en", "sw"], candidates=5)
    assert [item.id for item in items] == [f"P36-{n}" for n in (0, 1, 2, 3, 4, 5, 7, 8)]
    assert items[0].prompts == {
        "en": "the capital of en land 0 is <mask>",
        "sw": "mji mkuu wa sw land 0 ni <mask>",
    }
    for item in items:
        cities = [text.removeprefix("en ") for text in item.candidates["en"]]
        assert [text.removeprefix("sw ") for text in item.candidates["sw"]] == cities
        assert len(set(cities)) == 5
        assert cities[item.gold] == PLACES[int(item.id[4:])][1]
        assert "city 6" not in cities
    two = [set(item.candidates["en"]) for item in items if item.id in ("P36-3", "P36-8")]
    assert not any({"en city 3", "en city 9"} <= own for own in two)
    assert len({item.gold for item in items}) > 2
    assert items == load_items("mpararel", path=folder, languages=["en", "sw"], candidates=5)
    few = load_items("mpararel", path=folder, languages=["en", "sw"], candidates=99)
    assert {item.num_candidates for item in few} == {7, 8}


def test_patterns_of_one_language_are_as_many_languages(folder: Path):
    items = load_items("mpararel", path=folder, languages=["en", "en-t2"])
    assert items[0].prompts == {
        "en": "the capital of en land 0 is <mask>",
        "en-t2": "<mask>, the capital of en land 0",
    }
    assert items[0].candidates["en"] == items[0].candidates["en-t2"]
    assert [told.rpartition(": ")[2] for told in items.warnings] == [
        "P9 has no such pattern in en-t2; left out",
        "P31 has no such pattern in en, en-t2; left out",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"obj_label": None}, "'obj_label' is missing"),
        ({"obj_label": " "}, "obj_label is empty"),
        ({"obj_label": 5}, "obj_label is 5, not a text"),
        ({"sub_label": ""}, "sub_label is empty"),
        ({"sub_uri": None}, "'sub_uri' is missing"),
        ({"sub_uri": "Q1"}, "its subject is 'Q1'"),
        ({"obj_uri": "Qcity 2"}, "its object is 'Qcity 2'"),
        ({"lineid": None}, "'lineid' is missing"),
        ({"lineid": 2}, "'2' stands twice"),
        ({"sub_label": "a <mask>"}, "has 2 <mask>"),
    ],
)
def test_what_is_damaged_is_told_or_left_out(folder: Path, changes, told):
    facts = [row("sw", n, **(changes if n == 1 else {})) for n in range(9)]
    write(folder / "tuples" / "sw" / "P36.jsonl", as_jsonl(facts))
    with pytest.raises(DataError, match=told):
        load_items("mpararel", path=folder, languages=["en", "sw"])
    kept = load_items("mpararel", path=folder, languages=["en", "sw"], on_error="skip")
    assert len(kept.skipped) == 1
    assert len(kept) in (7, 8)


def test_one_candidate_is_no_choice(folder: Path):
    for candidates in (-1, 0, 1):
        with pytest.raises(DataError, match=f"candidates: {candidates} leave nothing to choose from. Give 2"):
            load_items("mpararel", path=folder, languages=["en", "sw"], candidates=candidates)


def test_folders_languages_and_patterns_that_are_not_there_are_told(folder: Path, tmp_path: Path):
    for languages, told in (
        (["en", "xx"], "unknown language 'xx'"),
        (["en-t3"], "no fact is there in all of en-t3"),
    ):
        with pytest.raises(DataError, match=told):
            load_items("mpararel", path=folder, languages=languages)
    with pytest.raises(DataError, match="no folders tuples/ and patterns/"):
        load_items("mpararel", path=folder / "patterns", languages=["en"])
    write(folder / "patterns" / "sw" / "P36.jsonl", as_jsonl([{"pattern": "ni [Y]"}]))
    with pytest.raises(DataError, match="P36.jsonl:1: pattern 'ni .Y.' does not have one"):
        load_items("mpararel", path=folder, languages=["en", "sw"])
    write(folder / "tuples" / "fr" / "P99.jsonl", as_jsonl([row("en", 0)]))
    with pytest.raises(DataError, match="unknown language 'fr'"):  # names without a pattern
        load_items("mpararel", path=folder, languages=["en", "fr"])
    write(folder / "patterns" / "fr" / "P36.jsonl", as_jsonl([{"pattern": "[X], [Y]"}]))
    with pytest.raises(DataError, match="no fact is there in all of en, fr"):
        load_items("mpararel", path=folder, languages=["en", "fr"])
