"""Sentence vectors: the mean of a torch model's states; and the answers that a killed run keeps."""

import sys

import numpy as np
import pytest
from table_generator import TableGenerator

from consistency_jax.errors import ConfigError
from consistency_jax.generation import Sampling
from consistency_jax.generation.cached_answers import KeptAnswers
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.selection.encoders import ModelEncoder, encoder_of

TEXTS = [
    "The capital of France is Paris .",
    "Madrid",
    "",
    "カルロス2世はマドリードに生まれました。",
    "a b c d e " * 9,
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_models_vectors_are_means_of_its_last_states(small_model):
    import torch
    import transformers

    model = load_pretrained(small_model)
    vectors = ModelEncoder(model, max_length=40, tokens=64).encode(TEXTS)
    theirs = transformers.AutoModel.from_pretrained(small_model).eval()
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"][:39]
        if not ids:
            assert not vector.any()
            continue
        with torch.no_grad():
            states = theirs(torch.tensor([[model.tokenizer.bos_token_id, *ids]])).last_hidden_state[0, 1:]
        expected = states.mean(0) / states.mean(0).norm()
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)  # float32 in another order


def test_a_missing_package_is_told_with_the_mend(small_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'consistency_jax\[embeddings\]'"):
        encoder_of("all-MiniLM-L6-v2", load_pretrained(small_model), max_length=64, tokens=64)


PROMPTS = [f"prompt {n}\u2028" for n in range(10)]


def ask(generator, path, settings="model", **changes):
    arguments = {"n": 2, "sampling": Sampling(), "seed": 3} | changes
    return KeptAnswers(lambda: generator, path, settings, batch=4).generate(PROMPTS, **arguments)


def test_a_killed_run_asks_only_what_it_was_not_answered(tmp_path):
    def answer(prompt, s):
        return f"{prompt} {s}"

    whole, path = TableGenerator(answer), tmp_path / "answers.jsonl"
    expected = ask(whole, tmp_path / "other.jsonl")
    assert [len(prompts) for prompts in whole.asked] == [4, 4, 2]
    assert len(set(whole.seeds)) == 3
    with pytest.raises(KeyboardInterrupt):
        ask(TableGenerator(answer, fail_after=2), path)
    with path.open("a") as file:
        file.write('{"key": "half a li')  # a kill in the middle of a line
    rest = TableGenerator(answer)
    assert ask(rest, path) == expected
    assert (rest.asked, rest.seeds) == (whole.asked[2:], whole.seeds[2:])
    nothing = TableGenerator(answer)
    assert ask(nothing, path) == expected
    assert nothing.asked == []


@pytest.mark.parametrize(
    "change",
    [{"settings": "other"}, {"n": 3}, {"seed": 4}, {"sampling": Sampling(temperature=0.5)}],
)
def test_kept_answers_belong_to_their_settings(tmp_path, change):
    generator = TableGenerator(lambda prompt, s: "x")
    ask(generator, tmp_path / "answers.jsonl")
    ask(generator, tmp_path / "answers.jsonl", **change)
    assert len(generator.asked) == 6
