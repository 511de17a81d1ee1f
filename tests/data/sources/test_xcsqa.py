"""X-CSQA: its original files, joined by id."""

import json
from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items
from consistency_jax.data.sources.xcsqa import LANGUAGES


def test_languages_are_joined_by_id_and_japanese_is_jap(tmp_path: Path):
    folder = source_files.xcsqa(tmp_path)
    file = folder / "zh" / "dev.jsonl"
    file.write_text("".join(reversed(file.read_text("utf8").splitlines(keepends=True))), "utf8")
    items = load_items("xcsqa", path=folder, languages=["ja", "en", "zh"])
    assert [item.id for item in items] == [f"q{n}" for n in range(20)]
    assert [item.gold for item in items] == [n % 5 for n in range(20)]
    assert items[7].prompts["zh"] == "哪个，7？\nA. 苹果\nB. 梨\nC. 李子\nD. 无花果\nE. 猕猴桃\n答案:"
    assert items[7].candidates["ja"] == (" A", " B", " C", " D", " E")
    assert (
        load_items("xcsqa", path=folder, languages=["zh"], answers="full")[7].candidates["zh"][2] == " 李子"
    )
    (folder / "jap").rename(folder / "ja")
    assert load_items("xcsqa", path=folder, languages=["ja", "en", "zh"]) == items


def test_order_and_splits_do_not_depend_on_the_languages(tmp_path: Path):
    folder = source_files.xcsqa(tmp_path)
    file = folder / "zh" / "dev.jsonl"
    file.write_text("".join(reversed(file.read_text("utf8").splitlines(keepends=True))), "utf8")
    ids = [
        [item.id for item in load_items("xcsqa", path=folder, languages=own, split="train", train_size=8)]
        for own in (["en"], ["zh"], ["ja", "zh"])
    ]
    assert ids[0] == ids[1] == ids[2]
    assert len(ids[0]) == 8


def test_choices_are_aligned_by_label(tmp_path: Path):
    folder = source_files.xcsqa(tmp_path, ["en"], 3)
    record = source_files.xcsqa_record("en", 1)
    record["question"]["choices"].reverse()
    records = [source_files.xcsqa_record("en", 0), record]
    (folder / "en" / "dev.jsonl").write_text(source_files.as_jsonl(records))
    assert (
        load_items("xcsqa", path=folder, languages=["en"], answers="full")[1].candidates["en"][0] == " apple"
    )


def test_choices_are_read_as_the_hub_holds_them(tmp_path: Path):
    folder = source_files.xcsqa(tmp_path, ["en"], 3)
    items = load_items("xcsqa", path=folder, languages=["en"], answers="full")
    records = [source_files.xcsqa_record("en", n) for n in range(3)]
    for record in records:
        columns = {key: [c[key] for c in record["question"]["choices"]] for key in ("label", "text")}
        record["question"]["choices"] = columns
    (folder / "en" / "dev.jsonl").write_text(source_files.as_jsonl(records))
    assert load_items("xcsqa", path=folder, languages=["en"], answers="full") == items
    records[1]["question"]["choices"]["text"].pop()
    (folder / "en" / "dev.jsonl").write_text(source_files.as_jsonl(records))
    with pytest.raises(DataError, match="dev.jsonl:2: choices has other numbers of labels and texts"):
        load_items("xcsqa", path=folder, languages=["en"])


def test_the_test_file_has_no_labels(tmp_path: Path):
    folder = source_files.xcsqa(tmp_path, ["en"], 3)
    records = [source_files.xcsqa_record("en", n) | {"answerKey": ""} for n in range(3)]
    (folder / "en" / "test.jsonl").write_text(source_files.as_jsonl(records))
    assert [i.gold for i in load_items("xcsqa", path=folder, languages=["en"], part="test")] == [None] * 3
    (folder / "en" / "dev.jsonl").write_text(json.dumps(records[0]))
    with pytest.raises(DataError, match="answerKey is '', with choices A, B, C, D, E. Take the dev file"):
        load_items("xcsqa", path=folder, languages=["en"])


def test_a_row_that_some_language_lacks_is_named(tmp_path: Path):
    folder = source_files.xcsqa(tmp_path)
    file = folder / "zh" / "dev.jsonl"
    lines = file.read_text("utf8").splitlines(keepends=True)
    file.write_text("".join([*lines[:4], *lines[5:], lines[0].replace('"q0"', '"more"')]), "utf8")
    with pytest.raises(DataError, match="zh/dev.jsonl: id 'q4' is missing"):
        load_items("xcsqa", path=folder, languages=["en", "zh"])
    items = load_items("xcsqa", path=folder, languages=["en", "zh"], on_error="skip")
    assert len(items) == 19
    assert len(items.skipped) == 1
    assert "1 ids are in no other file and left out, the first: 'more'" in items.warnings[-1]
    with pytest.raises(DataError, match="no dev file of 'de' here"):
        load_items("xcsqa", path=folder)
    assert len(LANGUAGES) == 16
