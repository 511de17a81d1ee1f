"""PKU-SafeRLHF: two answers to a prompt, of which one is safer and one better."""

from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items


def test_pku_answers_are_a_preference(tmp_path: Path):
    folder = source_files.pku(tmp_path)
    train = load_items("pku_saferlhf", path=folder, split="train")
    assert [item.gold for item in train] == [0] * 6
    assert all(item.written for item in train)
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
