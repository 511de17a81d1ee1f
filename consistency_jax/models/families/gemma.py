"""Gemma 2 and Gemma 3 (text): (1 + w) norms around both halves of a block, local and global layers, GeGLU.

The embedding is scaled by sqrt(hidden), rounded (in bfloat16, sqrt(1152) = 33.94 is 34): by transformers to the
dtype of the parameters, by our decoder to the one it computes in. The two differ in mixed precision only. Gemma 2
caps attention and logits; Gemma 3 norms queries and keys instead and turns its local layers at a base of their own.
"""

import dataclasses
from typing import Any

from consistency_jax.models.decoder import DecoderConfig, Rope
from consistency_jax.models.families import llama
from consistency_jax.models.families.family import (
    ConfigError,
    Family,
    HfConfig,
    Weight,
    read_activation,
    read_rope,
    required,
    write_rope,
)

KINDS = {"full_attention": False, "sliding_attention": True}


def read_sliding(hf: HfConfig, pattern: int) -> tuple[bool, ...]:
    """One flag a layer, from `layer_types`, or from older files' pattern: every `pattern`-th layer is global."""
    kinds, layers = hf.get("layer_types"), required(hf, "num_hidden_layers")
    if kinds is None:
        if pattern < 1:
            raise ConfigError(f"config.json: sliding_window_pattern = {pattern}; must be at least 1")
        return tuple((i + 1) % pattern != 0 for i in range(layers))
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ConfigError(
            f"config.json: layer_types {unknown} are not supported; supported: {', '.join(KINDS)}"
        )
    return tuple(KINDS[kind] for kind in kinds)


def read_shared(hf: HfConfig, pattern: int) -> dict[str, Any]:
    """The traits that both generations read alike; where a key is absent, transformers' default."""
    if hf.get("use_bidirectional_attention"):
        raise ConfigError("config.json: use_bidirectional_attention is not supported, only causal attention")
    hidden = required(hf, "hidden_size")
    bias = bool(hf.get("attention_bias", False))
    return {
        "vocab_size": required(hf, "vocab_size"),
        "hidden": hidden,
        "layers": required(hf, "num_hidden_layers"),
        "heads": required(hf, "num_attention_heads"),
        "kv_heads": required(hf, "num_key_value_heads"),
        "head_dim": hf.get("head_dim", 256),
        "mlp": required(hf, "intermediate_size"),
        "norm_offset": True,
        "norm_eps": hf.get("rms_norm_eps", 1e-6),
        "post_norm": True,
        "qkv_bias": bias,
        "out_bias": bias,
        "query_scale": hf.get("query_pre_attn_scalar", 256) ** -0.5,
        "window": hf.get("sliding_window", 4096),
        "sliding": read_sliding(hf, pattern),
        "activation": read_activation({"hidden_activation": "gelu_pytorch_tanh", **hf}, "hidden_activation"),
        "embedding_scale": hidden**0.5,
        "tied": bool(hf.get("tie_word_embeddings", True)),
        "initializer_range": hf.get("initializer_range", 0.02),
    }


def read_ropes(hf: HfConfig) -> tuple[Rope, Rope]:
    """Gemma 3's rotary settings of global and of local layers, from either generation of config.json.

    transformers 4 keeps `rope_theta`, `rope_scaling` (global layers only) and `rope_local_base_freq` (local);
    5 keeps settings by kind of layer. As there, `rope_scaling` wins and bases fall back on the older keys.
    """
    settings = hf.get("rope_parameters") or {}
    if settings and not set(settings) <= set(KINDS):
        raise ConfigError(f"config.json: rope_parameters must be given by layer type: {', '.join(KINDS)}")
    full = (settings.get("full_attention") or {}) | (hf.get("rope_scaling") or {})
    local = settings.get("sliding_attention") or {}
    return (
        read_rope(hf, {"rope_theta": hf.get("rope_theta", 1_000_000.0), **full}),
        read_rope(hf, {"rope_theta": hf.get("rope_local_base_freq", 10_000.0), **local}),
    )


def canonical(config: DecoderConfig) -> DecoderConfig:
    """The same model, each trait said in one way: so that `differences` sees only what is different."""
    if not any(config.sliding):
        config = dataclasses.replace(config, sliding=(), window=None, sliding_rope=None)
    return dataclasses.replace(
        config,
        sliding_rope=None if config.sliding_rope == config.rope else config.sliding_rope,
        query_scale=config.head_dim**-0.5 if config.query_scale is None else config.query_scale,
    )


def gemma2_from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of Gemma2ForCausalLM."""
    return canonical(
        DecoderConfig(
            **read_shared(hf, pattern=2),
            rope=read_rope(hf),
            attention_cap=hf.get("attn_logit_softcapping", 50.0),
            final_cap=hf.get("final_logit_softcapping", 30.0),
            max_length=hf.get("max_position_embeddings", 8192),
        )
    )


def gemma3_from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of Gemma3ForCausalLM (model_type gemma3_text)."""
    if hf.get("attn_logit_softcapping") is not None:
        # transformers reads the key and never applies it: whichever way we went, someone would be surprised.
        raise ConfigError("config.json: Gemma 3 has no attn_logit_softcapping; it must be null")
    rope, sliding_rope = read_ropes(hf)
    return canonical(
        DecoderConfig(
            **read_shared(hf, hf.get("sliding_window_pattern", 6)),
            qk_norm=True,
            rope=rope,
            sliding_rope=sliding_rope,
            final_cap=hf.get("final_logit_softcapping"),
            max_length=hf.get("max_position_embeddings", 131_072),
        )
    )


def names(config: DecoderConfig) -> dict[str, Weight]:
    """Our parameter path -> its tensors: Llama's projections, and up to six norms a layer."""
    layer = "model.layers.{layer}."
    norms = {  # Llama calls the norm before the mlp "post_attention"; here that name is true
        "attention_post_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "mlp_post_norm": "post_feedforward_layernorm",
    }
    if config.qk_norm:
        norms |= {"attention/query_norm": "self_attn.q_norm", "attention/key_norm": "self_attn.k_norm"}
    return llama.names(config) | {
        f"layers/{ours}/scale": Weight(f"{layer}{theirs}.weight") for ours, theirs in norms.items()
    }


def write_shared(config: DecoderConfig) -> dict[str, Any]:
    """What both generations write alike; `config` is canonical."""
    sliding = config.sliding or (False,) * config.layers
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_activation": {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh"}[config.activation],
        "max_position_embeddings": config.max_length,
        "initializer_range": config.initializer_range,
        "rms_norm_eps": config.norm_eps,
        "attention_bias": config.qkv_bias,
        "query_pre_attn_scalar": round(config.query_scale**-2),  # transformers takes integers only
        "sliding_window": config.window or 4096,  # transformers asks for one where no layer slides, too
        "layer_types": ["sliding_attention" if flag else "full_attention" for flag in sliding],
        "final_logit_softcapping": config.final_cap,
        "attn_logit_softcapping": config.attention_cap,
        "tie_word_embeddings": config.tied,
        "use_cache": True,
    }


def gemma2_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """A config.json for a Gemma 2 made here; ConfigError where a trait is not Gemma 2's."""
    config = canonical(config)
    written = {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        **write_shared(config),
        "rope_parameters": write_rope(config.rope),
        "rope_theta": config.rope.theta,
    }
    return checked(config, written, gemma2_from_hf(written))


def gemma3_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """A config.json for a Gemma 3 made here; ConfigError where a trait is not Gemma 3's."""
    config = canonical(config)
    if config.attention_cap is not None:
        raise ConfigError("not a Gemma 3: attention_cap cannot be said in Gemma3ForCausalLM's config.json")
    full, local = write_rope(config.rope), write_rope(config.sliding_rope or config.rope)
    written = {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        **write_shared(config),
        "rope_parameters": {"full_attention": full, "sliding_attention": local},
    }
    return checked(config, written, gemma3_from_hf(written))


def checked(config: DecoderConfig, written: dict[str, Any], back: DecoderConfig) -> dict[str, Any]:
    """`written`, or a ConfigError naming the traits that were lost on the way to `back`."""
    differing = config.differences(back)
    if differing:
        architecture = written["architectures"][0]
        raise ConfigError(f"{', '.join(differing)} cannot be said in {architecture}'s config.json")
    return written


GEMMA2 = Family(from_hf=gemma2_from_hf, names=names, to_hf=gemma2_to_hf, aliases=llama.aliases)
GEMMA3 = Family(from_hf=gemma3_from_hf, names=names, to_hf=gemma3_to_hf, aliases=llama.aliases)
