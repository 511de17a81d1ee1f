"""Cohere: Command R, Aya Expanse (CohereForCausalLM), Command R7B (Cohere2ForCausalLM).

Attention and mlp read the same LayerNorm and are added together; positions turn neighbouring pairs; logits are
scaled. Command R+ also norms queries and keys, each head with a scale of its own. Cohere 2 has windows, and no
positions at all in its global layers.
"""

from typing import Any

from consistency_jax.models.decoder import DecoderConfig, Rope
from consistency_jax.models.families.family import (
    Family,
    HfConfig,
    canonical,
    checked,
    every_nth_global,
    read_common,
    read_rope,
    read_sliding,
    write_common,
    write_rope,
    write_sliding,
)

DEFAULTS = {
    "layer_norm_eps": 1e-5,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "logit_scale": 0.0625,
    "tie_word_embeddings": True,
}
COHERE_DEFAULTS = DEFAULTS | {"use_qk_norm": False, "rope_theta": 500_000.0}
COHERE2_DEFAULTS = DEFAULTS | {"sliding_window": 4096, "sliding_window_pattern": 4}


def read_shared(hf: HfConfig) -> dict[str, Any]:
    """The traits that both generations read alike; `hf` is laid over the defaults."""
    return {
        **read_common(hf, eps="layer_norm_eps", rope=False),
        "norm": "layer",
        "parallel_block": True,
        "rope_style": "interleaved",
        "logit_scale": hf["logit_scale"],
    }


def cohere_from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of CohereForCausalLM."""
    hf = {**COHERE_DEFAULTS, **hf}
    qk_norm = bool(hf["use_qk_norm"])
    return DecoderConfig(**read_shared(hf), rope=read_rope(hf), qk_norm=qk_norm, qk_norm_per_head=qk_norm)


def cohere2_from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of Cohere2ForCausalLM."""
    hf = {**COHERE2_DEFAULTS, **hf}
    return canonical(
        DecoderConfig(
            **read_shared(hf),
            rope=Rope(theta=None),
            sliding_rope=read_rope(hf),
            window=hf["sliding_window"],
            sliding=read_sliding(hf, lambda: every_nth_global(hf, hf["sliding_window_pattern"])),
        )
    )


def cohere_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """A config.json for a Cohere model made here; ConfigError where a trait is not Cohere's."""
    written = {
        "architectures": ["CohereForCausalLM"],
        "model_type": "cohere",
        **write_common(config, eps="layer_norm_eps"),
        "logit_scale": config.logit_scale,
        "use_qk_norm": config.qk_norm,
        "rope_parameters": write_rope(config.rope),
        "rope_theta": config.rope.theta,
    }
    return checked(config, written, cohere_from_hf)


def cohere2_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """A config.json for a Cohere 2 made here; ConfigError where a trait is not Cohere 2's."""
    rope = config.sliding_rope or Rope()  # none where no layer slides: then nothing reads it
    written = {
        "architectures": ["Cohere2ForCausalLM"],
        "model_type": "cohere2",
        **write_common(config, eps="layer_norm_eps"),
        **write_sliding(config),
        "logit_scale": config.logit_scale,
        "rope_parameters": write_rope(rope),
        "rope_theta": rope.theta,
    }
    return checked(config, written, cohere2_from_hf)


COHERE = Family(cohere_from_hf, cohere_to_hf)
COHERE2 = Family(cohere2_from_hf, cohere2_to_hf)
