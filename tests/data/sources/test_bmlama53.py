"""BMLAMA-53: the form of BMLAMA-17, other languages."""

from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items
from consistency_jax.data.sources.bmlama53 import LANGUAGES


def test_bmlama53_has_the_same_form(tmp_path: Path):
    folder = source_files.bmlama(tmp_path, count=20)
    (folder / "zh.tsv").rename(folder / "ceb.tsv")
    items = load_items("bmlama53", path=folder, languages=["en", "ceb"])
    assert [item.id for item in items[:2]] == ["bmlama53-0000", "bmlama53-0001"]
    assert not items.warnings
    assert len(load_items("bmlama53", path=folder, languages=["ceb"], split="train")) == 14
    with pytest.raises(DataError, match="ca.tsv: no such file"):
        load_items("bmlama53", path=folder)


def test_there_are_53_languages():
    assert len(set(LANGUAGES)) == len(LANGUAGES) == 53
