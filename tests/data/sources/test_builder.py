"""Sources as TFDS builders: the same items, from ArrayRecord, and never stale ones."""

import json
from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import builder, load_items

SOME = {"train_size": 3}


@pytest.mark.parametrize(
    ("source", "make", "options"),
    [
        ("mmmlu", source_files.mmmlu, {"languages": ["en", "de"], "shots": 1, "shots_language": "en"} | SOME),
        ("xcsqa", source_files.xcsqa, {"languages": ["zh", "ja"]} | SOME),
        ("multijail", lambda path: source_files.multijail(path).parent, {"languages": ["en", "sw"]} | SOME),
        ("pku_saferlhf", source_files.pku, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_records_are_the_items(tmp_path: Path, source: str, make, options: dict):
    path = make(tmp_path / "set")
    made = builder.tfds_builder(
        source, path=path, splits=("train", "every"), folder=tmp_path / "c", **options
    )
    for split in ("train", "every"):
        rows = made.as_data_source(split)
        expected = load_items(source, path=path, split=None if split == "every" else split, **options)
        assert builder.to_items(rows) == expected
        assert len(rows) == len(expected)
    assert list((tmp_path / "c").rglob("*.array_record*"))


def test_what_is_right_is_kept(tmp_path: Path):
    texts = {"en": [" a", " b", " c"], "fr": [" d", " e", " f"]}
    lines = [
        {"id": f"Q{n}", "gold": gold, "prompts": {"en": "x", "fr": "y"}, "candidates": texts}
        for n, gold in enumerate((None, 1, [2, 0]))
    ]
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    made = builder.tfds_builder("jsonl", path=path, splits=["every"], folder=tmp_path / "c")
    items = builder.to_items(made.as_data_source("every"))
    assert [item.right for item in items] == [(), (1,), (2, 0)]
    assert items == load_items("jsonl", path=path)


def test_texts_that_are_right_are_kept(tmp_path: Path):
    row = {"id": "x", "prompts": {"en": "Where?", "sw": "Wapi?"}, "targets": {"sw": ["Misri", "Kemet"]}}
    file = source_files.write(tmp_path / "open.jsonl", source_files.as_jsonl([row]))
    made = builder.tfds_builder("jsonl", path=file, splits=("every",), folder=tmp_path / "cache")
    assert builder.to_items(made.as_data_source("every")) == load_items("jsonl", path=file)


def test_what_is_cached_is_not_read_again_unless_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, calls = source_files.multijail(tmp_path), []

    def counted(*args: object, **options: object):
        calls.append(args)
        return load_items(*args, **options)

    monkeypatch.setattr(builder, "load_items", counted)
    for expected in (1, 1):
        made = builder.tfds_builder("multijail", path=path, splits=["every"], folder=tmp_path / "c")
        assert len(made.as_data_source("every")) == 4
        assert len(calls) == expected
    source_files.multijail(tmp_path, 6)
    made = builder.tfds_builder("multijail", path=path, splits=["every"], folder=tmp_path / "c")
    assert len(made.as_data_source("every")) == 6
    builder.tfds_builder("multijail", path=path, languages=["en"], splits=["every"], folder=tmp_path / "c")
    assert len(calls) == 3


@pytest.mark.parametrize("kind", [str, Path])
def test_files_that_an_option_names_are_part_of_the_key(tmp_path: Path, kind: type):
    path, english = source_files.mmmlu(tmp_path / "set"), tmp_path / "english"
    english.mkdir()
    (path / "test").rename(english / "test")
    options = {"languages": ["en"], "english": kind(english), "splits": ["every"], "folder": tmp_path / "c"}
    first = builder.to_items(builder.tfds_builder("mmmlu", path=path, **options).as_data_source("every"))
    file = min((english / "test").glob("*.csv"))
    file.write_text(file.read_text(encoding="utf8").replace(",A\n", ",B\n"), encoding="utf8")
    second = builder.to_items(builder.tfds_builder("mmmlu", path=path, **options).as_data_source("every"))
    assert [item.gold for item in second] != [item.gold for item in first]


def test_bad_data_is_told_as_ever(tmp_path: Path):
    path = source_files.multijail(tmp_path)
    path.write_bytes(path.read_bytes().replace(b",jv", b",xx", 1))
    with pytest.raises(DataError, match="MultiJail.csv:1: no column 'jv'"):
        builder.tfds_builder("multijail", path=path, splits=["every"], folder=tmp_path / "c")
