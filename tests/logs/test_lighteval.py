"""Details of lighteval, as its version 0.13 writes them: documents, choices and their log-probabilities."""

from pathlib import Path

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.logs import read_logs

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

DATE = "2026-11-29T12-00-00.123456"


def detail(number: int, scores: list[float], gold: object, **changes: object) -> dict:
    doc = {
        "query": f"Q{number}:",
        "choices": [f"answer {k}" for k in range(len(scores))],
        "gold_index": gold,
        "id": str(number),
        "specific": {"key": f"k{number}"},
    }
    told = {"doc": doc, "model_response": {"logprobs": scores, "text": []}, "metric": {"acc": 1.0}}
    for name, value in changes.items():
        part = "doc" if name in doc else "model_response"
        told[part] = told[part] | {name: value}
    return told


def write(folder: Path, task: str, rows: list[dict], model: str = "model", date: str = DATE) -> Path:
    file = folder / "details" / "org" / model / date / f"details_{task}_{date}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file


@pytest.fixture
def folder(tmp_path):
    write(
        tmp_path, "lighteval|cities_eng_mcf|0", [detail(1, [-1.0, -3.0, -2.0], 2), detail(0, [-1.5, -2.0], 0)]
    )
    write(tmp_path, "cities_ita_mcf|0", [detail(1, [-4.0, -3.0, -2.0], 2), detail(0, [-1.5, -2.5], 0)])
    return tmp_path


def test_scores_stand_in_the_table_by_document_and_language(folder):
    logged = read_logs(folder)
    assert logged.model == "org/model"
    assert logged.notes == []
    table = logged.tables["cities_mcf"]
    assert (table.ids, table.languages) == (("0", "1"), ("en", "ita"))
    assert table.logp[1].tolist() == [[-1, -3, -2], [-4, -3, -2]]
    assert table.logp[0, :, :2].tolist() == [[-1.5, -2.0], [-1.5, -2.5]]
    assert table.gold.tolist() == [0, 2]
    assert logged.items["cities_mcf"][1].prompts["en"] == "Q1:"


def test_the_newest_details_of_a_task_count(folder):
    write(folder, "cities_ita_mcf|0", [detail(0, [-9.0, -8.0], 0)], date="2026-11-30T12-00-00.1")
    logged = read_logs(folder)
    assert logged.tables["cities_mcf"].logp[0, 1, :2].tolist() == [-9, -8]
    assert any("in 2 runs" in note for note in logged.notes)


def test_documents_are_joined_by_a_field(folder):
    assert read_logs(folder, join="key").tables["cities_mcf"].ids == ("k0", "k1")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"logprobs": [-1.0]}, "1 log-probabilities of 2 choices"),
        ({"logprobs": []}, "0 log-probabilities of 2 choices"),
        ({"logprobs": [None, None]}, "no choices"),
        ({"choices": ["one"], "logprobs": [-1.0]}, "1 log-probabilities of 1 choices"),
        ({"choices": []}, "2 log-probabilities of 0 choices"),
        ({"gold_index": 2}, "gold_index 2 of 2 choices"),
        ({"gold_index": 1}, "the right answer is 1, at .* it is 0"),
        ({"logprobs": [float("nan"), -1.0]}, "no finite number"),
        ({"choices": ["a", "b", "c"], "logprobs": [-1.0, -2.0, -3.0]}, "3 candidates, where .* has 2"),
    ],
)
def test_what_is_no_multiple_choice_is_told_with_its_row(tmp_path, changes, told):
    write(tmp_path, "cities_eng|0", [detail(0, [-1.5, -2.0], 0)])
    write(tmp_path, "cities_ita|0", [detail(0, [-1.5, -2.0], 0, **changes)])
    with pytest.raises(DataError, match=told) as error:
        read_logs(tmp_path)
    assert ".parquet:1" in str(error.value)


def test_what_else_cannot_be_read(folder):
    with pytest.raises(DataError, match="no choices.*'name'"):
        read_logs(folder, join="name")
    write(folder, "other_eng|0", [detail(0, [-1.0, -2.0], 0)], model="another")
    with pytest.raises(DataError, match="several models or runs, org/another, org/model"):
        read_logs(folder)
    assert read_logs(folder / "details" / "org" / "model").model == "org/model"
    file = write(folder, "cities_ita_mcf|0", [detail(0, [-1.0, -2.0], 0)])
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match="the file cannot be read"):
        read_logs(file.parent)


def test_an_unknown_right_answer_is_left_out(tmp_path):
    for language in ("eng", "ita"):
        write(tmp_path, f"cities_{language}|0", [detail(0, [-1.5, -2.0], -1)])
    assert read_logs(tmp_path).tables["cities"].gold.tolist() == [-1]
