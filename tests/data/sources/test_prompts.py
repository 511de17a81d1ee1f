"""Prompts without answers: what their readers give, and that nothing scores them by mistake."""

from collections import Counter
from pathlib import Path

import pytest
import source_files

from consistency_jax.config.defaults import default
from consistency_jax.data.items import DataError, check_spacing, require_answers
from consistency_jax.data.sources import load_items
from consistency_jax.evaluation.splits import load_split


def test_multijail(tmp_path: Path):
    file = source_files.multijail(tmp_path)
    items = load_items("multijail", path=file, languages=["sw", "en"])
    assert items == load_items("multijail", path=tmp_path, languages=["sw", "en"], split="test")
    assert [item.id for item in items] == [f"multijail-{n}" for n in range(4)]
    assert items[1].prompts == {"sw": 'sw "prompt", 1', "en": 'en "prompt", 1'}
    assert items[1].group == "Theft"
    assert items[1].candidates == {"sw": (), "en": ()}
    assert (items[1].num_candidates, items[1].gold) == (0, None)
    parts = [load_items("multijail", path=file, split=s, train_size=3) for s in ("train", "test")]
    assert [len(part) for part in parts] == [3, 1]


def test_polyrefuse(tmp_path: Path):
    folder = source_files.polyrefuse(tmp_path)
    items = load_items("polyrefuse", path=folder)
    assert len(items) == 12
    assert Counter(i.group for i in items) == {"harmful": 3, "harmful: illegal": 3, "harmless": 6}
    train = load_items("polyrefuse", path=folder, split="train", kind="harmless", languages=["yo"])
    assert [item.prompts for item in train] == [{"yo": f"yo {n}"} for n in range(3)]
    with pytest.raises(DataError, match="unknown kind 'bad'. Known: harmful, harmless, both"):
        load_items("polyrefuse", path=folder, kind="bad")


def test_xsafety(tmp_path: Path):
    folder = source_files.xsafety(tmp_path)
    items = load_items(
        "xsafety", path=folder, languages=["en", "es"], kinds=("commonsense", "Insult"), split="test"
    )
    assert [item.group for item in items] == ["commonsense"] * 4 + ["Insult"] * 4
    assert items[5].prompts == {"en": 'en, "Insult" 1', "es": 'sp, "Insult" 1'}
    assert items[5].id == "xsafety-Insult-001"
    with pytest.raises(DataError, match="en: no file Crimes_And_Illegal_Activities.csv"):
        load_items("xsafety", path=folder, languages=["en"])
    with pytest.raises(DataError, match="no folder 'hi'"):
        load_items("xsafety", path=folder, languages=["en", "hi"])


def test_instructions(tmp_path: Path):
    folder = source_files.instructions(tmp_path)
    items = load_items("instructions", path=folder)
    assert items.languages == ("en", "de", "sw")
    assert items[2].prompts == {"en": "English 3", "de": "Deutsch 3", "sw": "sw 3"}
    assert [item.id for item in items] == [f"instruction-{n}" for n in range(1, 6)]


def test_pku_answers_are_a_preference(tmp_path: Path):
    folder = source_files.pku(tmp_path)
    train = load_items("pku_saferlhf", path=folder, split="train")
    assert [item.gold for item in train] == [0] * 6
    assert train[0].candidates == {"en": ("\n\nNo 0.", "\n\nYes 0.")}
    assert [item.group for item in train] == ["both safe", "one safe"] * 3
    assert train[0].id == "data/train-0"
    better = load_items("pku_saferlhf", path=folder, split="test", prefer="better")
    assert [item.gold for item in better] == [1] * 6
    assert len(load_items("pku_saferlhf", path=folder)) == 12
    parts = {
        s: load_items("pku_saferlhf", path=folder, split=s, validation_size=2)
        for s in ("train", "validation")
    }
    assert {s: len(part) for s, part in parts.items()} == {"train": 4, "validation": 2}
    assert {item.id for part in parts.values() for item in part} == {item.id for item in train}
    with pytest.raises(DataError, match="there is no split 'validation'"):
        load_items("pku_saferlhf", path=folder, split="validation")


def test_jsonl_takes_bare_prompts_where_it_is_told_to(tmp_path: Path):
    file = source_files.write(tmp_path / "p.jsonl", '{"id": "a", "prompts": {"en": "x", "de": "y"}}\n')
    item = load_items("jsonl", path=file, bare=True)[0]
    assert item.candidates == {"en": (), "de": ()}
    with pytest.raises(DataError, match="the key 'candidates' is missing"):
        load_items("jsonl", path=file)


def test_bare_prompts_are_refused_where_answers_are_scored(tmp_path: Path):
    config = default()
    config.data.source, config.data.path = "multijail", str(source_files.multijail(tmp_path))
    message = "split 'test' of data.source='multijail': item 'multijail-0' is a bare prompt"
    with pytest.raises(DataError, match=message):
        load_split(config, "test")
    items = load_items("multijail", path=tmp_path)
    with pytest.raises(DataError, match="there is no answer to score. Take a source with candidates"):
        require_answers(items, "x")
    check_spacing(items[0], "either", "x")


def test_the_published_counts(data_folder: Path):
    items = load_items("multijail", path=data_folder / "safety")
    assert (len(items), len(items.languages), items.warnings) == (315, 10, [])
    counts = {
        (kind, split): len(load_items("polyrefuse", path=data_folder / "safety", kind=kind, split=split))
        for kind in ("harmful", "harmless")
        for split in ("train", "validation")
    }
    assert list(counts.values()) == [260, 39, 200, 200]
    assert len(load_items("polyrefuse", path=data_folder / "safety").languages) == 14
    items = load_items("instructions", path=data_folder / "instructions" / "vicuna12")
    assert (len(items), len(items.languages), items.warnings) == (80, 12, [])
