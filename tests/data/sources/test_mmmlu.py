"""MMMLU: OpenAI's files with MMLU's own English, the parallel file, letters and options, solved questions."""

import json
from pathlib import Path

import pytest
import source_files

from consistency_jax.data.items import DataError
from consistency_jax.data.sources import load_items


def test_openai_files_and_mmlu_own_english_are_joined_by_row(tmp_path: Path):
    items = load_items("mmmlu", path=source_files.mmmlu(tmp_path))
    assert items.languages == ("en", "ar", "de")
    assert [item.id for item in items] == [f"mmmlu-{i:05d}" for i in range(8)]
    assert [item.group for item in items] == ["anatomy"] * 4 + ["law"] * 4
    assert [item.gold for item in items] == [0, 1, 2, 3] * 2
    assert items[1].prompts["en"] == "Which, 1?\nA. apple\nB. pear\nC. plum\nD. fig\nAnswer:"
    assert items[1].prompts["de"].endswith("\nD. Feige\nAntwort:")
    assert items[1].candidates["ar"] == (" A", " B", " C", " D")
    assert items.warnings == [
        "mmmlu: 8 rows, and the published set has 14,042: splits are not the published ones."
    ]
    asked = load_items("mmmlu", path=tmp_path, languages=["de", "en"])
    assert asked.languages == ("de", "en")
    assert [item.prompts["en"] for item in asked] == [item.prompts["en"] for item in items]


def test_answers_may_be_the_options(tmp_path: Path):
    items = load_items("mmmlu", path=source_files.mmmlu(tmp_path), answers="full", languages=["de"])
    assert items[2].prompts == {"de": "Welche, 2?\nAntwort:"}
    assert items[2].candidates == {"de": (" Apfel", " Birne", " Pflaume", " Feige")}
    assert items[2].candidates["de"][items[2].gold] == " Pflaume"
    with pytest.raises(DataError, match="unknown answers 'words'. Known: letters, full"):
        load_items("mmmlu", path=tmp_path, answers="words")


def test_english_may_be_one_file_or_lie_elsewhere(tmp_path: Path):
    whole = load_items("mmmlu", path=source_files.mmmlu(tmp_path / "a"))
    source_files.mmmlu(tmp_path / "b", ("ar", "de", "en"))
    for file in (tmp_path / "b").rglob("*_*st.csv"):
        if file.stem.endswith("_test"):
            file.unlink()
    assert load_items("mmmlu", path=tmp_path / "b") == whole
    (tmp_path / "b" / "test" / "mmlu_EN-US.csv").rename(tmp_path / "english.csv")
    assert load_items("mmmlu", path=tmp_path / "b").languages == ("ar", "de")
    for english in (tmp_path / "a", tmp_path / "a" / "test", tmp_path / "english.csv"):
        assert load_items("mmmlu", path=tmp_path / "b", english=str(english)) == whole
    with pytest.raises(DataError, match="no test questions in 'en' .mmlu_EN-US.csv, or MMLU's folder"):
        load_items("mmmlu", path=tmp_path / "b", languages=["en"])


def test_the_parallel_file_says_the_same(tmp_path: Path):
    file = source_files.mmmlu_parallel(tmp_path / "p.jsonl")
    parallel = load_items("mmmlu", path=file)
    assert load_items("mmmlu", path=tmp_path) == parallel
    assert list(parallel) == list(
        load_items("mmmlu", path=source_files.mmmlu(tmp_path / "m"), languages=["en", "de"])
    )
    with pytest.raises(DataError, match="unknown language 'ar'. Known: en, de"):
        load_items("mmmlu", path=file, languages=["ar"])


def test_solved_questions_stand_before_the_question(tmp_path: Path):
    folder = source_files.mmmlu(tmp_path)
    items = load_items("mmmlu", path=folder, languages=["en"], shots=2)
    assert items[5].context["en"].split("\n\n") == [
        "Dev Which, 2?\nA. apple\nB. pear\nC. plum\nD. fig\nAnswer: C",
        "Dev Which, 3?\nA. apple\nB. pear\nC. plum\nD. fig\nAnswer: D",
    ]
    both = load_items("mmmlu", path=folder, languages=["de", "en"], shots=1, shots_language="en")
    assert both[0].context["de"] == both[0].context["en"] == items[0].context["en"].split("\n\n")[0]
    own = source_files.mmmlu(tmp_path / "dev", ("de",))
    given = load_items("mmmlu", path=folder, languages=["de"], shots=1, dev=str(own / "test"))
    assert given[0].context["de"].startswith("Welche, 0?\nA. Apfel")
    with pytest.raises(DataError, match="no dev questions in 'de' .mmlu_DE-DE.csv.. See data.options.dev"):
        load_items("mmmlu", path=folder, languages=["de"], shots=1)
    with pytest.raises(DataError, match="2 solved questions in 'en' for 'anatomy'. Take shots=2 or fewer"):
        load_items("mmmlu", path=folder, languages=["en"], shots=5)


def test_doubled_options_are_counted_whatever_the_candidates(tmp_path: Path):
    folder = source_files.mmmlu(tmp_path)
    file = folder / "test" / "mmlu_DE-DE.csv"
    file.write_bytes(file.read_bytes().replace(b"Birne", b"Apfel", 2))
    for answers in ("letters", "full"):
        items = load_items("mmmlu", path=folder, answers=answers)
        assert len(items) == 8
        doubled = [w for w in items.warnings if "holds the option 'Apfel' more than once" in w]
        assert len(doubled) == 2


def test_the_published_counts(data_folder: Path):
    items = load_items("mmmlu", path=data_folder / "mmlu" / "mmlu_en_ar_parallel.jsonl.gz")
    assert len(items) == 14042
    assert items.languages == ("en", "ar")
    assert len({item.group for item in items}) == 57
    assert sum("'ar'" in warning for warning in items.warnings) == 27
    assert sum("'en'" in warning for warning in items.warnings) == 9
    assert len(items.warnings) == 36


def test_a_line_of_a_parallel_file_without_a_language_is_a_bad_row_and_not_the_end_of_the_language(
    tmp_path: Path,
):
    file = source_files.mmmlu_parallel(tmp_path / "p.jsonl")
    whole = load_items("mmmlu", path=file)
    first, *others = file.read_text("utf8").splitlines()
    first = json.dumps({key: value for key, value in json.loads(first).items() if key != "de"})
    file.write_text("\n".join([first, *others]) + "\n", "utf8")
    with pytest.raises(DataError, match=r"p\.jsonl:1: "):
        load_items("mmmlu", path=file)
    items = load_items("mmmlu", path=file, on_error="skip")
    assert list(items) == [item for item in whole if item.id in {own.id for own in items}]
    assert len(items) == len(whole) - 1
    assert set(items.languages) == {"en", "de"}
    more = json.dumps(json.loads(others[0]) | {"id": "x/more", "fr": ["q", "a", "b", "c", "d"]})
    file.write_text("\n".join([*others, more]) + "\n", "utf8")
    assert set(load_items("mmmlu", path=file).languages) == {"en", "de"}  # those of most lines
