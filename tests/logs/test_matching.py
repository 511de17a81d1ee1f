"""Which answers in words are the same: each way to tell, how it is tried on what is known, and what comes of it."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from scipy.stats import spearmanr

from consistency_jax.errors import ConfigError
from consistency_jax.logs.__main__ import audit_logs
from consistency_jax.logs.answers import Given, joined_answers
from consistency_jax.logs.matching import (
    Match,
    Said,
    Tools,
    by_embedding,
    by_judge,
    by_number,
    by_spelling,
    by_translation,
    match_of,
    tried,
)
from consistency_jax.metrics.accuracy import correct
from consistency_jax.metrics.agreement import drawn_agreement, top1_agreement
from consistency_jax.metrics.written import chrf
from consistency_jax.report.summary import summarise
from consistency_jax.table import read_tables, write_tables

WORDS = {"en": "Egypt", "fr": "Égypte", "sw": "Misri", "tr": "Mısır"}


def said(language: str, text: str) -> Said:
    return Said(language, "Where are the pyramids?", text)


class Replies:
    """A generator that answers as a function of the prompt says."""

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    def generate(self, prompts, *, n, sampling, seed):
        assert (n, sampling.temperature) == (1, 0)
        self.asked += prompts
        return [[self.reply(prompt)] for prompt in prompts]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("en", "so it is 1,234"), ("de", "also 1.234"), True),
        (("en", "#### 18"), ("th", "คำตอบคือ ๑๘"), True),
        (("en", "3 apples, so 12"), ("fr", "12, car 3"), False),
        (("en", "none"), ("fr", "aucune"), False),
    ],
)
def test_the_final_number_is_what_counts(one, other, same):
    assert by_number().same([(said(*one), said(*other))]) == [same]


def test_translations_into_english_are_spelt_alike():
    replies = Replies(lambda prompt: " Egypt." if re.search("Misri|Mısır", prompt) else " Chad")
    match = by_translation(replies, "m")
    pairs = [
        (said("en", "egypt"), said("sw", "Misri")),
        (said("sw", "Misri"), said("tr", "Mısır")),
        (said("tr", "Çad"), said("en", "Egypt")),
        (said("tr", "Çad"), said("fr", "Tchad")),
    ]
    assert match.same(pairs) == [True, True, False, True]
    assert match.same(pairs[:2]) == [True, True]
    assert len(replies.asked) == 4  # each text once, English never
    assert "Swahili: Misri\nEnglish:" in replies.asked


def test_vectors_are_near_where_right_answers_are_and_apart_where_questions_are():
    angles = {"a": 0.0, "b": 0.3, "c": 0.5, "x": 1.2, "y": 0.9}

    def encode(texts):
        return np.array([[math.cos(angles[t]), math.sin(angles[t])] for t in texts], np.float32)

    match = by_embedding(type("Encoder", (), {"encode": staticmethod(encode)})(), "m")
    assert match.same([]) == []
    assert match.same([(said("en", "a"), said("fr", "b")), (said("en", "a"), said("fr", "x"))]) == [
        True,
        False,
    ]
    alike = [(said("en", "a"), said("fr", "b")), (said("en", "a"), said("fr", "y"))]
    apart = [(said("en", "a"), said("fr", "x")), (said("en", "b"), said("fr", "x"))]
    assert match.fit(alike, apart) == f"the same from a cosine of {math.cos(0.9):.2f} on"
    assert match.same([*alike, *apart]) == [True, True, False, True]  # 0.9 apart is the least that is known


def test_a_judge_is_asked_in_both_orders_and_its_word_counts_where_it_keeps_to_it():
    def reply(prompt: str) -> str:
        first, second = re.findall(r"Answer \d \(.*?\): (.*)", prompt)
        return "Yes." if {first, second} <= {*WORDS.values()} or first == "either" else "no"

    replies = Replies(reply)
    match = by_judge(replies, "m")
    pairs = [
        (said("en", "Egypt"), said("sw", "Misri")),
        (said("en", "Egypt"), said("sw", "either")),
        (said("en", "Egypt"), said("sw", "Chad")),
    ]
    assert match.fit(pairs[:1], pairs[1:]) == "66.7% of its verdicts are the same in the other order"
    assert match.same(pairs) == [True, False, False]
    assert len(replies.asked) == 6
    assert "Answer 1 (English): Egypt\nAnswer 2 (Swahili): Misri" in replies.asked[0]


def test_a_way_is_tried_on_the_right_answers_that_are_known():
    capitals = {"en": "Paris", "fr": "Paris", "sw": "Parisi"}
    right = [{code: said(code, text) for code, text in own.items()} for own in (WORDS, capitals)]
    (note,) = tried(by_spelling(), right)
    # Of 6 + 3 pairs of languages one is spelt alike; of two questions none.
    assert note == (
        "matched by spelling: of 9 pairs of right answers in two languages it holds 11.1% to be the same, of 18 pairs "
        "of two questions 0.0%, least in sw (0.0%)"
    )
    assert tried(by_spelling(), []) == ["matched by spelling; no right answers are known to try that on"]
    same = [{code: said(code, "18") for code in WORDS}] * 3
    assert "no right answers" in tried(by_number(), same)[0]  # nothing that is apart


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("told", [True, False])
def test_what_is_the_same_shares_a_place_whatever_its_words(seed, told):
    """Of answers that fall into classes, by a relation that knows them; class 0 is right."""
    rng = np.random.default_rng(seed)
    languages, count = list(WORDS), 12
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
    assert "task: 1 of 3 answers are empty: wrong, and no agreement" in notes


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


@pytest.mark.parametrize(
    ("name", "tools", "told"),
    [
        ("nope", Tools(), "--match=nope should be one of spelling, number, embedding, translate, judge"),
        ("judge", Tools(), "--match=judge asks a server: --server="),
        ("translate", Tools("http://x/v1"), "--match=translate asks a server: .*--server_model=NAME"),
        ("judge", Tools("x", "m"), "must begin with http"),
    ],
)
def test_what_a_way_needs_is_told(name, tools, told):
    with pytest.raises(Exception, match=told):
        match_of(name, tools)


def test_an_audit_by_a_judge_keeps_its_verdicts(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))

    def respond(body):
        texts = re.findall(r"Answer \d \(.*?\): (.*)", body["messages"][0]["content"])
        alike = [{"Egypt", "Misri"}, {"Chad", "Chadi"}]
        return 200, {"choices": [{"message": {"content": "yes" if set(texts) in alike else "no"}}]}

    served = serve(respond)
    rows = {"en": [("Egypt", "Egypt"), ("Chad", "Mali")], "sw": [("Misri", "Misri"), ("Chadi", "Mali")]}
    lines = [
        {"id": str(n), "language": code, "answer": answer, "gold": right}
        for code, own in rows.items()
        for n, (answer, right) in enumerate(own)
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = Tools(served.url, "m")
    found = audit_logs(tmp_path / "answers.jsonl", tmp_path / "run", match="judge", tools=told)
    assert found["base"]["answers"]["top1_agreement_all"] == 100
    assert found["base"]["answers"]["accuracy_en"] == 50
    assert "matched by judge (m): of 2 pairs of right answers" in found["settings"]["notes"][0]
    assert "100.0% of its verdicts are the same in the other order" in found["settings"]["notes"][0]
    count = len(served.asked)
    audit_logs(tmp_path / "answers.jsonl", tmp_path / "again", match="judge", tools=told)
    assert len(served.asked) == count
    with pytest.raises(ConfigError, match="differ|match"):  # the same folder by another way
        audit_logs(tmp_path / "answers.jsonl", tmp_path / "run", match="spelling")
    (tmp_path / "scores.jsonl").write_text(
        "".join(json.dumps({"id": "q", "language": code, "scores": [0, -1]}) + "\n" for code in "ab")
    )
    with pytest.raises(ConfigError, match="--match=number is of answers in words, and .* holds scores"):
        audit_logs(tmp_path / "scores.jsonl", tmp_path / "scored", match="number")


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
