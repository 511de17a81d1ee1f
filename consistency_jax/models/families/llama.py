"""Llama 2, 3, 3.1, 3.2 (text) and every checkpoint of that shape."""

from typing import Any

from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.families.family import (
    Family,
    HfConfig,
    checked,
    read_common,
    write_common,
    write_rope,
)

DEFAULTS = {"rms_norm_eps": 1e-6, "hidden_act": "silu", "max_position_embeddings": 2048}


def from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of LlamaForCausalLM."""
    return DecoderConfig(**read_common({**DEFAULTS, **hf}), mlp_bias=bool(hf.get("mlp_bias", False)))


def to_hf(config: DecoderConfig) -> dict[str, Any]:
    """A config.json for a Llama-shaped model made here; ConfigError where a trait is not Llama's."""
    written = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **write_common(config),
        "rope_parameters": write_rope(config.rope),
        "rope_theta": config.rope.theta,
        "mlp_bias": config.mlp_bias,
    }
    return checked(config, written, from_hf)


FAMILY = Family(from_hf, to_hf)
