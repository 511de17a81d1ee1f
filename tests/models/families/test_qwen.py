"""Qwen: biases of 2, norms of 3, and windows that count only where they are switched on."""

import pytest
from hf_configs import bare, written

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import LayerType
from consistency_jax.models.published import published_config
from consistency_jax.models.rotary import Rope


def test_traits_of_published_models():
    for size, eps in (("0.5B", 1e-6), ("7B", 1e-6), ("14B", 1e-5)):
        qwen = published_config(f"Qwen/Qwen2.5-{size}")
        assert (qwen.qkv_bias, qwen.out_bias, qwen.qk_norm) == (True, False, "none")
        assert qwen.layer_types == (LayerType(rope=Rope(1e6)),)
        assert (qwen.norm_eps, qwen.tied) == (eps, size == "0.5B")
    for size in ("0.6B", "8B", "14B"):
        qwen = published_config(f"Qwen/Qwen3-{size}")
        assert (qwen.qkv_bias, qwen.qk_norm, qwen.head_dim) == (False, "head", 128)
        assert (qwen.layer_types, qwen.tied) == ((LayerType(rope=Rope(1e6)),), size == "0.6B")


@pytest.mark.parametrize("architecture", ["Qwen2ForCausalLM", "Qwen3ForCausalLM"])
def test_layers_slide_from_a_number_on_and_only_where_windows_are_on(architecture):
    keys = {"sliding_window": 8, "max_window_layers": 1, "num_key_value_heads": 3, "head_dim": 8}
    assert bare(architecture, **keys).windows == (None,)
    sliding = bare(architecture, use_sliding_window=True, **keys)
    assert [layer.window for layer in sliding.each_layer] == [None, 8, 8, 8]
    kinds = ["sliding_attention", *["full_attention"] * 3]
    named = bare(architecture, use_sliding_window=True, layer_types=kinds, **keys)
    assert [layer.window for layer in named.each_layer] == [8, None, None, None]


@pytest.mark.parametrize(
    ("architecture", "traits", "said"),
    [
        ("Qwen2ForCausalLM", {"qkv_bias": False}, "qkv_bias cannot be said in Qwen2ForCausalLM"),
        ("Qwen2ForCausalLM", {"out_bias": True}, "out_bias cannot"),
        ("Qwen3ForCausalLM", {"qkv_bias": False}, "out_bias cannot be said in Qwen3ForCausalLM"),
    ],
)
def test_traits_that_it_lacks_are_errors(architecture, traits, said):
    with pytest.raises(ConfigError, match=said):
        written(architecture, **traits)
