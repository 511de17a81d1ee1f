"""Which answers in words are the same: each way to tell, how it is tried on what is known, and what comes of it."""

import json
import math
import re

import numpy as np
import pytest

from consistency_jax.errors import ConfigError
from consistency_jax.logs.__main__ import audit_logs
from consistency_jax.logs.matching import (
    Match,
    Said,
    Tools,
    by_embedding,
    by_judge,
    by_number,
    by_translation,
    match_of,
    tried,
)

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
    assert match.odd() == []
    match = by_judge(Replies(lambda prompt: "<think> okay"), "m")
    assert match.same(pairs) == [False] * 3
    assert match.odd() == ["6 of 6 replies of the judge are neither yes nor no, and count as no"]
    assert match.odd() == []  # of the next task, not of all


def test_a_way_is_tried_on_the_right_answers_that_are_known():
    capitals = {"en": "Paris", "fr": "Paris", "sw": "Parisi"}
    right = [{code: [said(code, text)] for code, text in own.items()} for own in (WORDS, capitals)]
    english = Match("truth", lambda pairs: ["en" in (one.language, two.language) for one, two in pairs])
    (note,) = tried(english, right)
    # Of 6 + 3 pairs of languages one is spelt alike, and of the others 3 + 1 with English; of two questions 10 of 18.
    assert note == (
        "matched by truth: of right answers in two languages 11.1% are spelt alike; of 8 other pairs it holds 50.0% to "
        "be the same, of 18 pairs of two questions 55.6%, least in fr (25.0%)"
    )
    told = "matched by number; it cannot be tried on right answers: "
    assert tried(by_number(), []) == [told + "none are known in two languages"]
    same = [{code: [said(code, "18")] for code in WORDS}] * 3
    assert tried(by_number(), same) == [told + "all that are known are spelt alike"]


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
    told_so = (
        "judge (m): of right answers in two languages 50.0% are spelt alike; of 1 other pairs it holds 100.0%"
    )
    assert told_so in found["settings"]["notes"][0]
    assert "100.0% of its verdicts are the same in the other order" in found["settings"]["notes"][0]
    count = len(served.asked)
    audit_logs(tmp_path / "answers.jsonl", tmp_path / "run", match="judge", tools=told)
    assert len(served.asked) == count
    # Under that name another model may be served by now.
    audit_logs(tmp_path / "answers.jsonl", tmp_path / "again", match="judge", tools=told)
    assert len(served.asked) == 2 * count
    with pytest.raises(ConfigError, match="differ|match"):  # the same folder by another way
        audit_logs(tmp_path / "answers.jsonl", tmp_path / "run", match="spelling")
    (tmp_path / "scores.jsonl").write_text(
        "".join(json.dumps({"id": "q", "language": code, "scores": [0, -1]}) + "\n" for code in "ab")
    )
    with pytest.raises(ConfigError, match="--match=number is of answers in words, and .* holds scores"):
        audit_logs(tmp_path / "scores.jsonl", tmp_path / "scored", match="number")
