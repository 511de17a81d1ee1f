"""The re-uploads that the published code reads: from TSV, CSV, JSON lines and Parquet, a folder or the Hub."""

import csv
import json
from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items


def test_a_list_is_read_as_a_literal_and_never_run(tmp_path: Path):
    folder = source_files.hub(tmp_path)
    items = load_items("hub", path=folder)
    assert items.languages == ("en", "zh")
    assert len(items) == 8
    for number, item in enumerate(items):
        answers = {language: own[item.gold].strip() for language, own in item.candidates.items()}
        assert answers == {k: source_files.FRUIT[k][number % 4] for k in ("en", "zh")}
        assert item.candidates["en"][0].startswith(" ")
        assert not item.candidates["zh"][0].startswith(" ")
    assert [item.gold for item in load_items("hub", path=folder, shuffle=False)] == [0, 1, 2, 3] * 2
    row = f"Why?\tx\t__import__('pathlib').Path({str(tmp_path / 'run')!r}).touch() or ['x']\r\n"
    (folder / "en.tsv").write_bytes(b"Prompt\tAns\tCandidate Ans\r\n" + row.encode() * 8)
    with pytest.raises(DataError, match="en.tsv:2: Candidate Ans .* is no list of texts"):
        load_items("hub", path=folder)
    assert not (tmp_path / "run").exists()


def test_a_cloze_keeps_its_spaces(tmp_path: Path):
    text = source_files.as_csv([["Prompt", "Ans", "Candidate Ans"], ["A <mask> b", "x", "['x', 'y']"]])
    source_files.write(tmp_path / "en.csv", text)
    assert sorted(load_items("hub", path=tmp_path)[0].candidates["en"]) == ["x", "y"]


def test_every_form_gives_the_same_items(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    expected = load_items("hub", path=source_files.hub(tmp_path / "tsv"))
    for language in ("en", "zh"):
        with open(tmp_path / "tsv" / f"{language}.tsv", encoding="utf8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        source_files.write(tmp_path / "json" / f"set_{language}.jsonl", source_files.as_jsonl(rows))
        (tmp_path / "parquet" / language).mkdir(parents=True)
        for part, own in (("test", rows), ("train", rows[:1])):
            file = tmp_path / "parquet" / language / f"{part}-00000-of-00001.parquet"
            parquet.write_table(pyarrow.Table.from_pylist(own), file)
        lists = [row | {"Candidate Ans": json.loads(row["Candidate Ans"].replace("'", '"'))} for row in rows]
        source_files.write(tmp_path / "lists" / language / "test.jsonl", source_files.as_jsonl(lists))
    for form in ("json", "parquet", "lists"):
        assert load_items("hub", path=tmp_path / form, languages=["en", "zh"]) == expected
    assert load_items("hub", path=tmp_path / "parquet" / "{language}", languages=["en", "zh"]) == expected
    assert len(load_items("hub", path=tmp_path / "parquet", part="train")) == 1


def test_a_hub_id_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    folder, asked = source_files.hub(tmp_path), []

    def download(name: str, **options: object) -> str:
        asked.append((name, options["repo_type"]))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert len(load_items("hub", path="JRQi/MMMLU")) == 8
    assert asked == [("JRQi/MMMLU", "dataset")]

    def refuse(name: str, **options: object) -> str:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(
        DataError, match="JRQi/MMMLU: no such file or folder, and the Hub gave no data set .offline"
    ):
        load_items("hub", path="JRQi/MMMLU")
    with pytest.raises(DataError, match="/nowhere: no such file or folder"):
        load_items("hub", path="/nowhere")


def test_which_file_is_meant_must_be_clear(tmp_path: Path):
    for name in ("one", "two"):
        source_files.write(tmp_path / "en" / f"{name}.csv", "Prompt,Ans,Candidate Ans\r\n")
    with pytest.raises(
        DataError, match="language 'en': 2 files where one is wanted .en/one.csv, en/two.csv."
    ):
        load_items("hub", path=tmp_path, languages=["en"])
    with pytest.raises(DataError, match="needs to be told its languages"):
        load_items("hub", path=tmp_path / "{language}")
    with pytest.raises(DataError, match="unknown language 'fr'"):
        load_items("hub", path=source_files.hub(tmp_path / "h"), languages=["en", "fr"])


def test_verbatim_joins_what_the_file_has(tmp_path: Path):
    rows = [["Prompt", "Ans", "Candidate Ans"]]
    rows += [["Capital of France:", "Paris", "['Paris', ' Rome']"], ["Is it? ", " Yes", "[' Yes', 'No']"]]
    source_files.write(tmp_path / "en.tsv", source_files.as_csv(rows, "\t"))
    options = {"path": tmp_path, "languages": ["en"], "shuffle": False}
    items = load_items("hub", **options, join="verbatim")
    joined = [[item.prompts["en"] + answer for answer in item.candidates["en"]] for item in items]
    assert joined == [["Capital of France:Paris", "Capital of France: Rome"], ["Is it?  Yes", "Is it? No"]]
    spaced = load_items("hub", **options)
    joined = [[item.prompts["en"] + answer for answer in item.candidates["en"]] for item in spaced]
    assert joined == [["Capital of France: Paris", "Capital of France: Rome"], ["Is it? Yes", "Is it? No"]]
    with pytest.raises(DataError, match="unknown join 'glue'"):
        load_items("hub", **options, join="glue")
