"""SmolLM3: which layers have rotary positions."""

import pytest
from hf_configs import LOCAL, STILL, YARN, bare, written

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import LayerType

SIZES = {"num_key_value_heads": 1}


def still(**keys) -> list[bool]:
    return [layer.rope is None for layer in bare("SmolLM3ForCausalLM", **SIZES, **keys).each_layer]


def test_every_fourth_layer_is_still_or_those_that_are_named():
    assert still() == [False, False, False, True]
    assert still(no_rope_layer_interval=2) == [False, True, False, True]
    assert still(no_rope_layers=[0, 1, 1, 0]) == [True, False, False, True]  # 1: turns
    assert still(no_rope_layers=[1, 1, 1, 1], no_rope_layer_interval=2) == [False] * 4


def test_windows_are_of_layers_that_are_still():
    config = bare("SmolLM3ForCausalLM", use_sliding_window=True, sliding_window=8, **SIZES)
    assert [layer.window for layer in config.each_layer] == [None, None, None, 8]
    off = bare("SmolLM3ForCausalLM", use_sliding_window=False, sliding_window=8, **SIZES)
    assert off.windows == (None,) * len(off.windows)


def test_a_trait_that_it_lacks_is_an_error():
    with pytest.raises(ConfigError, match="layer_types cannot"):
        written("SmolLM3ForCausalLM", layer_types=(LayerType(None, YARN), LOCAL, STILL))
