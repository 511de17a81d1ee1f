"""Joining files of one language each."""

import random
from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.choices import Question
from consistency_jax.data.sources.parallel import by_id, by_place, check_alike, counted, keyed

BAD = DataError("x.csv:2: bad. Mend it")


def test_rows_are_joined_by_place_and_a_bad_one_is_bad_in_all_languages():
    rows = by_place({"en": ["a", "b", "c"], "fr": ["d", BAD, "f"]}, "folder")
    assert rows == [{"en": "a", "fr": "d"}, BAD, {"en": "c", "fr": "f"}]
    with pytest.raises(DataError, match="folder: files have different numbers of rows .*'en': 1, 'fr': 2"):
        by_place({"en": ["a"], "fr": ["b", "c"]}, "folder")


def test_rows_are_joined_by_id_in_the_order_of_one_file(tmp_path: Path):
    texts = {"en": ("one", "two", "three"), "fr": ("trois", "un"), "de": ("drei", "zwei", "eins", "vier")}
    ids = {"en": (1, 2, 3), "fr": (3, 1), "de": (3, 2, 1, 4)}
    files, tables = {}, {}
    for language, own in texts.items():
        records = [{"n": n, "text": text} for n, text in zip(ids[language], own, strict=True)]
        files[language] = source_files.write(tmp_path / f"{language}.jsonl", source_files.as_jsonl(records))
        tables[language] = keyed(files[language], "n", lambda record, where: record["text"])
    rows, warnings = by_id(tables["en"], {k: tables[k] for k in ("de", "fr")}, files)
    assert rows[0] == {"de": "eins", "fr": "un"}
    assert str(rows[1]).startswith(f"{files['fr']}: id '2' is missing")
    assert rows[2] == {"de": "drei", "fr": "trois"}
    assert warnings == [f"{files['de']}: 1 ids are in no other file and left out, the first: '4'."]


def test_a_bad_line_stands_under_its_id_or_its_place(tmp_path: Path):
    text = '{"id": "a", "x": 1}\n{"id": "b"}\n{\n{"id": "a", "x": 2}\n{"x": 3}\n'
    file = source_files.write(tmp_path / "x.jsonl", text)

    def make(record: dict, where: str) -> int:
        if "x" not in record:
            raise DataError.at(where, "no x", "Write it")
        return record["x"]

    table = keyed(file, "id", make)
    assert list(table) == ["a", "b", f"{file}:3", f"{file}:5"]
    assert "x.jsonl:4: id 'a' stands twice in the file" in str(table["a"])
    assert "x.jsonl:2: no x" in str(table["b"])
    assert "x.jsonl:5: the key 'id' is missing" in str(table[f"{file}:5"])


def test_rows_that_say_otherwise_are_not_parallel():
    one = Question("q", ("a", "b"), 1, "en:3", "law", "7")
    check_alike({"en": one, "de": one._replace(where="de:3", number="")}, "answer", "subject", "number")
    with pytest.raises(DataError, match="de:3: its answer is 0, that of en:3 is 1: rows are not parallel"):
        check_alike({"en": one, "de": one._replace(where="de:3", answer=0)}, "subject", "answer")


def test_numbers_in_keys_count_as_numbers_whatever_the_order_they_come_in():
    keys = ["", "2", "10", "a", "a2", "a10", "a10b", "b", "q²"]
    for seed in range(5):
        assert counted(random.Random(seed).sample(keys, len(keys))) == keys
