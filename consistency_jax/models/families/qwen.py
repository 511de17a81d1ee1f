"""Qwen 2, 2.5 and 3 (dense): Llama's block; 2 has biases of queries, keys and values, 3 norms of queries and keys.

`sliding_window` counts only where `use_sliding_window` is true; then the layers from `max_window_layers` on slide,
or those that `layer_types` names. The published files have it off.
"""

from typing import Any

from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.families.family import Family, read_layers, read_rope, write_layers
from consistency_jax.models.families.keys import Keys

DEFAULTS = {
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "max_position_embeddings": 32_768,
    "num_key_value_heads": 32,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}


def read(hf: Keys) -> dict[str, Any]:
    """The layers, which both generations tell alike."""
    window, used, first = hf["sliding_window"], hf["use_sliding_window"], hf["max_window_layers"]
    rope, window = read_rope(hf), window if used else None
    return {"layer_types": read_layers(hf, window, lambda i: window is not None and i >= first, (rope, rope))}


def write(config: DecoderConfig) -> dict[str, Any]:
    """The inverse of `read`."""
    slides = [layer.window is not None for layer in config.each_layer]
    first = slides.index(True) if any(slides) else config.layers
    return {**write_layers(config), "use_sliding_window": any(slides), "max_window_layers": first}


QWEN2 = Family(
    "Qwen2ForCausalLM",
    "qwen2",
    DEFAULTS,
    lambda hf: {**read(hf), "qkv_bias": True},  # which no key says
    write,
    attention_bias=False,
)
QWEN3 = Family(
    "Qwen3ForCausalLM",
    "qwen3",
    {**DEFAULTS, "head_dim": 128},
    lambda hf: {**read(hf), "qk_norm": "head"},
    write,
)
