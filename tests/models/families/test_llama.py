"""Llama: traits of published models, and what its config.json cannot say."""

import pytest
from hf_configs import WINDOWS, bare, written

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import LayerType
from consistency_jax.models.published import published_config
from consistency_jax.models.rotary import Rope


def test_traits_of_published_models():
    eight_b = published_config("meta-llama/Llama-3.1-8B")
    assert (eight_b.heads, eight_b.kv_heads, eight_b.head_dim, eight_b.tied) == (32, 8, 128, False)
    assert eight_b.ropes == (Rope(500_000.0, "llama3", 8.0, 1.0, 4.0, 8192),)
    three_b = published_config("meta-llama/Llama-3.2-3B")
    assert (three_b.tied, three_b.ropes[0].factor, three_b.norm_eps) == (True, 32.0, 1e-5)


def test_a_bare_config_is_llama_1():
    plain = bare("LlamaForCausalLM")
    assert (plain.kv_heads, plain.head_dim, plain.max_length, plain.norm_eps) == (3, 8, 2048, 1e-6)
    assert (plain.layer_types, plain.activation, plain.tied) == ((LayerType(rope=Rope(1e4)),), "silu", False)
    assert (plain.qkv_bias, plain.out_bias, plain.mlp_bias) == (False,) * 3
    biased = bare("LlamaForCausalLM", attention_bias=True, mlp_bias=True)
    assert (biased.qkv_bias, biased.out_bias, biased.mlp_bias) == (True,) * 3


@pytest.mark.parametrize(
    ("traits", "said"),
    [
        ({"qk_norm": "head"}, "qk_norm cannot be said in LlamaForCausalLM"),
        (WINDOWS, "layer_types cannot"),
        ({"gated": False}, "gated cannot"),
    ],
)
def test_traits_that_it_lacks_are_errors(traits, said):
    with pytest.raises(ConfigError, match=said):
        written("LlamaForCausalLM", **traits)
