"""Translators: what each makes of a text, and with which weights."""

from collections.abc import Sequence

import numpy as np
import pytest

from consistency_jax.data.items import ParallelItem
from consistency_jax.generation import Cut, GenerationError, Sampling
from consistency_jax.generation.sampler import Sampler
from consistency_jax.generation.translators import by_function, by_model, by_table
from consistency_jax.models.huggingface import load_pretrained

CITIES = {"en": (" Rome", " Paris", " Vienna"), "de": (" Rom", " Paris", " Wien")}
PROMPTS = {"en": "The capital is", "de": "Die Hauptstadt ist"}
ITEM = ParallelItem("a", "", PROMPTS, CITIES)


def test_the_table_is_a_re_indexing() -> None:
    texts = [*CITIES["en"], "Vienna ", " London"]
    found = by_table([ITEM] * 5, texts, "en", "de")
    assert found == [{" Rom": 0}, {" Paris": 0}, {" Wien": 0}, {" Wien": 0}, {}]
    assert by_table([ITEM], [" Rome"], "en", "fr") == [{}]
    doubled = ParallelItem("b", "", PROMPTS, {"en": ("bank", "bank", "x"), "de": ("Bank", "Ufer", "X")})
    bank, rome = by_table([doubled, ITEM], ["bank", " Rome"], "en", "de")
    assert bank == pytest.approx({"Bank": np.log(0.5), "Ufer": np.log(0.5)})
    assert rome == {" Rom": 0}  # each text by its own item


def test_any_function_with_weights() -> None:
    table = {"a": {"x": 1.0, "y": 3.0}, "b": "z", "c": None}
    asked: list[tuple] = []

    def function(texts: list[str], source: str, target: str) -> list:
        asked.append((texts, source, target))
        return [table[text] for text in texts]

    found = by_function(function, ["a", "b", "c", "a"], "en", "de")
    assert asked == [(["a", "b", "c"], "en", "de")]
    assert [list(own) for own in found] == [["y", "x"], ["z"], [], ["y", "x"]]
    assert np.exp(list(found[3].values())) == pytest.approx([0.75, 0.25])
    with pytest.raises(GenerationError, match="0 results for 1"):
        by_function(lambda *_: [], ["a"], "en", "de")
    with pytest.raises(GenerationError, match="positive"):
        by_function(lambda *_: [{"x": 0.0}], ["a"], "en", "de")


class Dictionary:
    """A generator that answers from a table, and keeps the prompts it saw."""

    def __init__(self, answers: dict[str, list[str]]):
        self.answers, self.prompts = answers, []

    def generate(self, prompts: Sequence[str], *, n: int, sampling: Sampling, seed: int) -> list[list[str]]:
        self.prompts += prompts
        return [self.answers[prompt.split()[1]][:n] for prompt in prompts]


def test_a_prompted_model() -> None:
    generator = Dictionary({"Rome": [" Rom", "Rom ", "Roma", ""], "Paris": ["Paris"] * 4})
    texts = [" Rome", " Paris", "Rome ", " "]
    rome, paris, again, nothing = by_model(generator, texts, "en", "de", n=4, sampling=Sampling())
    assert generator.prompts == ["en: Rome\nde:", "en: Paris\nde:"]
    assert rome == again == pytest.approx({"Rom": np.log(2 / 3), "Roma": np.log(1 / 3)})
    assert paris == {"Paris": 0.0}
    assert nothing == {}
    half = Dictionary({"Rome": [Cut(" die Stadt ")]})
    ((text,),) = by_model(half, ["Rome"], "en", "de", sampling=Sampling())
    assert (text, isinstance(text, Cut)) == ("die Stadt", True)


def test_the_policy_itself_may_translate(small_model) -> None:
    sampler = Sampler(load_pretrained(small_model))
    drawn = {"n": 3, "sampling": Sampling(max_tokens=4, temperature=1.0), "seed": 1}
    found = by_model(sampler, CITIES["en"], "en", "de", **drawn)
    assert len(found) == 3
    for own in found:
        assert np.exp(list(own.values())).sum() == pytest.approx(1)
    assert found == by_model(sampler, CITIES["en"], "en", "de", **drawn)


@pytest.mark.parametrize("given", [None, "one text", [1], [{"a": "1"}], 3])
def test_what_a_function_gives_is_looked_at(given):
    with pytest.raises(GenerationError, match="translation: "):
        by_function(lambda texts, source, target: given, ["a"], "de", "en")


def test_a_function_may_give_its_results_one_by_one_and_weights_of_numpy():
    def translate(texts, source, target):
        return ({text.upper(): np.float32(2)} for text in texts)

    (one,) = by_function(translate, ["a"], "de", "en")
    assert list(one) == ["A"]
