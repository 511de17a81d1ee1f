"""Mistral and Ministral (dense): Llama's block; all layers have the window, or in Ministral those that are named."""

from typing import Any

from consistency_jax.models.decoder import LayerType
from consistency_jax.models.families.family import Family, read_layers, read_rope, write_layers
from consistency_jax.models.families.keys import Keys

DEFAULTS = {
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "max_position_embeddings": 131_072,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
}


def read_ministral(hf: Keys) -> dict[str, Any]:
    """Every layer slides where no layer is named, and there is a window."""
    window, rope = hf["sliding_window"], read_rope(hf)
    return {"layer_types": read_layers(hf, window, lambda i: window is not None, (rope, rope))}


MISTRAL = Family(
    "MistralForCausalLM",
    "mistral",
    DEFAULTS,
    lambda hf: {"layer_types": (LayerType(hf["sliding_window"], read_rope(hf)),)},
    lambda config: {"sliding_window": config.windows[0]},
    attention_bias=False,
)
MINISTRAL = Family(
    "MinistralForCausalLM", "ministral", DEFAULTS, read_ministral, write_layers, attention_bias=False
)
