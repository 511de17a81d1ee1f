"""Which file is a language's, by its name alone."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.language_files import files_by_language, files_of_all, lines_of, texts_of


def folder(tmp_path: Path, *names: str) -> str:
    for name in names:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a,b\n1,2\n")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("en.csv", "sw.csv"), {"en": "en.csv", "sw": "sw.csv"}),
        (("set_en.csv", "set_sw.csv"), {"en": "set_en.csv", "sw": "set_sw.csv"}),
        (("zho_Hans.csv", "zho_Hant.csv"), {"zho_Hans": "zho_Hans.csv", "zho_Hant": "zho_Hant.csv"}),
        (("pt-BR/test.csv", "pt-BR/dev.csv"), {"pt-BR": "pt-BR/test.csv"}),
        (("et/test.csv", "translation-et/test.csv"), {"et": "et/test.csv"}),
        (("mmlu_en/dev.csv", "mmlu_sw/dev.csv"), {"en": "mmlu_en/dev.csv", "sw": "mmlu_sw/dev.csv"}),
        (("dev/en.csv", "dev/sw.csv"), {"en": "dev/en.csv", "sw": "dev/sw.csv"}),
    ],
)
def test_a_file_is_found_by_its_language(tmp_path: Path, names: tuple[str, ...], found: dict[str, str]):
    files = files_by_language(folder(tmp_path, *names), None, "test")
    assert {language: [file.relative_to(tmp_path) for file in own] for language, own in files.items()} == {
        language: [Path(name)] for language, name in found.items()
    }


def test_the_name_of_one_file_alone_is_no_language(tmp_path: Path):
    for name in ("qa.csv", "my_data.csv", "all.csv"):
        with pytest.raises(DataError, match="name it: language=COLUMN"):
            files_by_language(folder(tmp_path / name, name) + f"/{name}", None, "test")
    for name in ("sw", "quy_Latn"):
        assert list(files_by_language(folder(tmp_path, f"{name}.csv") + f"/{name}.csv", None, "test")) == [
            name
        ]
    assert list(files_by_language(folder(tmp_path, "my_en.csv") + "/my_en.csv", ["en"], "test")) == ["en"]


def test_a_part_may_be_the_name_of_a_folder(tmp_path: Path):
    path = folder(tmp_path, "en/test/data.csv", "en/train/data.csv")
    assert files_by_language(path, None, "train")["en"] == [tmp_path / "en" / "train" / "data.csv"]
    assert files_of_all(path, "test") == [tmp_path / "en" / "test" / "data.csv"]


def test_parts_of_one_file_are_joined_and_others_are_not(tmp_path: Path):
    path = folder(tmp_path, "en/test-00000-of-00002.csv", "en/test-00001-of-00002.csv", "en/train.csv")
    own = files_by_language(path, ["en"], "test")["en"]
    assert [file.name for file in own] == ["test-00000-of-00002.csv", "test-00001-of-00002.csv"]
    assert [line.value for line in lines_of(own)] == [{"a": "1", "b": "2"}] * 2
    with pytest.raises(DataError, match="3 files where one is wanted .*Say which: part=WORD"):
        files_by_language(path, ["en"], "validation")
    assert [file.name for file in files_of_all(path, "train")] == ["train.csv"]
    with pytest.raises(DataError, match="3 files, and none is named 'validation' .en/test-.*part=WORD"):
        files_of_all(path, "validation")
    with pytest.raises(DataError, match="no file .*csv.* here"):
        files_of_all(folder(tmp_path / "empty" / "more", "x.txt"), "test")


def test_files_of_several_forms_are_no_parts_of_one(tmp_path: Path):
    path = folder(tmp_path, "en/test.csv", "en/test.tsv")
    with pytest.raises(DataError, match="2 files where one is wanted"):
        files_by_language(path, ["en"], "test")
    with pytest.raises(DataError, match="files in several forms ..csv, .tsv.. Give the files of one form"):
        files_of_all(path, "test")


def test_a_split_of_one_language_is_not_joined_with_another_of_the_next(tmp_path: Path):
    path = folder(tmp_path, "en_test.csv", "en_dev.csv", "sw_dev.csv")
    with pytest.raises(
        DataError, match="some languages have a file named 'test', and none has sw. Say which"
    ):
        files_by_language(path, None, "test")
    assert [own[0].name for own in files_by_language(path, None, "dev").values()] == [
        "en_dev.csv",
        "sw_dev.csv",
    ]
    assert list(files_by_language(path, ["en"], "test")) == ["en"]


def test_packed_files_are_read_by_the_form_within_and_unknown_ones_named(tmp_path: Path):
    packed = tmp_path / "x.tsv.gz"
    packed.write_bytes(gzip.compress(b"a\tb\n1\t2\n"))
    assert [line.value for line in lines_of([packed])] == [{"a": "1", "b": "2"}]
    (tmp_path / "X.CSV").write_text("a,b\n1,2\n")
    assert [line.value for line in lines_of([tmp_path / "X.CSV"])] == [{"a": "1", "b": "2"}]
    (tmp_path / "x.ndjson").write_text("{}\n")
    with pytest.raises(DataError, match="x.ndjson: its name ends as none that is read. Known: .csv"):
        list(lines_of([tmp_path / "x.ndjson"]))


def test_a_cell_of_texts():
    assert texts_of("['a', 'b']", "x", "f:1") == texts_of('["a", "b"]', "x", "f:1") == ["a", "b"]
    for texts in (["\U0001f600", "b"], ["a/b", 'c"d', "e'f"]):
        assert texts_of(json.dumps(texts), "x", "f:1") == texts_of(repr(texts), "x", "f:1") == texts
    assert texts_of('["a\\/b"]', "x", "f:1") == ["a/b"]
    with pytest.raises(DataError, match="texts without a comma between. Write"):
        texts_of("['Paris' 'Rome' 'Oslo']", "x", "f:1")
    with pytest.raises(DataError, match="texts without a comma between"):
        texts_of(str(np.array(["a long name of a city"] * 6)), "x", "f:1")  # in several lines
    for wrong in ("a b", "[1, 2]", 3, None, "__import__('os')"):
        with pytest.raises(DataError, match="f:1: x .* is no list of texts"):
            texts_of(wrong, "x", "f:1")
