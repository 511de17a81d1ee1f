"""Preference-pair records: what is written is read, one clear error for each kind of bad line, and training items."""

import json
from collections import Counter
from pathlib import Path

import pytest

from consistency_jax.data.items import DataError, validate
from consistency_jax.data.preferences import Pair, pair_items, pairs_text, read_pairs

RECORD = {
    "id": "Q1",
    "language": "fr",
    "prompt": "La capitale de la France est",
    "chosen": " Paris",
    "rejected": " Rome",
    "provenance": {"selection": "calm", "votes": [5, 2]},
}
PAIRS = [
    Pair("Q1", "fr", "La capitale de la France est", " Paris", " Rome", {"votes": [5, 2], "why": "é\u2028"}),
    Pair("Q1", "fr", "La capitale de la France est", " Paris", " Nice"),
    Pair("Q1", "ja", "フランスの首都は<mask>です。", "パリ", "ローマ", {"scores": [0.25, -1.5]}),
    Pair("Q2", "en", "Two\nlines:", "a\nb", ' "c"', written=False),
]


def written(folder: Path, *lines: object) -> Path:
    path = folder / "pairs.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(texts) + "\n", encoding="utf8")
    return path


def test_what_is_written_is_read(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(pairs_text(PAIRS))
    assert list(read_pairs(tmp_path / "pairs.jsonl")) == PAIRS
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]
    lines = (tmp_path / "pairs.jsonl").read_bytes().splitlines()
    keys = {"id", "language", "prompt", "chosen", "rejected", "provenance", "written"}
    assert set(json.loads(lines[0])) == keys


BAD = [
    ('{"id": "x", ', "the line is not JSON"),
    ("[1]", "not a JSON object"),
    ({key: value for key, value in RECORD.items() if key != "chosen"}, "key 'chosen' is missing"),
    ({**RECORD, "chosn": "x"}, "unknown key 'chosn'. Known: id, language"),
    ({**RECORD, "id": None}, "id is None"),
    ({**RECORD, "id": "a\0"}, "holds a control character"),
    ({**RECORD, "id": "a" * 6000}, "has 6,000 characters"),
    ({**RECORD, "language": "e\x1b[2Jn"}, "holds a control character"),
    ({**RECORD, "language": ["fr"]}, r"language is \['fr'\], not a string"),
    ({**RECORD, "prompt": "  "}, "prompt is empty"),
    ({**RECORD, "prompt": " <mask>"}, "empty but for its mask"),
    ({**RECORD, "prompt": "<mask> is <mask>"}, "the prompt has 2 <mask>"),
    ({**RECORD, "rejected": ""}, "rejected is empty"),
    ({**RECORD, "rejected": " Paris"}, "chosen and rejected are the same text"),
    ({**RECORD, "chosen": "\ud800"}, r"the chosen holds a lone surrogate"),
    ({**RECORD, "provenance": "calm"}, "provenance is not a JSON object"),
    ({**RECORD, "written": "yes"}, "written is 'yes'"),
    ({"id": "Q1", "prompts": {"en": "x"}, "candidates": {"en": [" a"]}}, "parallel item, not a preference"),
    (json.dumps(RECORD)[:-1] + ', "id": "Q2"}', "the key 'id' stands twice"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_line_is_named_or_skipped(tmp_path, line, reason):
    path = written(tmp_path, RECORD, line, "", RECORD)
    with pytest.raises(DataError, match=f"pairs.jsonl:2: .*{reason}"):
        read_pairs(path)
    pairs = read_pairs(path, "skip")
    assert len(pairs) == 2
    assert [":2: " in told for told in pairs.skipped] == [True]


def test_a_file_without_pairs_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_pairs(tmp_path / "pairs.jsonl")
    with pytest.raises(DataError, match=r"no usable line \(1 skipped\)"):
        read_pairs(written(tmp_path, "{"), "skip")


def test_pairs_become_items_of_one_language():
    items = pair_items(PAIRS, "file")
    assert [item.id for item in items] == ["Q1/fr/1", "Q1/fr/2", "Q1/ja/1", "Q2/en/1"]
    for pair, item in zip(PAIRS, items, strict=True):
        validate(item, "here")
        assert (item.group, item.gold, item.languages) == (pair.id, 0, (pair.language,))
        assert item.candidates[pair.language] == (pair.chosen, pair.rejected)
    kept = pair_items(PAIRS, "file", ["ja", "de"])
    assert [item.id for item in kept] == ["Q1/ja/1"]
    assert kept.warnings == [
        "file: 'fr' is not in data.languages; pairs left out: 2.",
        "file: 'en' is not in data.languages; pairs left out: 1.",
    ]
    with pytest.raises(DataError, match=r"data.languages \(de\).*The file has fr, ja, en"):
        pair_items(PAIRS, "file", ["de"])


def test_pairs_of_a_question_stand_together_for_grouped_batches():
    items = pair_items(PAIRS, "file", together=True)
    assert [(item.id, item.group, item.languages) for item in items] == [
        ("Q1/1", "Q1", ("fr", "ja")),
        ("Q1/2", "Q1", ("fr",)),
        ("Q2/1", "Q2", ("en",)),
    ]
    apart = pair_items(PAIRS, "file")
    assert Counter(texts for item in items for texts in item.candidates.items()) == Counter(
        texts for item in apart for texts in item.candidates.items()
    )
    for item in items:
        validate(item, "here")
