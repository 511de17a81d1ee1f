"""XSafety: a folder for each language, a file for each kind of prompt."""

from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items


def test_xsafety(tmp_path: Path):
    folder = source_files.xsafety(tmp_path)
    items = load_items(
        "xsafety", path=folder, languages=["en", "es"], kinds=("commonsense", "Insult"), split="test"
    )
    assert [item.group for item in items] == ["commonsense"] * 4 + ["Insult"] * 4
    assert items[5].prompts == {"en": 'en, "Insult" 1', "es": 'sp, "Insult" 1'}
    assert items[5].id == "xsafety-Insult-001"
    crimes = source_files.xsafety(tmp_path / "crimes", kinds=("Crimes_And_Illegal_Activities",))
    own = load_items("xsafety", path=crimes, languages=["en", "es"], kinds=("Crimes_And_Illegal_Activities",))
    assert own[0].prompts["es"] == 'sp, "Crimes_And_Illegal_Activitie" 0'
    with pytest.raises(DataError, match="en: no file Crimes_And_Illegal_Activities.csv"):
        load_items("xsafety", path=folder, languages=["en"])
    with pytest.raises(DataError, match="no folder 'hi'"):
        load_items("xsafety", path=folder, languages=["en", "hi"])
