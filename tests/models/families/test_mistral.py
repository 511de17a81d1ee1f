"""Mistral and Ministral: a window in all layers, or in those that are named."""

import pytest
from hf_configs import WINDOWS, bare, written

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import LayerType
from consistency_jax.models.rotary import Rope

SIZES = {"num_key_value_heads": 1, "head_dim": 8}


def test_all_layers_of_mistral_have_the_window_that_is_said():
    assert bare("MistralForCausalLM", **SIZES).layer_types == (
        LayerType(4096, Rope(1e4)),
    )  # the default, 7B v0.1
    wide = bare(
        "MistralForCausalLM", sliding_window=None, rope_theta=1e6, **SIZES
    )  # as v0.2 and later say it
    assert wide.layer_types == (LayerType(None, Rope(1e6)),)


def test_layers_of_ministral_are_those_that_are_named():
    kinds = ["sliding_attention", "full_attention"] * 2
    named = bare("MinistralForCausalLM", sliding_window=8, layer_types=kinds, **SIZES)
    assert [layer.window for layer in named.each_layer] == [8, None, 8, None]
    assert bare("MinistralForCausalLM", sliding_window=8, **SIZES).windows == (8,)
    assert bare("MinistralForCausalLM", sliding_window=None, **SIZES).windows == (None,)


@pytest.mark.parametrize(
    ("traits", "said"), [(WINDOWS, "layer_types cannot"), ({"qkv_bias": True}, "qkv_bias cannot")]
)
def test_traits_that_it_lacks_are_errors(traits, said):
    with pytest.raises(ConfigError, match=said):
        written("MistralForCausalLM", **traits)
