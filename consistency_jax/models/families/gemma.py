"""Gemma 2 and Gemma 3 (text): (1 + w) norms around both halves of a block, local and global layers, GeGLU.

The embedding is scaled by sqrt(hidden), rounded (in bfloat16, sqrt(1152) = 33.94 is 34): by transformers to the
dtype of the parameters, by our decoder to the one it computes in. The two differ in mixed precision only. Gemma 2
caps attention and logits; Gemma 3 norms queries and keys instead and turns its local layers at a base of their own.
From 4b on Gemma 3 sees images: of those folders the language model is run, and the rest is kept for the export.
"""

from collections.abc import Mapping
from typing import Any

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import DecoderConfig, Rope
from consistency_jax.models.families.family import (
    LAYER_TYPES,
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

# Multimodal files leave out of `text_config` whatever is transformers' default: sizes too.
DEFAULTS = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}
GEMMA2_DEFAULTS = DEFAULTS | {
    "vocab_size": 256_000,
    "max_position_embeddings": 8192,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
GEMMA3_DEFAULTS = DEFAULTS | {
    "vocab_size": 262_208,
    "max_position_embeddings": 131_072,
    "sliding_window_pattern": 6,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
}


def read_shared(hf: HfConfig, pattern: int) -> dict[str, Any]:
    """The traits that both generations read alike; `hf` is laid over the defaults."""
    if hf.get("use_bidirectional_attention"):
        raise ConfigError("config.json: use_bidirectional_attention is not supported, only causal attention")
    common = read_common(hf, activation="hidden_activation", rope=False)
    return {
        **common,
        "norm_offset": True,
        "post_norm": True,
        "query_scale": hf["query_pre_attn_scalar"] ** -0.5,
        "window": hf["sliding_window"],
        "sliding": read_sliding(hf, lambda: every_nth_global(hf, pattern)),
        "embedding_scale": common["hidden"] ** 0.5,
        "final_cap": hf.get("final_logit_softcapping"),
    }


def read_ropes(hf: HfConfig) -> tuple[Rope, Rope]:
    """Gemma 3's rotary settings of global and of local layers, from either generation of config.json.

    transformers 4 keeps `rope_theta`, `rope_scaling` (global layers only) and `rope_local_base_freq` (local);
    5 keeps settings by kind of layer. As there, `rope_scaling` wins and bases fall back on the older keys.
    """
    settings = hf.get("rope_parameters") or {}
    if settings and not set(settings) <= set(LAYER_TYPES):
        raise ConfigError(
            f"config.json: rope_parameters must be given by layer type: {', '.join(LAYER_TYPES)}"
        )
    full = (settings.get("full_attention") or {}) | (hf.get("rope_scaling") or {})
    local = {"rope_theta": hf["rope_local_base_freq"], **(settings.get("sliding_attention") or {})}
    return read_rope(hf, full), read_rope(hf, local)


def gemma2_from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of Gemma2ForCausalLM."""
    hf = {**GEMMA2_DEFAULTS, **hf}
    cap = hf["attn_logit_softcapping"]
    return canonical(DecoderConfig(**read_shared(hf, pattern=2), rope=read_rope(hf), attention_cap=cap))


def gemma3_from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of Gemma3ForCausalLM (model_type gemma3_text)."""
    if hf.get("attn_logit_softcapping") is not None:
        # transformers reads the key and never applies it: whichever way we went, someone would be surprised.
        raise ConfigError("config.json: Gemma 3 has no attn_logit_softcapping; it must be null")
    hf = {**GEMMA3_DEFAULTS, **hf}
    rope, sliding_rope = read_ropes(hf)
    shared = read_shared(hf, hf["sliding_window_pattern"])
    return canonical(DecoderConfig(**shared, qk_norm=True, rope=rope, sliding_rope=sliding_rope))


def gemma3_multimodal_from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of Gemma3ForConditionalGeneration; the language model's part is read."""
    text = hf.get("text_config")
    if not isinstance(text, Mapping):
        raise ConfigError("config.json of Gemma3ForConditionalGeneration has no 'text_config'")
    config = gemma3_from_hf(text)
    if bool(hf.get("tie_word_embeddings", True)) != config.tied:
        raise ConfigError("config.json: tie_word_embeddings differs between the file and its text_config")
    return config


def write_shared(config: DecoderConfig) -> dict[str, Any]:
    """What both generations write alike."""
    query_scale = canonical(config).query_scale
    return {
        **write_common(config, activation="hidden_activation"),
        **write_sliding(config),
        "query_pre_attn_scalar": round(query_scale**-2),  # transformers takes integers only
        "final_logit_softcapping": config.final_cap,
        "attn_logit_softcapping": config.attention_cap,
    }


def gemma2_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """A config.json for a Gemma 2 made here; ConfigError where a trait is not Gemma 2's."""
    written = {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        **write_shared(config),
        "rope_parameters": write_rope(config.rope),
        "rope_theta": config.rope.theta,
    }
    return checked(config, written, gemma2_from_hf)


def gemma3_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """A config.json for a Gemma 3 made here; ConfigError where a trait is not Gemma 3's."""
    if config.attention_cap is not None:
        raise ConfigError("attention_cap cannot be said in Gemma3ForCausalLM's config.json")
    config = canonical(config)
    full, local = write_rope(config.rope), write_rope(config.sliding_rope or config.rope)
    written = {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        **write_shared(config),
        "rope_parameters": {"full_attention": full, "sliding_attention": local},
    }
    return checked(config, written, gemma3_from_hf)


GEMMA2 = Family(gemma2_from_hf, gemma2_to_hf)
GEMMA3 = Family(gemma3_from_hf, gemma3_to_hf)
# Without a source folder there are no eyes to write: what is left is the text model, and says so.
GEMMA3_MULTIMODAL = Family(
    gemma3_multimodal_from_hf,
    gemma3_to_hf,
    other_parts=r"^(model\.)?(vision_tower|multi_modal_projector)\.",
    text_modules="model.language_model.",
)
