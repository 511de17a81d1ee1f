"""Low-rank products beside projections: where they stand, how they compute, and what they cost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapted_models import CONFIG, TOKENS, adapted, flat, random_params

from consistency_jax.models.adapters import add_adapters, merge_adapters
from consistency_jax.models.decoder import Decoder, Params, abstract_params
from consistency_jax.models.huggingface import Model
from consistency_jax.models.lora import PROJECTIONS, LoraConfig, is_adapter
from consistency_jax.training.trainable import merge_params, split_params, trained_names


@pytest.fixture(scope="module")
def base() -> Model:
    config = dataclasses.replace(CONFIG, initializer_range=0.2)
    return Model(config, random_params(config))


def test_names_are_those_of_the_decoders_projections():
    kernels = [name for name in flat(abstract_params(CONFIG)) if name.endswith("/kernel")]
    assert sorted(PROJECTIONS) == sorted(name.removesuffix("/kernel") for name in kernels)


def test_targets_choose_projections(base):
    own = flat(add_adapters(base, LoraConfig(rank=2, targets="query|mlp/up"), seed=0).params)
    found = {name.rpartition("/")[0] for name in own if is_adapter(name)}
    assert found == {"layers/attention/query", "layers/mlp/up"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": -1}, "lora.rank=-1 must be at least 1"),
        ({"rank": 4, "alpha": 0.0}, "lora.alpha=0.0 must be greater"),
        ({"rank": 4, "dtype": "int8"}, "lora.dtype='int8'"),
        (
            {"rank": 4, "targets": "q_proj"},
            "matches no projection; there are: layers/attention/query, .*mlp/down",
        ),
        ({"rank": 4, "targets": "(query"}, "'\\(query' is no regular expression"),
    ],
)
def test_settings_that_no_adapter_has_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LoraConfig(**settings)


def test_a_model_with_adapters_computes_what_its_merged_kernels_compute(base):
    model = adapted(base)
    ours, merged = model.apply(TOKENS), merge_adapters(model).apply(TOKENS)
    assert np.abs(ours - base.apply(TOKENS)).max() > 0.1
    np.testing.assert_allclose(ours, merged, rtol=1e-4, atol=1e-4)  # float32 in another order


def test_products_are_made_in_the_compute_dtype(base):
    model = adapted(base)
    low = dataclasses.replace(model, config=dataclasses.replace(model.config, dtype="bfloat16"))
    logits = np.asarray(model.apply(TOKENS))
    error = np.abs(np.asarray(low.apply(TOKENS)) - logits)
    assert 0 < error.max() < 0.1 * np.abs(logits).max()
    assert error.mean() < 0.01 * np.abs(logits).max()


def test_kernels_that_are_not_trained_cost_no_gradient():
    """Forward and the gradient of activations: about twice the forward pass; full training is three times."""
    config = dataclasses.replace(CONFIG, hidden=96, mlp=384, layers=1, lora=LoraConfig(rank=2))
    parts = split_params(abstract_params(config), trained_names(config, ""))
    tokens = jnp.zeros((1, 32), jnp.int32)

    def total(trained: Params, frozen: Params) -> jax.Array:
        inputs = (tokens, tokens, tokens + 1, tokens)
        return Decoder(config).apply({"params": merge_params(trained, frozen)}, *inputs).sum()

    forward, backward = (
        jax.jit(f).lower(*parts).compile().cost_analysis()["flops"] for f in (total, jax.grad(total))
    )
    assert backward < 2.2 * forward
