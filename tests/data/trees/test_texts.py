"""Texts of trees: each distinct one is tokenized once, and together they read as if each tree's were alone."""

import os
import re

import pytest

from consistency_jax.data.trees import texts as module
from consistency_jax.data.trees.texts import NOWHERE, Texts

# prefix, middles, suffix: with and without what stands before, answers that begin alike, one that begins another
TREES = [
    ("The capital of France is", (" Paris", " Paris is", " Madrid"), ""),
    ("The capital of France is", (" Rome", " Madrid"), " ."),
    ("", ("Paris is the capital", "Madrid is the capital"), " of Spain ."),
    ("", ("Paris", "Paris was"), ""),
    ("Die Hauptstadt :", (" Rom",), " ist es"),
]


@pytest.fixture
def counted(monkeypatch):
    """The texts that the tokenizer was asked for, in calls of each kind."""
    asked = {"encode": [], "encode_continuations": []}
    for name, found in asked.items():
        original = getattr(module, name)

        def call(tokenizer, texts, found=found, original=original, **options):
            found.extend(texts)
            return original(tokenizer, texts, **options)

        monkeypatch.setattr(module, name, call)
    return asked


def tokens_of(made, text: int) -> list[int]:
    begin = made.begin[text]
    return made.token[begin : begin + made.length[text]].tolist()


def test_texts_together_are_the_tokens_of_the_whole(small_tokenizer, counted):
    collected = Texts()
    for prefix, middles, suffix in TREES:
        collected.add(prefix, middles, suffix, NOWHERE, 0)
    made = collected.encode(small_tokenizer, special=False, own_bos=None)
    assert made.branches.tolist() == [len(middles) for _, middles, _ in TREES]
    common, at = made.common(), 0
    for n, (prefix, middles, suffix) in enumerate(TREES):
        strings = []
        for k, middle in enumerate(middles):
            own = tokens_of(made, made.middle[at + k])
            assert made.size[made.middle[at + k]] == len(middle.encode())
            whole = tokens_of(made, made.prefix[n]) + own + tokens_of(made, made.suffix[n])
            # Every cut here lies before a space, where this tokenizer looks no further.
            assert whole == small_tokenizer(prefix + middle + suffix, add_special_tokens=False)["input_ids"]
            strings.append(own + tokens_of(made, made.suffix[n]))
        alike = len(os.path.commonprefix(strings))
        assert common[n] == alike
        at += len(middles)
    assert counted["encode_continuations"].count(" Madrid") == 1  # though two trees have it
    assert counted["encode"].count("The") == 1


def test_an_answer_begins_with_the_token_that_covers_it(small_tokenizer):
    collected = Texts()
    collected.add("", ("Madrid is", "Madrid ist"), "", len("Madrid "), 0)
    made = collected.encode(small_tokenizer, special=False, own_bos=None)
    for text in made.middle:
        before = small_tokenizer.decode(tokens_of(made, text)[: made.first[text]])
        assert before == "Madrid"  # the space belongs to the token of the answer


def test_patterns_are_looked_for_in_every_text():
    collected = Texts()
    collected.add("one", ("two", "<s> three"), "four", NOWHERE, 0)
    assert all(collected.find(re.compile(word)) for word in ("one", "<s>", "four"))
    assert not collected.find(re.compile("five"))
