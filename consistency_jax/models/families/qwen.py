"""Qwen 2, 2.5 and 3 (dense): Llama's block; 2 has biases of queries, keys and values, 3 norms of queries and keys.

`sliding_window` counts only where `use_sliding_window` is true; then the layers from `max_window_layers` on slide,
or those that `layer_types` names. The published files have it off.
"""

from typing import Any

from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.families.family import (
    Family,
    HfConfig,
    canonical,
    checked,
    read_common,
    read_sliding,
    required,
    write_common,
    write_rope,
    write_sliding,
)

DEFAULTS = {
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "max_position_embeddings": 32_768,
    "num_key_value_heads": 32,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}


def read_window(hf: HfConfig) -> dict[str, Any]:
    """`window` and `sliding`; `hf` is laid over the defaults."""
    window, first = (hf["sliding_window"] if hf["use_sliding_window"] else None), hf["max_window_layers"]
    layers = required(hf, "num_hidden_layers")
    sliding = read_sliding(hf, lambda: tuple(window is not None and i >= first for i in range(layers)))
    return {"window": window, "sliding": sliding}


def qwen2_from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of Qwen2ForCausalLM, whose biases are in no key."""
    hf = {**DEFAULTS, **hf}
    biases = {"qkv_bias": True, "out_bias": False}
    return canonical(DecoderConfig(**(read_common(hf) | biases), **read_window(hf)))


def qwen3_from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of Qwen3ForCausalLM."""
    hf = {**DEFAULTS, "head_dim": 128, **hf}
    return canonical(DecoderConfig(**read_common(hf), qk_norm=True, **read_window(hf)))


def write_shared(config: DecoderConfig) -> dict[str, Any]:
    """What both generations write alike."""
    slides = any(config.sliding)
    return {
        **write_common(config),
        **write_sliding(config),
        "use_sliding_window": slides,
        "max_window_layers": config.sliding.index(True) if slides else config.layers,
        "rope_parameters": write_rope(config.rope),
        "rope_theta": config.rope.theta,
    }


def qwen2_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """A config.json for a Qwen 2 made here; ConfigError where a trait is not Qwen 2's."""
    written = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **write_shared(config)}
    del written["attention_bias"]
    return checked(config, written, qwen2_from_hf)


def qwen3_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """A config.json for a Qwen 3 made here; ConfigError where a trait is not Qwen 3's."""
    written = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **write_shared(config)}
    return checked(config, written, qwen3_from_hf)


QWEN2 = Family(qwen2_from_hf, qwen2_to_hf)
QWEN3 = Family(qwen3_from_hf, qwen3_to_hf)
