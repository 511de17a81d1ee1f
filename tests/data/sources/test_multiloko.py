"""MultiLoKo: the unpacked folder, questions of a language in it and in English."""

import json
from pathlib import Path

import pytest
from source_files import as_jsonl, write

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items
from consistency_jax.data.sources.multiloko import NAMES


def row(source: str, language: str, number: int, **changes: object) -> dict[str, object]:
    told = {
        "text": "A page.",
        "question": f"{source} {number} in {language}?",
        "targets": [f"{source}-{number}-{language}", f"{number}"],
        "target": "A long answer.",
        "id": f"page {number}",
        "output_type": "word",
    }
    return {key: value for key, value in (told | changes).items() if value is not None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for source in ("english", "swedish", "thai"):
        own = [
            name
            for name in ("english", "swedish", "thai")
            if source == "english" or name in ("english", source)
        ]
        for language in own:
            name = "dev" if language == source else f"dev_translated_human_{language}"
            write(tmp_path / source / f"{name}.jsonl", as_jsonl([row(source, language, n) for n in range(3)]))
    return tmp_path


def test_a_language_s_questions_are_asked_in_it_and_in_english(folder: Path):
    items = load_items("multiloko", path=folder, languages=["en", "sv", "th"])
    assert len(items) == 9
    assert len(NAMES) == 31
    assert [item.group for item in items] == ["en"] * 3 + ["sv"] * 3 + ["th"] * 3
    assert items[0].languages == ("en", "sv", "th")
    assert items[4].id == "sv/page 1"
    assert items[4].prompts == {"sv": "swedish 1 in swedish?", "en": "swedish 1 in english?"}
    assert items[4].targets == {"sv": ("swedish-1-swedish", "1"), "en": ("swedish-1-english", "1")}
    assert not any(item.num_candidates for item in items)
    with pytest.raises(DataError, match="sv, th without English have no question in common"):
        load_items("multiloko", path=folder, languages=["sv", "th"])


def damage(folder: Path, **changes: object) -> Path:
    file = folder / "swedish" / "dev_translated_human_english.jsonl"
    write(file, as_jsonl([row("swedish", "english", n, **(changes if n == 1 else {})) for n in range(3)]))
    return folder


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"targets": None}, "'targets' is missing"),
        ({"targets": []}, r"targets are \[\], not a list of texts"),
        ({"targets": "Paris"}, "targets are 'Paris'"),
        ({"targets": ["Paris", 3]}, "not a list of texts"),
        ({"targets": [" "]}, "targets in 'en' are"),
        ({"question": None}, "'question' is missing"),
        ({"question": " "}, "the prompt in 'en' is empty"),
        ({"question": 7}, "question is 7, not a text"),
        ({"id": "page 2"}, "'page 2' stands twice|'page 1' is missing"),
        ({"id": None}, "'id' is missing"),
    ],
)
def test_what_is_damaged_is_told_or_left_out(folder: Path, changes, told):
    damage(folder, **changes)
    with pytest.raises(DataError, match=told):
        load_items("multiloko", path=folder, languages=["en", "sv"])
    kept = load_items("multiloko", path=folder, languages=["en", "sv"], on_error="skip")
    assert len(kept.skipped) in (1, 2)
    assert len(kept) + len(kept.skipped) == 6


def test_missing_files_lines_and_options_are_told(folder: Path):
    with pytest.raises(DataError, match="english: no questions here .looked for dev_translated_human_french"):
        load_items("multiloko", path=folder, languages=["en", "fr"])
    with pytest.raises(DataError, match="dev_translated_machine_swedish"):
        load_items("multiloko", path=folder, languages=["en", "sv"], translated="machine")
    with pytest.raises(DataError, match="unknown translated 'robot'"):
        load_items("multiloko", path=folder, languages=["en", "sv"], translated="robot")
    (folder / "thai" / "dev.jsonl").write_text("{")
    with pytest.raises(DataError, match="dev.jsonl:1: the line is not JSON"):
        load_items("multiloko", path=folder, languages=["en", "th"])
    assert json.loads((folder / "swedish" / "dev.jsonl").read_text().splitlines()[0])["id"] == "page 0"
