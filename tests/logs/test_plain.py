"""Scores as JSON lines that anyone can write."""

import json

import numpy as np
import pytest

from consistency_jax.data.items import DataError
from consistency_jax.logs import read_logs
from consistency_jax.metrics import all_agree, correct, top1_agreement
from consistency_jax.metrics.kappa import capa_parts
from consistency_jax.table import NEVER


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
        ({"scores": [-1.0]}, "1 scores of 1 candidates; two or more"),
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
        ({"language": "en"}, "id 'q1' stands in 'en' at .*mine.jsonl:1, too"),
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


def answer(question: int, code: str, text: str | None, **changes: object) -> dict:
    return {"id": f"q{question}", "language": code, "answer": text} | changes


def given(logged) -> list[list[str]]:
    """The answers of each question, by language."""
    table, items = logged.tables["answers"], logged.items["answers"]
    return [
        [
            item.candidates[code][row.argmax()]
            for code, row in zip(table.languages, rows, strict=True)
            if code in item.prompts
        ]
        for item, rows in zip(items, table.logp, strict=True)
    ]


def test_of_answers_alone_agreement_is_what_can_be_told(tmp_path):
    rows = {"en": "ABCA", "sw": "ABDC"}
    lines = [
        answer(n, code, text, gold="ABCA"[n]) for code, texts in rows.items() for n, text in enumerate(texts)
    ]
    logged = read(tmp_path, *lines)
    table = logged.tables["answers"]
    assert table.known == "texts"
    assert table.normalizations == ("sum",)
    assert given(logged) == [["A", "A"], ["B", "B"], ["C", "D"], ["A", "C"]]
    assert table.gold.tolist() == [0, 0, 0, 0]  # what is right stands first
    assert "no CLC and with what else could be answered unknown, no kappas" in logged.notes[0]


def test_answers_are_texts_or_numbers_of_a_language_s_own_candidates(tmp_path):
    places = {"en": [" Egypt", " Kenya"], "sw": ["Misri", "Kenya"]}
    lines = [
        answer(0, "en", "Egypt ", candidates=places["en"], gold=["Egypt"]),
        answer(0, "sw", 0, candidates=places["sw"], gold=0),
    ]
    logged = read(tmp_path, *lines)
    assert logged.tables["answers"].known == "answers"
    assert logged.tables["answers"].logp.tolist() == [[[0, NEVER], [0, NEVER]]]
    assert logged.tables["answers"].gold.tolist() == [0]
    assert logged.items["answers"][0].candidates["sw"] == ("Misri", "Kenya")


def test_what_is_right_is_one_answer_in_whatever_words(tmp_path):
    words = {"en": ("Egypt", "Egypt"), "sw": (["Misri", "Egipti"], "egipti."), "fr": ("Égypte", "Tchad")}
    lines = [answer(0, code, text, gold=gold) for code, (gold, text) in words.items()]
    logged = read(tmp_path, *lines)
    assert dict(zip(logged.tables["answers"].languages, given(logged)[0])) == {
        "en": "Egypt",
        "fr": "Tchad",
        "sw": "egipti.",  # as it was written
    }
    assert logged.tables["answers"].logp.argmax(-1).tolist() == [[0, 1, 0]]


def test_what_is_right_in_one_language_is_not_right_in_another_by_its_letters_alone(tmp_path):
    """Word for "red" in one, of another answer in the other."""
    lines = [answer(0, "en", "rot", gold="decay"), answer(0, "de", "rot", gold="rot")]
    logged = read(tmp_path, *lines)
    assert logged.tables["answers"].logp.argmax(-1).tolist() == [[0, 1]]  # German, English
    for one, other in (("A", "B"), ("18", "20")):
        lines = [answer(0, "en", one, gold=one), answer(0, "sw", one, gold=other)]
        with pytest.raises(
            DataError, match=f"the right answer is {other}, at .*jsonl:1 it is {one}.*candidates"
        ):
            read(tmp_path, *lines)


def test_no_answer_is_one_of_its_own_and_wrong(tmp_path):
    lines = [answer(n, code, text, gold="A") for code in ("en", "sw") for n, text in enumerate(("A", None))]
    logged = read(tmp_path, *lines)
    assert any("2 of 4 answers are empty: wrong, and no agreement" in note for note in logged.notes)
    for own in (lines, [line | {"candidates": ["A", "B"]} for line in lines]):
        table = read(tmp_path, *own).tables["answers"]
        np.testing.assert_array_equal(top1_agreement(table.logp, table.mask)[:, 0], [1, 0])
        np.testing.assert_array_equal(correct(table.logp, table.gold, table.mask), [[1, 1], [0, 0]])
        np.testing.assert_array_equal(all_agree(table.logp, table.mask), [1, 0])
    assert table.mask.sum(-1).tolist() == [[2, 2], [3, 3]]
    # What could have been answered by chance has not become more.
    np.testing.assert_array_equal(capa_parts(table.logp, table.gold, table.mask)[:, 4, 0], [1, 1])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"answer": "E", "candidates": ["A", "B"]}, "'E' is none of the candidates A, B"),
        ({"gold": "E", "candidates": ["A", "B"]}, "'E' is none of the candidates A, B"),
        ({"answer": 2, "candidates": ["A", "B"]}, "2 is no number of 2 candidates"),
        ({"answer": -1, "candidates": ["A", "B"]}, "-1 is no number of 2 candidates"),
        ({"answer": 0}, "no answer can be read"),
        ({"answer": " "}, "no answer can be read"),
        ({"answer": []}, "no answer can be read"),
        ({"answer": ["A", 3]}, "no answer can be read"),
        ({"answer": True, "candidates": ["A", "B"]}, "no answer can be read"),
        ({"candidates": "AB"}, "candidates is no list"),
        ({"gold": {"A": 1}}, "no answer can be read"),
        ({"language": ""}, "no answer can be read"),
        ({"candidates": ["A", "B"]}, "candidates, which other lines do not have"),
    ],
)
def test_an_answer_that_cannot_be_one_is_told_with_its_line(tmp_path, changes, told):
    both = {"candidates": ["A", "B"]} if changes.keys() - {"candidates"} and "candidates" in changes else {}
    lines = [answer(0, "en", "A", **both), answer(0, "sw", "A") | changes]
    with pytest.raises(DataError, match=told) as error:
        read(tmp_path, *lines)
    assert "mine.jsonl:2" in str(error.value)


def test_answers_and_scores_do_not_mix(tmp_path):
    with pytest.raises(DataError, match=r"an answer, where .*mine.jsonl:1 has scores"):
        read(tmp_path, line("en"), {"id": "q1", "language": "sw", "answer": "A"})


def test_scores_are_read_where_a_line_has_both(tmp_path):
    lines = [line(code, answer="here") for code in ("en", "sw")]
    assert read(tmp_path, *lines).tables["answers"].known == "scores"
