"""Scores as JSON lines that anyone can write."""

import json

import pytest

from consistency_jax.data.items import DataError
from consistency_jax.logs import read_logs


def line(code: str, **changes: object) -> dict:
    return {"id": "q1", "language": code, "scores": [-1.5, -3.2]} | changes


def read(tmp_path, *lines: dict, **options: str):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(own) + "\n" for own in lines), encoding="utf8")
    return read_logs(path, **options)


def test_the_least_that_a_line_holds_is_enough(tmp_path):
    logged = read(tmp_path, line("en"), line("sw", scores=[-2, -1]))
    table = logged.tables["answers"]
    assert logged.model == "mine"
    assert table.languages == ("en", "sw")
    assert table.logp[0].tolist() == [[-1.5, pytest.approx(-3.2)], [-2, -1]]
    assert table.gold.tolist() == [-1]
    assert logged.items["answers"][0].candidates["sw"] == ("answer 1", "answer 2")


def test_what_else_a_line_may_hold_is_kept(tmp_path):
    told = {
        "prompt": "Where?",
        "candidates": ["here", "there"],
        "gold": [1, 0],
        "group": "places",
        "key": "k",
    }
    lines = [line(language, task=task, **told) for task in ("a", "b") for language in ("en", "sw")]
    lines[2]["id"] = lines[3]["id"] = "other"
    logged = read(tmp_path, *lines)
    assert list(logged.items) == ["a", "b"]
    (item,) = logged.items["a"]
    assert (item.right, item.group, item.prompts["sw"]) == ((1, 0), "places", "Where?")
    assert logged.items["b"][0].id == "other"
    assert list(read(tmp_path, *lines, tasks="b").items) == ["b"]
    assert read(tmp_path, *lines, join="key").items["a"][0].id == "k"
    with pytest.raises(DataError, match="no task c; there are a, b"):
        read(tmp_path, *lines, tasks="c")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scores": [-1.0]}, "1 scores of 1 candidates"),
        ({"scores": [-1.0, -2.0, -3.0]}, "3 candidates, where .* has 2"),
        ({"scores": []}, "no answer can be read"),
        ({"scores": ["x", 1]}, "no answer can be read"),
        ({"scores": None}, "no answer can be read"),
        ({"scores": "12"}, "scores is no list"),
        ({"scores": [True, 1]}, "scores are no numbers"),
        ({"candidates": "ab"}, "candidates is no list"),
        ({"language": None}, "language None"),
        ({"task": " "}, "task ' '"),
        ({"scores": [float("nan"), 1]}, "no finite number|NaN"),
        ({"candidates": ["a"]}, "2 scores of 1 candidates"),
        ({"gold": 2}, "gold is 2"),
        ({"gold": "A"}, "gold is 'A'"),
        ({"gold": True}, "gold is True"),
        ({"language": "en"}, "id 'q1' stands twice in 'en'"),
        ({"id": "q2"}, "no question is there in two languages of en, sw"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(tmp_path, changes, told):
    with pytest.raises(DataError, match=told):
        read(tmp_path, line("en"), line("sw", **changes))


@pytest.mark.parametrize("text", ['{"id": "q"', "[1, 2]", '"text"'])
def test_a_line_that_is_none_is_told(tmp_path, text):
    (tmp_path / "x.jsonl").write_text(text + "\n")
    with pytest.raises(DataError, match=r"x.jsonl:1: "):
        read_logs(tmp_path)
