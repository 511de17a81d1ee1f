"""Llama 2, 3, 3.1, 3.2 (text) and every checkpoint of that shape."""

from typing import Any

from consistency_jax.models.decoder import DecoderConfig
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


def from_hf(hf: HfConfig) -> DecoderConfig:
    """`hf`: a parsed config.json of LlamaForCausalLM."""
    hidden, heads = required(hf, "hidden_size"), required(hf, "num_attention_heads")
    bias = bool(hf.get("attention_bias", False))
    return DecoderConfig(
        vocab_size=required(hf, "vocab_size"),
        hidden=hidden,
        layers=required(hf, "num_hidden_layers"),
        heads=heads,
        kv_heads=hf.get("num_key_value_heads") or heads,
        head_dim=hf.get("head_dim") or hidden // heads,
        mlp=required(hf, "intermediate_size"),
        norm_eps=hf.get("rms_norm_eps", 1e-6),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bool(hf.get("mlp_bias", False)),
        rope=read_rope(hf),
        activation=read_activation(hf),
        tied=bool(hf.get("tie_word_embeddings", False)),
        max_length=hf.get("max_position_embeddings", 2048),
        initializer_range=hf.get("initializer_range", 0.02),
    )


def names(config: DecoderConfig) -> dict[str, Weight]:
    """Our parameter path -> its tensors in a Llama checkpoint."""
    layer = "model.layers.{layer}."
    mapping = {
        "embedding/weight": Weight("model.embed_tokens.weight"),
        "final_norm/scale": Weight("model.norm.weight"),
        "layers/attention_norm/scale": Weight(layer + "input_layernorm.weight"),
        "layers/mlp_norm/scale": Weight(layer + "post_attention_layernorm.weight"),
    }
    if not config.tied:
        mapping["head/weight"] = Weight("lm_head.weight")
    projections = {
        "attention/query": ("self_attn.q_proj", config.qkv_bias),
        "attention/key": ("self_attn.k_proj", config.qkv_bias),
        "attention/value": ("self_attn.v_proj", config.qkv_bias),
        "attention/out": ("self_attn.o_proj", config.out_bias),
        "mlp/gate": ("mlp.gate_proj", config.mlp_bias),
        "mlp/up": ("mlp.up_proj", config.mlp_bias),
        "mlp/down": ("mlp.down_proj", config.mlp_bias),
    }
    for ours, (theirs, bias) in projections.items():
        mapping[f"layers/{ours}/kernel"] = Weight(f"{layer}{theirs}.weight", transpose=True)
        if bias:
            mapping[f"layers/{ours}/bias"] = Weight(f"{layer}{theirs}.bias")
    return mapping


def aliases(config: DecoderConfig) -> dict[str, str]:
    """Some writers store the tied head beside the embedding."""
    return {"lm_head.weight": "model.embed_tokens.weight"} if config.tied else {}


def to_hf(config: DecoderConfig) -> dict[str, Any]:
    """A config.json for a Llama-shaped model made here; ConfigError where a trait is not Llama's."""
    written = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh"}[config.activation],
        "max_position_embeddings": config.max_length,
        "initializer_range": config.initializer_range,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": write_rope(config.rope),
        "rope_theta": config.rope.theta,
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        "tie_word_embeddings": config.tied,
        "use_cache": True,
    }
    differing = config.differences(from_hf(written))
    if differing:
        raise ConfigError(
            f"not a Llama: {', '.join(differing)} cannot be said in LlamaForCausalLM's config.json"
        )
    return written


FAMILY = Family(from_hf=from_hf, names=names, to_hf=to_hf, aliases=aliases)
