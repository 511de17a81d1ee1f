"""Cohere: parallel blocks, scaled logits, and in Cohere 2 no positions in global layers."""

import pytest
from hf_configs import TURNED, bare, written

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import LayerType
from consistency_jax.models.published import published_config
from consistency_jax.models.rotary import Rope


def test_traits_of_published_models():
    aya = published_config("CohereLabs/aya-expanse-8b")
    assert (aya.norm, aya.parallel_block, aya.rope_style) == ("layer", True, "interleaved")
    assert aya.layer_types == (LayerType(rope=Rope(1e4)),)
    assert (aya.logit_scale, aya.tied, aya.qk_norm, aya.norm_eps) == (0.125, True, "none", 1e-5)


def test_every_fourth_layer_of_cohere_2_is_global_and_turns_nothing():
    layers = bare("Cohere2ForCausalLM", sliding_window=8).each_layer
    assert [layer.window for layer in layers] == [8, 8, 8, None]
    assert [layer.rope is None for layer in layers] == [False, False, False, True]
    layers = bare("Cohere2ForCausalLM", sliding_window=8, sliding_window_pattern=2).each_layer
    assert [layer.window for layer in layers] == [8, None, 8, None]


def test_command_r_plus_norms_each_head_with_a_scale_of_its_own():
    assert bare("CohereForCausalLM", use_qk_norm=True).qk_norm == "own_scales"


@pytest.mark.parametrize("architecture", ["CohereForCausalLM", "Cohere2ForCausalLM"])
def test_keys_of_cohere_s_own_code_say_what_is_so_anyway(architecture: str):
    own = {"position_embedding_type": "rope_gptj", "use_gated_activation": True, "use_parallel_block": True}
    for embedding in (False, True):
        assert bare(architecture, **own, use_parallel_embedding=embedding) == bare(architecture)
    if architecture == "Cohere2ForCausalLM":  # as transformers 4.53 to 4.57 write it, beside layer_types
        assert bare(architecture, _sliding_window_pattern=4) == bare(architecture)
    with pytest.raises(ConfigError, match="use_parallel_block = False: unknown here"):
        bare(architecture, use_parallel_block=False)


@pytest.mark.parametrize(
    ("architecture", "traits", "said"),
    [
        ("CohereForCausalLM", {"qk_norm": "head"}, "qk_norm cannot"),
        ("CohereForCausalLM", {"norm": "rms"}, "norm cannot be said in CohereForCausalLM"),
        ("Cohere2ForCausalLM", {"layer_types": (TURNED, LayerType(), TURNED)}, "layer_types cannot"),
    ],
)
def test_traits_that_it_lacks_are_errors(architecture, traits, said):
    with pytest.raises(ConfigError, match=said):
        written(architecture, **traits)
