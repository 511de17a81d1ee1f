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


def test_rows_with_one_candidate_are_told_or_left_out(tmp_path: Path):
    folder = source_files.bmlama(tmp_path, count=20)
    for language in ("en", "zh"):
        file = folder / f"{language}.tsv"
        lines = file.read_text("utf8").splitlines(keepends=True)
        cells = lines[4].split("\t")
        lines[4] = "\t".join([cells[0], cells[1], cells[1], cells[3]])
        file.write_text("".join(lines), "utf8")
    whole = load_items("bmlama53", path=folder, languages=["en", "zh"])
    assert [len(whole), whole[3].num_candidates] == [20, 1]
    assert whole.warnings == [
        f"{folder}: 1 rows have one candidate, which is always right and has no rank; single=False leaves them out."
    ]
    items = load_items("bmlama53", path=folder, languages=["en", "zh"], single=False)
    assert [item.id for item in items] == [item.id for n, item in enumerate(whole) if n != 3]
    assert not items.warnings
    for split in ("train", "test"):  # no other row changes its split
        ids = [
            [
                i.id
                for i in load_items("bmlama53", path=folder, languages=["en", "zh"], split=split, single=own)
            ]
            for own in (True, False)
        ]
        assert ids[1] == [name for name in ids[0] if name != whole[3].id]
