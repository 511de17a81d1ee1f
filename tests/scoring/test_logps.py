"""From rows to log-probabilities: the head in chunks, and states of a layer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scored_items import ITEMS, LANGUAGES, tight_shape

from consistency_jax.data.packing.rows import pack
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.forest import ANSWER
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.scoring import logps
from consistency_jax.scoring.logps import tree_logps


@pytest.fixture(scope="module")
def model(small_model):
    return load_pretrained(small_model)


def test_states_of_a_layer_are_those_of_torch(model, small_model):
    import torch
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(small_model).eval()
    trees = TreeBuilder(model.tokenizer, boundary="joint").build(ITEMS, LANGUAGES)
    batch = pack(trees, tight_shape(trees), candidates=4)
    out = jax.jit(lambda p: tree_logps(model.config, p, batch, candidates=4, layer=0))(model.params)
    assert any((tree.trunk_kind == ANSWER).any() for tree in trees if tree is not None)
    for n, tree in enumerate(trees):
        if tree is not None:
            prompt = torch.tensor(tree.trunk[tree.trunk_kind != ANSWER])[None].long()
            with torch.no_grad():
                states = theirs(prompt, output_hidden_states=True).hidden_states
            np.testing.assert_allclose(out["layer_state"][n], states[1][0, -1], rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(out["state"][n], states[2][0, -1], rtol=1e-3, atol=1e-4)


def test_the_head_in_chunks_is_the_head_at_once(model, monkeypatch):
    """Values and gradients, with chunks of five states and a last one that is not full."""
    config, params = model.config, model.params
    trees = TreeBuilder(model.tokenizer, boundary="joint").build(ITEMS, LANGUAGES)
    shape = dataclasses.replace(tight_shape(trees, prompt=True), sources=253)
    batch = pack(trees, shape, candidates=4, prompt=True)
    weight = np.random.default_rng(0).normal(size=(2, len(trees), 4)).astype(np.float32)

    def run(limit: int):
        monkeypatch.setattr(logps, "LOGITS_BYTES", limit)

        def total(params):
            out = tree_logps(config, params, batch, candidates=4, prompt=True)
            return (weight[0] * out["logp"] + weight[1] * out["prompt_logp"]).sum(), out

        return jax.jit(jax.value_and_grad(total, has_aux=True))(params)

    (_, at_once), gradient = run(2**30)
    (_, in_chunks), chunked = run(5 * 4 * config.vocab_size)
    for name in ("logp", "prompt_logp"):
        np.testing.assert_allclose(in_chunks[name], at_once[name], rtol=1e-5, atol=1e-5)
    assert jax.tree.structure(chunked) == jax.tree.structure(gradient)
    for one, other in zip(jax.tree.leaves(chunked), jax.tree.leaves(gradient)):
        # float32 sums in another order: relative to the largest entry
        np.testing.assert_allclose(one, other, atol=1e-5 * float(jnp.abs(other).max()))
