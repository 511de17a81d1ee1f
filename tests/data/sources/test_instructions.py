"""Parallel instructions: a file for each language."""

from pathlib import Path

import source_files

from consistency_jax.data.sources import load_items


def test_instructions(tmp_path: Path):
    folder = source_files.instructions(tmp_path)
    items = load_items("instructions", path=folder)
    assert items.languages == ("en", "de", "sw")
    assert items[2].prompts == {"en": "English 3", "de": "Deutsch 3", "sw": "sw 3"}
    assert [item.id for item in items] == [f"instruction-{n}" for n in range(1, 6)]


def test_the_published_counts(data_folder: Path):
    items = load_items("instructions", path=data_folder / "instructions" / "vicuna12")
    assert (len(items), len(items.languages), items.warnings) == (80, 12, [])
