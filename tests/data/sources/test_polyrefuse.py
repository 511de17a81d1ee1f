"""PolyRefuse: harmful and harmless instructions, a file for each kind and split."""

import json
from collections import Counter
from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items


def test_polyrefuse(tmp_path: Path):
    folder = source_files.polyrefuse(tmp_path)
    items = load_items("polyrefuse", path=folder)
    assert len(items) == 12
    assert Counter(i.group for i in items) == {"harmful": 3, "harmful: illegal": 3, "harmless": 6}
    train = load_items("polyrefuse", path=folder, split="train", kind="harmless", languages=["yo"])
    assert [item.prompts for item in train] == [{"yo": f"yo {n}"} for n in range(3)]
    with pytest.raises(DataError, match="unknown kind 'bad'. Known: harmful, harmless, both"):
        load_items("polyrefuse", path=folder, kind="bad")


def test_test_is_the_test_file_and_languages_that_a_file_lacks_are_told(tmp_path: Path):
    folder = source_files.polyrefuse(tmp_path)
    assert [item.id for item in load_items("polyrefuse", path=folder, split="test", kind="harmful")] == [
        f"harmful_val/{n}" for n in range(3)
    ]
    record = {"id": "harmful_test/0", "category": "illegal", "en": "en t", "zh": "zh t"}
    (folder / "polyrefuse_harmful_test.jsonl").write_text(json.dumps(record) + "\n")
    record = {"id": "harmless_test/0", "en": "en t", "de": "de t"}
    (folder / "harmless_test.jsonl").write_text(json.dumps(record) + "\n")
    items = load_items("polyrefuse", path=folder, split="test", languages=["en", "zh"])
    assert [item.prompts for item in items] == [{"en": "en t", "zh": "zh t"}, {"en": "en t"}]
    assert f"{folder / 'harmless_test.jsonl'} lacks zh; its other languages are read." in "".join(
        items.warnings
    )
    assert len(load_items("polyrefuse", path=folder)) == 14
    with (folder / "harmless_test.jsonl").open("a") as file:
        file.write('5\n{"id": \n')
    items = load_items("polyrefuse", path=folder, split="test", languages=["en", "zh"], on_error="skip")
    assert [len(items), len(items.skipped)] == [2, 2]
    for part in ("train", "val"):
        (folder / f"polyrefuse_harmful_{part}.jsonl").unlink()
    assert load_items("polyrefuse", path=folder, split="test", kind="harmful", languages=["zh"])[
        0
    ].prompts == {"zh": "zh t"}
    with pytest.raises(DataError, match="no harmful_train.jsonl here"):
        load_items("polyrefuse", path=folder, kind="harmful")


def test_the_published_counts(data_folder: Path):
    counts = {
        (kind, split): len(load_items("polyrefuse", path=data_folder / "safety", kind=kind, split=split))
        for kind in ("harmful", "harmless")
        for split in ("train", "validation")
    }
    assert list(counts.values()) == [260, 39, 200, 200]
    assert len(load_items("polyrefuse", path=data_folder / "safety").languages) == 14
