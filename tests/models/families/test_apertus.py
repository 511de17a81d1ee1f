"""Apertus: no gate, xIELU with parameters of its own, and names of its own for two norms."""

import pytest
from hf_configs import bare, written

from consistency_jax.errors import ConfigError
from consistency_jax.models.families import FAMILIES
from consistency_jax.models.families.family import constants
from consistency_jax.models.rotary import Rope


def test_a_bare_config_has_the_published_rotary_settings():
    config = bare("ApertusForCausalLM")
    assert (config.gated, config.activation, config.qk_norm) == (False, "xielu", "head")
    assert config.ropes == (Rope(12_000_000.0, "llama3", 8.0, 1.0, 4.0, 8192),)


def test_tensors_are_those_of_its_own_code():
    config = bare("ApertusForCausalLM")
    names = {path: weight.name for path, weight in FAMILIES["ApertusForCausalLM"].names(config).items()}
    layer = "model.layers.{layer}."
    assert names["layers/attention_norm/scale"] == f"{layer}attention_layernorm.weight"
    assert names["layers/mlp_norm/scale"] == f"{layer}feedforward_layernorm.weight"
    assert names["layers/mlp/activation/alpha_p"] == f"{layer}mlp.act_fn.alpha_p"
    assert "layers/mlp/gate/kernel" not in names
    assert constants(config) == {f"{layer}mlp.act_fn.beta": 0.5, f"{layer}mlp.act_fn.eps": -1e-6}


def test_a_gate_cannot_be_said():
    with pytest.raises(ConfigError, match="gated cannot"):
        written("ApertusForCausalLM", gated=True)
