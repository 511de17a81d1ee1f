"""MGSM: files of a language each, in the published form."""

from pathlib import Path

import pytest
from source_files import as_csv, write

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items

ROWS = {
    "en": [("Janet has 16 eggs. How many?", "18"), ('A "robe" takes 2 bolts.', "1,080")],
    "sw": [("Janet ana mayai 16. Ngapi?", "18"), ("Joho huchukua roli 2.", "1080")],
}


def files(folder: Path, **changes: list[tuple[str, ...]]) -> Path:
    for language, rows in (ROWS | changes).items():
        write(folder / f"mgsm_{language}.tsv", as_csv([list(row) for row in rows], "\t"))
    return folder


def test_rows_belong_together_and_numbers_are_right(tmp_path: Path):
    items = load_items("mgsm", path=files(tmp_path), languages=["en", "sw"])
    assert [item.id for item in items] == ["mgsm-000", "mgsm-001"]
    assert items[1].prompts == {"en": 'A "robe" takes 2 bolts.', "sw": "Joho huchukua roli 2."}
    assert items[1].targets == {"en": ("1080",), "sw": ("1080",)}
    assert items[1].candidates == {"en": (), "sw": ()}
    assert "2 rows, and the published set has 250" in items.warnings[0]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("Ngapi?", "18")], "different numbers of rows"),
        (
            [("Ngapi?", "18"), ("Ngapi?", "many")],
            "mgsm_sw.tsv:2: .*the last 'many', not a problem and a number",
        ),
        ([("Ngapi?", "18"), ("Ngapi?",)], "mgsm_sw.tsv:2: the row has 1 columns"),
        ([("Ngapi?", "18"), ("Ngapi?", "9", "1080")], "mgsm_sw.tsv:2: the row has 3 columns"),
        ([("Ngapi?", "20"), ("Ngapi?", "1080")], "mgsm_sw.tsv:1: the answer is 20, at .*mgsm_en.tsv:1"),
        ([("", "18"), ("Ngapi?", "1080")], "the prompt in 'sw' is empty"),
        ([("Ngapi?", ""), ("Ngapi?", "1080")], "not a problem and a number"),
    ],
)
def test_what_is_damaged_is_told_or_left_out(tmp_path: Path, rows, told):
    folder = files(tmp_path, sw=rows)
    with pytest.raises(DataError, match=told):
        load_items("mgsm", path=folder, languages=["en", "sw"])
    if len(rows) > 1:
        kept = load_items("mgsm", path=folder, languages=["en", "sw"], on_error="skip")
        assert (len(kept), len(kept.skipped)) == (1, 1)


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(DataError, match=r"no file of 'th' here \(looked for mgsm_th.tsv\)"):
        load_items("mgsm", path=files(tmp_path), languages=["en", "th"])
