"""KLAR: its original files, joined by relation and index, asked by any of its templates."""

import json
from collections import Counter
from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items


def read(path: Path, *languages: str, **options: str):
    return load_items("klar", path=path, languages=languages or None, **options)


def change(file: Path, **changes: object) -> None:
    """Puts something else into the second sample of a relation."""
    record = json.loads(file.read_text("utf8"))
    record["samples"][1] |= changes
    file.write_text(json.dumps(record), "utf8")


def test_questions_end_where_the_mask_stands(tmp_path: Path):
    items = read(source_files.klar(tmp_path))
    assert items.languages == ("en", "sw", "zh")
    assert [item.id for item in items] == [
        f"{relation}-{n}" for relation in ("capital", "country") for n in (0, 10, 20, 30)
    ]
    item = items[1]
    assert item.group == "capital"
    assert item.gold == 2
    assert dict(item.prompts) == {
        "en": "Where is en capital 1? In",
        "sw": "sw capital 1 ni",
        "zh": "zh capital 1在哪里？在",
    }
    assert item.candidates["en"] == (" en a", " en b", " en c", " en d")
    assert item.candidates["zh"][2] == "zh c"
    assert ["2619" in told or "2,619" in told for told in items.warnings] == [True]


def test_templates_of_one_language_are_as_many_languages(tmp_path: Path):
    items = read(source_files.klar(tmp_path), "en-t2", "en", "sw-t2")
    assert items.languages == ("en-t2", "en", "sw-t2")
    assert items[0].prompts["en-t2"] == "en capital 0 is in"
    assert items[0].prompts["sw-t2"] == "Je, sw capital 0 ni"
    assert items[0].candidates["en-t2"] == items[0].candidates["en"]


def test_order_and_splits_do_not_depend_on_the_languages(tmp_path: Path):
    folder = source_files.klar(tmp_path)
    file = folder / "zh" / "country.json"
    record = json.loads(file.read_text("utf8"))
    record["samples"].reverse()
    file.write_text(json.dumps(record), "utf8")
    asked = (["en"], ["zh"], ["sw", "zh-t2"])
    ids = [[item.id for item in read(folder, *own, split="train", train_size=5)] for own in asked]
    assert ids[0] == ids[1] == ids[2]
    assert len(ids[0]) == 5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"object": "zh x"}, "index 10: the object 'zh x' is 0 times among 4 candidates"),
        ({"object_candidates": "zh c, zh c, zh a, zh b"}, "the object 'zh c' is 2 times among 4"),
        ({"object_candidates": "zh c, zh b, zh a, zh d"}, "its right is 0, that of .*index 10 is 2"),
        ({"object_candidates": "zh a, zh b, zh c"}, "'zh' has 3 candidates, 'en' has 4"),
        ({"object_candidates": ["zh c"]}, "object_candidates is .*, not a text"),
        ({"subject": None}, "index 10: subject is None, not a text"),
        ({"index": None}, "'capital-10' is missing"),
        ({"index": 0}, "'capital-10' is missing"),
        ({"index": 77}, "'capital-10' is missing"),
    ],
)
def test_a_bad_sample_is_told_or_left_out(tmp_path: Path, changes: dict, told: str):
    folder = source_files.klar(tmp_path)
    change(folder / "zh" / "capital.json", **changes)
    with pytest.raises(DataError, match=told):
        read(folder, "en", "zh")
    items = read(folder, "en", "zh", on_error="skip")
    assert "capital-20" in {item.id for item in items}
    assert len(items) in (6, 7)
    assert len(items) + len(items.skipped) == 8


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("prompt_templates", "x", "prompt_templates or samples is no list"),
        ("samples", None, "prompt_templates or samples is no list"),
        ("prompt_templates", [], "there is no template 1 of 0"),
        ("prompt_templates", ["<subject> is"], "template 1 is '<subject> is'"),
        ("prompt_templates", ["is <mask>"], "template 1 is 'is <mask>'"),
        ("prompt_templates", [None], "template 1 is None"),
    ],
)
def test_a_bad_file_is_told(tmp_path: Path, key: str, value: object, told: str):
    file = source_files.klar(tmp_path) / "zh" / "capital.json"
    record = json.loads(file.read_text("utf8")) | {key: value}
    file.write_text(json.dumps(record), "utf8")
    with pytest.raises(DataError, match=f"capital.json: .*{told}"):
        read(tmp_path, "en", "zh")


def test_what_the_folder_does_not_have_is_told(tmp_path: Path):
    folder = source_files.klar(tmp_path / "klar")
    with pytest.raises(DataError, match="unknown language 'fr'. Known: en, sw, zh, each also as en-t2"):
        read(folder, "fr")
    with pytest.raises(DataError, match="there is no template 3 of 2"):
        read(folder, "en-t3")
    with pytest.raises(
        DataError, match="no folder of a language with JSON files. Set data.path to the folder"
    ):
        read(tmp_path / "klar" / "en")
    (folder / "zh" / "capital.json").write_text("{", "utf8")
    with pytest.raises(DataError, match="capital.json: the line is not JSON"):
        read(folder, "zh")


def test_the_original_files(data_folder: Path):
    if not (folder := data_folder / "klar").is_dir():
        pytest.skip("no KLAR")
    items = read(folder, "en", "ja", "zh", "tr-t5", "ar")
    assert (len(items), items.warnings) == (2619, [])
    assert Counter(item.num_candidates for item in items) == {10: 2211, 8: 150, 6: 258}
    assert len({item.group for item in items}) == 20
    item = next(item for item in items if item.id == "applies_to_jurisdiction-5960")
    assert item.prompts["en"].endswith("as a legal term? The answer is:")
    assert item.candidates["zh"][item.gold] == "法国"
    assert item.candidates["ar"][item.gold] == " فرنسا"
    assert item.prompts["ja"].endswith("答えは：")
