"""OLMo: norms behind attention and mlp alone, over the whole width of heads; windows and two ropes in OLMo 3."""

import pytest
from hf_configs import bare, written

from consistency_jax.errors import ConfigError
from consistency_jax.models.families.family import tensor_names
from consistency_jax.models.rotary import Rope


@pytest.mark.parametrize("architecture", ["Olmo2ForCausalLM", "Olmo3ForCausalLM"])
def test_a_block_has_two_norms_and_both_stand_behind(architecture):
    config = bare(architecture)
    assert (config.norm_sites, config.qk_norm) == ("behind", "width")
    names = tensor_names(config)
    assert {
        path: names[path].name for path in names if path.endswith("norm/scale") and "attention/" not in path
    } == {
        "final_norm/scale": "model.norm.weight",
        "layers/attention_post_norm/scale": "model.layers.{layer}.post_attention_layernorm.weight",
        "layers/mlp_post_norm/scale": "model.layers.{layer}.post_feedforward_layernorm.weight",
    }


def test_every_fourth_layer_of_olmo_3_is_global_and_scaling_is_for_it_alone():
    scaling = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192}
    layers = bare("Olmo3ForCausalLM", sliding_window=8, rope_scaling=scaling).each_layer
    assert [layer.window for layer in layers] == [8, 8, 8, None]
    assert [layer.rope.scaling for layer in layers] == ["none", "none", "none", "yarn"]
    assert {layer.rope.theta for layer in layers} == {500_000.0}
    assert layers[0].rope == Rope(500_000.0)


@pytest.mark.parametrize(
    ("architecture", "traits", "said"),
    [
        ("Olmo2ForCausalLM", {"norm_sites": "before"}, "norm_sites cannot"),
        ("Olmo3ForCausalLM", {"qk_norm": "head"}, "qk_norm cannot"),
    ],
)
def test_traits_that_it_lacks_are_errors(architecture, traits, said):
    with pytest.raises(ConfigError, match=said):
        written(architecture, **traits)
