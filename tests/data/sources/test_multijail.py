"""MultiJail: parallel harmful prompts of one CSV."""

from pathlib import Path

import source_files

from consistency_jax.data.sources import load_items


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


def test_the_published_counts(data_folder: Path):
    items = load_items("multijail", path=data_folder / "safety")
    assert (len(items), len(items.languages), items.warnings) == (315, 10, [])
