"""Answers in words of one question: which are right, which are one, whatever the order of the languages."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import spearmanr

from consistency_jax.data.items import DataError
from consistency_jax.logs.answers import joined_answers
from consistency_jax.logs.matching import Match, by_embedding, by_number, by_spelling
from consistency_jax.logs.told import Given
from consistency_jax.metrics.accuracy import correct
from consistency_jax.metrics.agreement import drawn_agreement, top1_agreement
from consistency_jax.metrics.written import chrf
from consistency_jax.report.summary import summarise
from consistency_jax.table import read_tables, write_tables

LANGUAGES = ["en", "fr", "sw", "tr"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("told", [True, False])
def test_what_is_the_same_shares_a_place_whatever_its_words(seed, told):
    """Of answers that fall into classes, by a relation that knows them; class 0 is right."""
    rng = np.random.default_rng(seed)
    languages, count = LANGUAGES, 12
    classes = rng.integers(0, 4, (count, len(languages)))

    def words(n, code, k):
        return f"q{n} {code} class{k}"

    def kind(one):
        return one.text.split("class")[1]

    asked = []
    match = Match(
        "truth", lambda pairs: [asked.append(pair) or kind(pair[0]) == kind(pair[1]) for pair in pairs]
    )
    answers = {
        code: {
            str(n): Given(
                (words(n, code, classes[n, place]),),
                (words(n, code, 0),) if told else (),
                (),
                "Q?",
                "",
                f"{code}:{n}",
            )
            for n in range(count)
        }
        for place, code in enumerate(languages)
    }
    items, table, _ = joined_answers("task", answers, "mend", match)
    first, second = np.triu_indices(len(languages), 1)
    np.testing.assert_array_equal(
        top1_agreement(table.logp, table.mask), classes[:, first] == classes[:, second]
    )
    if told:
        np.testing.assert_array_equal(correct(table.logp, table.gold, table.mask), classes == 0)
    assert all(one.prompt == two.prompt for one, two in asked)
    place = table.logp[3].argmax(-1)
    assert [items[3].candidates[code][k] for code, k in zip(languages, place)] == [
        words(3, code, k) for code, k in zip(languages, classes[3])
    ]


def test_answers_that_were_drawn_agree_as_often_as_their_shares_say():
    drawn = {"en": ["a", "a", "b", None], "sw": ["b", "b", "a", "c"], "fr": ["a", None, None, None]}
    answers = {code: {"q": Given(tuple(own), (), (), "Q?", "", code)} for code, own in drawn.items()}
    _, table, notes = joined_answers("task", answers, "mend")
    p = np.exp(np.where(table.mask, table.logp, -np.inf).astype(float))
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-6)
    shares = [
        {text: count / 4 for text, count in Counter(filter(None, own)).items()} for own in drawn.values()
    ]
    expected = [
        sum(one[text] * two.get(text, 0) for text in one)
        for place, one in enumerate(shares)
        for two in shares[place + 1 :]
    ]
    np.testing.assert_allclose(drawn_agreement(p, table.mask)[0], expected, atol=1e-6)
    assert "task: 4 of 12 answers are empty: wrong, and no agreement" in notes


def test_candidates_of_a_question_say_which_words_are_one_answer():
    """Answers that are none of them are words of their own, where a match is asked for."""
    candidates = {"en": ("Egypt", "Chad"), "sw": ("Misri", "Chadi")}
    answers = {
        code: {
            str(n): Given((text,), candidates[code][:1], candidates[code], "Q?", "", f"{code}:{n}")
            for n, text in enumerate(own)
        }
        for code, own in {"en": ("chad", "Egypt", "Mali"), "sw": ("Chadi.", "Chadi", "mali")}.items()
    }
    _, table, _ = joined_answers("task", answers, "mend", by_spelling())
    assert table.known == "texts"
    assert top1_agreement(table.logp, table.mask)[:, 0].tolist() == [1, 0, 1]
    assert correct(table.logp, table.gold, table.mask).tolist() == [[0, 0], [1, 0], [0, 0]]


def test_answers_are_near_to_what_is_right_and_to_each_other(tmp_path):
    """xAC and xSC of a report: chrF and vectors of what was written, means over several answers."""
    rows = {
        "en": [(["Egypt", "Chad"], "Egypt"), (["Mali"], "Mali"), (["Togo"], "Chad"), ([None], "Niger")],
        "sw": [
            (["Misri", "Misri"], "Misri"),
            (["Chadi"], "Mali"),
            (["Togo"], "Chadi"),
            (["Nijeri"], "Nijeri"),
        ],
    }
    angles = {text: place for place, text in enumerate(["Egypt", "Misri", "Mali", "Chad", "Chadi", "Togo"])}

    class Encoder:
        def encode(self, texts):
            return np.array(
                [[math.cos(angles.get(text, 9)), math.sin(angles.get(text, 9))] for text in texts], np.float32
            )

    answers = {
        code: {
            str(n): Given(tuple(own), (right,), (), "Q?", "", f"{code}:{n}")
            for n, (own, right) in enumerate(told)
        }
        for code, told in rows.items()
    }
    _, table, _ = joined_answers("task", answers, "mend", by_embedding(Encoder(), "m"))
    near = [
        [np.mean([chrf(text or "", [right]) for text in own]) for own, right in told]
        for told in rows.values()
    ]
    np.testing.assert_allclose(table.chrf, np.transpose(near), atol=1e-6)
    unit = np.array([math.cos(0) + math.cos(3), math.sin(0) + math.sin(3)])
    unit /= np.linalg.norm(unit)
    first = unit @ [math.cos(1), math.sin(1)]
    base = summarise({"task": table}, normalization="sum", resamples=20)["base"]["task"]
    cosines = [first, math.cos(2), 1.0]  # the last has no answer in English
    assert base["xsc_all"] == pytest.approx(100 * np.mean(cosines), abs=1e-3)
    expected = 100 * spearmanr(*near).statistic
    assert base["xac_all"] == pytest.approx(expected, abs=1e-3)
    path = tmp_path / "base.npz"
    write_tables(path, {"task": table})
    np.testing.assert_array_equal(read_tables(path)["task"].vectors, table.vectors)


def asked(**languages: tuple) -> dict:
    """One question: language -> (answer, right texts, candidates)."""
    return {
        code: {"q": Given((text,), tuple(right), tuple(candidates), "Q?", "", f"{code}:1")}
        for code, (text, right, candidates) in languages.items()
    }


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize(("other", "name"), [("fr", "Géorgie"), ("it", "Georgia")])
def test_of_two_candidates_of_one_name_neither_is_meant_more(other, name, place):
    """Whichever of its two Georgias English means, the other language has one word for both."""
    names = {"en": ("Paris", "Georgia", "Georgia (state)"), other: ("Paris", name, name)}
    said = {"en": (names["en"][place], "no candidate"), other: (name, "Paris")}
    answers = {
        code: {
            str(n): Given((text,), ("Paris",), names[code], "Q?", "", f"{code}:{n}")
            for n, text in enumerate(said[code])
        }
        for code in names
    }
    _, table, _ = joined_answers("task", answers, "mend", by_spelling())
    assert top1_agreement(table.logp, table.mask)[0].tolist() == [0]


def outcome(answers: dict, match: Match | None) -> tuple[list[float], list[float]]:
    """Agreement of pairs, and who is right, by the order of the languages' names."""
    _, table, _ = joined_answers("task", answers, "mend", match)
    order = np.argsort(table.languages)
    logp, mask = table.logp[:, order], table.mask[:, order]
    return top1_agreement(logp, mask)[0].tolist(), correct(logp, table.gold, mask)[0].tolist()


EITHER = Match("all", lambda pairs: [True] * len(pairs))


@pytest.mark.parametrize(
    ("answers", "match", "agreement", "right"),
    [
        # A language that is not told what is right has it from the others.
        (asked(en=("18", ["18"], ()), fr=("18", [], ())), None, [1], [1, 1]),
        (
            asked(en=("B", ["Egypt"], ["Egypt", "B"]), sw=("misri.", [], ["Misri", "C"])),
            by_spelling(),
            [0],
            [0, 1],
        ),
        # A candidate that is wrong is wrong, whatever a match says; words may be what it is.
        (
            asked(en=("Chad", ["Egypt"], ["Egypt", "Chad"]), sw=("x", ["Misri"], ["Misri", "Chadi"])),
            EITHER,
            [0],
            [0, 1],
        ),
        # Every text that is right counts.
        (asked(en=("so it is 18", ["eighteen", "18"], ()), sw=("19", ["18"], ())), by_number(), [0], [1, 0]),
        # A candidate may be called as in another language; what is right may not.
        (
            asked(en=("Chad", ["Egypt"], ["Egypt", "Chad"]), sw=("chad.", ["Misri"], ["Misri", "Chadi"])),
            by_spelling(),
            [1],
            [0, 0],
        ),
        (
            asked(en=("Egypt", ["Egypt"], ["Egypt", "Chad"]), sw=("egypt", ["Misri"], ["Misri", "Chadi"])),
            by_spelling(),
            [0],
            [1, 0],
        ),
        # Candidates that are spelt alike are told apart as they are written.
        (asked(en=("C", ["C#"], ["C", "C#"]), fr=("C#", ["C#"], ["C", "C#"])), by_spelling(), [0], [0, 1]),
        # Words are held against the candidates of their own language, whoever answered them.
        (
            asked(
                en=("Mali", ["Egypt"], ["Egypt", "Chad"]),
                fr=("la", ["Égypte"], ["Égypte", "Tchad"]),
                sw=("ya", ["Misri"], ["Misri", "Chadi"]),
            ),
            Match(
                "m",
                lambda pairs: [
                    (one.text, two.text) in {("la", "Tchad"), ("ya", "Chadi")} for one, two in pairs
                ],
            ),
            [0, 0, 1],
            [0, 0, 0],
        ),
        # Numbers as their language writes them.
        (asked(de=("1.234", ["1234"], ()), en=("1.234", ["1234"], ())), by_number(), [0], [1, 0]),
        (asked(de=("10", ["10.000"], ()), en=("10,000", ["10,000"], ())), None, [0], [0, 1]),
    ],
)
def test_what_an_answer_is_does_not_depend_on_the_order_of_languages(answers, match, agreement, right):
    for names in (list(answers), list(answers)[::-1]):
        assert outcome({name: answers[name] for name in names}, match) == (agreement, right)


def test_answers_that_are_near_in_a_chain_are_one_in_any_order():
    chain = [{"a", "b"}, {"b", "c"}]
    match = Match("chain", lambda pairs: [{one.text, two.text} in chain for one, two in pairs])
    answers = asked(en=("a", [], ()), fr=("b", [], ()), sw=("c", [], ()))
    for names in ("en fr sw", "sw en fr", "fr sw en"):
        assert outcome({name: answers[name] for name in names.split()}, match)[0] == [1, 1, 1]


@pytest.mark.parametrize("match", [None, by_spelling()])
def test_where_two_candidates_are_called_alike_the_other_languages_tell_which_is_right(match):
    texts = {"en": ("Myanmar", "Burma", "India"), "sw": ("Myama", "Myama", "Uhindi")}
    for right in (0, 1):
        answers = {
            code: {"q": Given((own[2],), (own[right],), own, "Q", "", f"{code}:1")}
            for code, own in texts.items()
        }
        items, table, _ = joined_answers("task", answers, "mend", match)
        assert table.logp[0].argmax(-1).tolist() not in ([right] * 2, [0] * 2)  # India, which is wrong
        if match is None:
            assert items[0].right == (right,)


def test_right_answers_that_differ_are_told_though_they_share_one():
    texts = ("a", "b", "c")
    answers = {
        code: {"q": Given(("b",), right, texts, "Q", "", f"{code}:1")}
        for code, right in {"en": ("a", "b"), "sw": ("a",)}.items()
    }
    with pytest.raises(DataError, match="sw:1: the right answer is 0, at en:1 it is 0 and 1"):
        joined_answers("task", answers, "mend")


def test_candidates_that_stand_elsewhere_are_told_in_words_too():
    mixed = asked(en=("x", ["Egypt"], ["Egypt", "Chad"]), sw=("y", ["Chadi"], ["Misri", "Chadi"]))
    with pytest.raises(DataError, match="sw:1: 2 candidates, right Chadi; at en:1 2 candidates, right Egypt"):
        joined_answers("task", mixed, "mend", by_spelling())
    fewer = asked(en=("x", ["Egypt"], ["Egypt", "Chad"]), sw=("y", ["Misri"], ["Misri"]))
    with pytest.raises(DataError, match="sw:1: 1 candidates"):
        joined_answers("task", fewer, "mend", by_spelling())


def test_few_numbers_that_differ_are_a_note_and_most_are_an_error():
    """A year of another calendar, and languages that ask something else."""
    rows = {"en": ["1984", "7", "8", "9"], "th": ["2527", "7", "8", "9"]}
    answers = {
        code: {str(n): Given((text,), (text,), (), "Q?", "", f"{code}:{n}") for n, text in enumerate(own)}
        for code, own in rows.items()
    }
    _, table, notes = joined_answers("task", answers, "mend")
    assert correct(table.logp, table.gold, table.mask).min() == 1
    assert any(
        "1 right answers are other numbers or letters in two languages, the first: th:0" in own
        for own in notes
    )
    with pytest.raises(DataError, match="the right answer is 2527"):
        joined_answers("task", {code: {"0": own["0"]} for code, own in answers.items()}, "mend")


def test_questions_of_one_language_alone_are_not_judged():
    asked_of = []
    match = Match("m", lambda pairs: [asked_of.append(pair) or False for pair in pairs])
    answers = {
        "en": {key: Given((f"a {key}",), (f"b {key}",), (), "Q?", "", "en:1") for key in "123"},
        "sw": {"1": Given(("c",), ("d",), (), "Q?", "", "sw:1")},
    }
    joined_answers("task", answers, "mend", match)
    assert {said.text for pair in asked_of for said in pair} == {"a 1", "b 1", "c", "d"}
    asked_of.clear()
    with pytest.raises(DataError, match="no question is there in two languages"):
        joined_answers("task", {"en": answers["en"], "sw": {"9": answers["sw"]["1"]}}, "mend", match)
    assert asked_of == []


def test_what_is_right_is_a_candidate_whatever_answers_are():
    wrong = asked(en=("x", ["Cairo"], ["Egypt", "Chad"]), sw=("Misri", ["Misri"], ["Misri", "Chadi"]))
    with pytest.raises(DataError, match="'Cairo' is none of the candidates Egypt, Chad"):
        joined_answers("task", wrong, "mend", by_spelling())


def test_what_is_right_in_other_languages_stands_in_where_one_is_not_told():
    answers = asked(en=("1.125", ["1.125"], ()), de=("1125", [], ()), fr=("9/8", [], ()))
    _, table, notes = joined_answers("task", answers, "mend")
    assert correct(table.logp, table.gold, table.mask).tolist() == [[1, 0, 1]]
    assert any("of 2 answers it is not told what is right in their language" in note for note in notes)


def test_what_one_task_taught_is_forgotten_in_the_next():
    """The threshold of vectors, where nothing is known that it could be fitted to."""

    class Encoder:
        def encode(self, texts):
            angle = np.array([{"a": 0.0, "b": 1.2, "c": 2.6}[text] for text in texts])
            return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    match = by_embedding(Encoder(), "m")
    taught = {
        code: {key: Given((text,), (text,), (), "Q?", "", code) for key, text in own.items()}
        for code, own in {"en": {"1": "a", "2": "c"}, "sw": {"1": "b", "2": "c"}}.items()
    }
    joined_answers("first", taught, "mend", match)
    assert outcome(asked(en=("a", [], ()), sw=("b", [], ())), match)[0] == [0]
