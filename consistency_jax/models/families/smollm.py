"""SmolLM3: Llama's block; every fourth layer has no positions."""

import dataclasses
from typing import Any

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.families.family import (
    Family,
    except_every_nth,
    read_layers,
    read_rope,
    write_layers,
)
from consistency_jax.models.families.keys import Keys


def read(hf: Keys) -> dict[str, Any]:
    """Which layers turn is said by `no_rope_layers` (1: turns) or by the interval; with a window, the others slide."""
    turns = except_every_nth(hf["no_rope_layer_interval"])
    turned, layers = hf.get("no_rope_layers"), hf.required("num_hidden_layers")
    turned = [turns(i) for i in range(layers)] if turned is None else turned
    if len(turned) < layers:
        raise ConfigError(f"config.json: no_rope_layers names {len(turned)} layers, the model has {layers}")
    window, used, rope = hf["sliding_window"], hf["use_sliding_window"], read_rope(hf)
    window = window if used else None
    types = read_layers(hf, window, lambda i: window is not None and not turned[i], (rope, rope))
    types = tuple(kind if turned[i] else dataclasses.replace(kind, rope=None) for i, kind in enumerate(types))
    return {"layer_types": types, "mlp_bias": bool(hf["mlp_bias"])}


def write(config: DecoderConfig) -> dict[str, Any]:
    """The inverse of `read`."""
    return {
        **write_layers(config),
        "use_sliding_window": any(config.windows),
        "no_rope_layers": [int(layer.rope is not None) for layer in config.each_layer],
        "mlp_bias": config.mlp_bias,
        "pad_token_id": None,  # transformers' default lies outside of small vocabularies
    }


FAMILY = Family(
    "SmolLM3ForCausalLM",
    "smollm3",
    {
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "max_position_embeddings": 32_768,
        "num_key_value_heads": 4,
        "rope_theta": 2_000_000.0,
        "use_sliding_window": False,
        "sliding_window": None,
        "no_rope_layer_interval": 4,
        "mlp_bias": False,
        "tie_word_embeddings": True,
    },
    read,
    write,
)
