"""Sentence vectors: the mean of a torch model's states, or an encoder of a package."""

import sys

import numpy as np
import pytest

from consistency_jax.errors import ConfigError
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
