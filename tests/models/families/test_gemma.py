"""Gemma: windows in most layers, two rotary bases in 3, caps in 2, and what a multimodal file says of its text part."""

import pytest
from hf_configs import BASES, bare, written

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import LayerType
from consistency_jax.models.published import published_config
from consistency_jax.models.rotary import Rope


def test_traits_of_published_models():
    gemma2 = published_config("google/gemma-2-9b")
    assert (gemma2.attention_cap, gemma2.final_cap, gemma2.head_dim**-0.5) == (50.0, 30.0, 1 / 16)
    assert gemma2.query_scale is None  # as usual
    assert gemma2.layer_types == (LayerType(4096), LayerType()) * 21
    sizes = (("270m", 512, 1.0), ("1b-pt", 512, 1.0), ("4b-pt", 1024, 8.0), ("12b-pt", 1024, 8.0))
    for size, window, scaled in sizes:
        gemma = published_config(f"google/gemma-3-{size}")
        assert (gemma.norm_offset, gemma.norm_sites, gemma.qk_norm, gemma.tied) == (
            True,
            "both",
            "head",
            True,
        )
        assert (gemma.head_dim, gemma.query_scale, gemma.embedding_scale) == (256, None, gemma.hidden**0.5)
        local = LayerType(window, Rope(1e4))
        whole = LayerType(None, Rope(1e6) if scaled == 1.0 else Rope(1e6, "linear", scaled))
        assert gemma.layer_types[:7] == (local,) * 5 + (whole, local)
        assert (gemma.activation, gemma.attention_cap, gemma.final_cap) == ("gelu_tanh", None, None)
    four_b = published_config("google/gemma-3-4b-pt")
    assert (four_b.vocab_size, four_b.heads, four_b.kv_heads) == (
        262_208,
        8,
        4,
    )  # none of which its file says


def test_queries_are_scaled_as_their_file_says():
    keys = {"head_dim": 8, "num_key_value_heads": 1}
    assert bare("Gemma3ForCausalLM", query_pre_attn_scalar=20, **keys).query_scale == pytest.approx(20**-0.5)
    assert bare("Gemma2ForCausalLM", query_pre_attn_scalar=8, **keys).query_scale is None  # the head's size


@pytest.mark.parametrize(
    ("architecture", "traits", "said"),
    [
        ("Gemma2ForCausalLM", {"qk_norm": "head"}, "qk_norm cannot be said in Gemma2ForCausalLM"),
        ("Gemma2ForCausalLM", BASES, "layer_types cannot"),
        ("Gemma3ForCausalLM", {"qk_norm": "none"}, "qk_norm cannot be said in Gemma3ForCausalLM"),
        ("Gemma3ForCausalLM", {"embedding_scale": None}, "embedding_scale cannot"),
        ("Gemma3ForCausalLM", {"attention_cap": 2.0}, "attention_cap cannot"),
        ("Gemma3ForCausalLM", {"query_scale": 0.3}, "query_scale cannot"),
    ],
)
def test_traits_that_it_lacks_are_errors(architecture, traits, said):
    with pytest.raises(ConfigError, match=said):
        written(architecture, **traits)
