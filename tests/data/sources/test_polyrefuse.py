"""PolyRefuse: harmful and harmless instructions, a file for each kind and split."""

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


def test_the_published_counts(data_folder: Path):
    counts = {
        (kind, split): len(load_items("polyrefuse", path=data_folder / "safety", kind=kind, split=split))
        for kind in ("harmful", "harmless")
        for split in ("train", "validation")
    }
    assert list(counts.values()) == [260, 39, 200, 200]
    assert len(load_items("polyrefuse", path=data_folder / "safety").languages) == 14
