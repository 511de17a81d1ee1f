"""CM-Align: how answers are compared, the English reference, what is chosen and rejected, and what is dropped."""

import re
from collections import Counter

import numpy as np
import pytest
from table_generator import TableGenerator

from consistency_jax.config.defaults import default
from consistency_jax.data.items import ParallelItem
from consistency_jax.generation import Cut
from consistency_jax.selection import cm_align
from consistency_jax.selection.cm_align import consistency_pairs, extremes, reference_answer
from consistency_jax.selection.needs import Given, Tools
from consistency_jax.selection.summary import Summary, summary_text


@pytest.mark.parametrize("seed", range(3))
def test_the_reference_of_mathematics_has_the_majority_number(seed):
    rng = np.random.default_rng(seed)
    seen = Counter()
    for _ in range(200):
        numbers = [None if x == 4 else int(x) for x in rng.integers(0, 5, rng.integers(1, 7))]
        equal = cm_align.likeness(numbers, numbers, lambda a, b: float(a == b))
        found = reference_answer(equal, exact=True)
        most = Counter(x for x in numbers if x is not None).most_common(2)
        none = not most or most[0][1] == 1 or len(most) == 2 and most[0][1] == most[1][1]
        assert found == (-1 if none else numbers.index(most[0][0]))
        seen[none] += 1
    assert min(seen.values()) > 20


@pytest.mark.parametrize("seed", range(3))
def test_the_reference_of_sentences_has_the_highest_mean_cosine(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(6, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    means = [np.mean([vectors[i] @ vectors[j] for j in range(6) if j != i]) for i in range(6)]
    alike = cm_align.likeness(list(vectors), list(vectors), lambda a, b: float(a @ b))
    assert reference_answer(alike) == int(np.argmax(means))
    assert reference_answer(alike[:1, :1]) == -1


def test_extremes_must_differ_by_more_than_the_margin():
    assert extremes(np.array([0.2, 0.9, 0.9, 0.2])) == (1, 0)
    assert extremes(np.array([0.5, 0.5])) is None
    assert extremes(np.array([0.5])) is None
    assert extremes(np.zeros(0)) is None
    assert extremes(np.array([0.25, 0.5]), 0.25) is None
    assert extremes(np.array([0.25, 0.5]), 0.125) == (1, 0)


LANGUAGES = ("en", "de", "ar")


def world(seed, count=50, samples=5):
    """Items, and answers with numbers: a few languages missing, a few answers empty or without a number."""
    rng = np.random.default_rng(seed)
    items, table = [], {}
    for n in range(count):
        have = [language for language in LANGUAGES if rng.random() < 0.9] or ["ar"]
        items.append(
            ParallelItem(
                f"q{n}", "", {language: f"q{n} {language}" for language in have}, {x: ("?",) for x in have}
            )
        )
        for language in have:
            numbers = rng.choice([1, 1, 1, 2, 3, -1, -2], samples).tolist()
            words = [
                " " if x == -2 else f" {language} none" if x == -1 else f" {language} {x}" for x in numbers
            ]
            table[f"q{n}", language] = words
    return items, table


def made(items, table, encoder=None, samples=5, **options):
    summary, given = Summary("cm_align", LANGUAGES), default().selection
    given.update(samples=samples, **options)
    generator = TableGenerator(lambda prompt, s: table[tuple(prompt.split())][s])
    tools = Tools(scores=None, generator=lambda: generator, encoder=lambda: encoder, translator=None)
    return consistency_pairs(Given(given, items, LANGUAGES, tools, summary, seed=0)), summary.to_json()


@pytest.mark.parametrize("seed", range(3))
def test_chosen_agrees_with_english_and_rejected_does_not(seed):
    items, table = world(seed)
    pairs, summary = made(items, table, task="mathematics")
    found = {(pair.id, pair.language): pair for pair in pairs}
    assert len(found) == len(pairs) > 20
    why = Counter()
    for item in items:
        english = [int(text.split()[1]) for text in table.get((item.id, "en"), ()) if re.search(r"\d", text)]
        most = Counter(english).most_common(2)
        decided = most and most[0][1] > 1 and (len(most) == 1 or most[0][1] > most[1][1])
        for language in item.languages:
            said = [text for text in table[item.id, language] if text.strip()]
            right = [bool(decided) and text == f" {language} {most[0][0]}" for text in said]
            pair = found.get((item.id, language))
            if language == "en" or not any(right) or all(right):
                assert pair is None
                why["dropped", language] += 1
            else:
                assert (pair.chosen, pair.rejected) == (said[right.index(True)], said[right.index(False)])
                assert pair.prompt == f"{item.id} {language}"
                assert re.fullmatch(rf" en {most[0][0]}", pair.provenance["reference"])
                why["kept", language] += 1
    for language, counts in summary["languages"].items():
        assert counts["kept"] == why["kept", language]
        assert sum(counts["dropped"].values()) == why["dropped", language]
    assert set(summary["languages"]["en"]["dropped"]) == {cm_align.REFERENCE}
    reasons = set(summary["languages"]["de"]["dropped"])
    assert {cm_align.LACKING, cm_align.NO_REFERENCE, cm_align.TIE} <= reasons


def test_no_end_is_trained_behind_pairs_with_an_answer_that_was_cut():
    items, table = world(0)
    whole, told = made(items, table, task="mathematics")
    assert all(pair.written for pair in whole)
    assert told["cut"] == 0
    cut = {(pair.id, pair.language): pair.rejected for pair in whole[::2]}
    for key, text in cut.items():
        table[key] = [Cut(answer) if answer == text else answer for answer in table[key]]
    pairs, told = made(items, table, task="mathematics")
    assert [pair.written for pair in pairs] == [(pair.id, pair.language) not in cut for pair in pairs]
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [
        (pair.chosen, pair.rejected) for pair in whole
    ]
    assert told["cut"] == len(cut)
    assert f"{len(cut)} pairs hold an answer that selection.max_tokens cut" in summary_text(told)


class CountingEncoder:
    """Sentences as unit vectors of how often they hold each letter."""

    def encode(self, texts):
        counts = np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1)


def test_general_answers_are_ranked_by_cosine_with_the_reference():
    rng = np.random.default_rng(0)
    items = [
        ParallelItem(f"q{n}", "", {x: f"q{n} {x}" for x in LANGUAGES}, {x: ("?",) for x in LANGUAGES})
        for n in range(20)
    ]
    table = {
        (item.id, language): ["".join(rng.choice(list("abcdefgh"), 6)) for _ in range(4)]
        for item in items
        for language in LANGUAGES
    }
    encoder = CountingEncoder()
    pairs, _ = made(items, table, encoder, samples=4)
    kept, _ = made(items, table, encoder, samples=4, margin=0.31)
    assert len(pairs) == 40
    apart = []
    for pair in pairs:
        english = table[pair.id, "en"]
        vectors = encoder.encode(english).astype(float)
        means = [np.mean([v @ w for j, w in enumerate(vectors) if j != i]) for i, v in enumerate(vectors)]
        reference = int(np.argmax(means))
        assert pair.provenance["reference"] == english[reference]
        scores = encoder.encode(table[pair.id, pair.language]).astype(float) @ vectors[reference]
        assert pair.chosen == table[pair.id, pair.language][scores.argmax()]
        assert pair.rejected == table[pair.id, pair.language][scores.argmin()]
        if np.ptp(scores) > 0.31:
            apart.append((pair.id, pair.language))
    assert [(pair.id, pair.language) for pair in kept] == apart
    assert 0 < len(apart) < 40


def test_code_answers_prefer_the_program_of_the_reference():
    good, bad = "```python\nfor {0} in range(3):\n    print({0})\n```", "```python\nwhile 1: print({0})\n```"
    item = ParallelItem("q", "", {"en": "q en", "de": "q de"}, {"en": ("?",), "de": ("?",)})
    table = {
        ("q", "en"): [bad.format("i"), good.format("i"), good.format("number"), "I do not know."],
        ("q", "de"): ["Das weiß ich nicht.", bad.format("zahl"), good.format("zahl"), bad.format("n")],
    }
    (pair,), _ = made([item], table, samples=4, task="code")
    assert (pair.chosen, pair.rejected) == (table["q", "de"][2], table["q", "de"][0])
    assert pair.provenance["scores"][0] == 0
    assert pair.provenance["scores"][2] == 1
