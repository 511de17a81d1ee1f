"""Gemma 2 and Gemma 3 (text): (1 + w) norms around both halves of a block, local and global layers, GeGLU.

The embedding is scaled by sqrt(hidden), rounded to the dtype of the parameters (in bfloat16, sqrt(1152) = 33.94 is
34). Gemma 2 caps attention and logits; Gemma 3 norms queries and keys instead and turns its local layers at a base of
their own.
From 4b on Gemma 3 sees images: of those folders the language model is run, and the rest is kept for the export.
"""

import dataclasses
from typing import Any

from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.families.family import (
    Family,
    except_every_nth,
    read_layers,
    read_rope,
    read_ropes,
    write_layers,
    write_ropes,
)
from consistency_jax.models.families.keys import Keys

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
    "final_logit_softcapping": None,
    "tie_word_embeddings": True,
}


def read(hf: Keys) -> dict[str, Any]:
    """The traits that both generations read alike."""
    return {
        "norm_offset": True,
        "norm_sites": "both",
        "query_scale": hf["query_pre_attn_scalar"] ** -0.5,
        "embedding_scale": hf["hidden_size"] ** 0.5,
        "final_cap": hf["final_logit_softcapping"],
    }


def read_gemma2(hf: Keys) -> dict[str, Any]:
    """With caps, and every second layer local."""
    rope = read_rope(hf)
    layers = read_layers(hf, hf["sliding_window"], except_every_nth(2), (rope, rope))
    return {**read(hf), "attention_cap": hf["attn_logit_softcapping"], "layer_types": layers}


def read_gemma3(hf: Keys) -> dict[str, Any]:
    """With norms of queries and keys, and two rotary bases."""
    slides = except_every_nth(hf["sliding_window_pattern"])
    ropes = read_ropes(hf, hf["rope_local_base_freq"])
    return {
        **read(hf),
        "qk_norm": "head",
        "layer_types": read_layers(hf, hf["sliding_window"], slides, ropes),
    }


def write(config: DecoderConfig) -> dict[str, Any]:
    """What both generations write alike."""
    scale = config.head_dim if config.query_scale is None else round(config.query_scale**-2)
    return {
        **write_layers(config),
        "query_pre_attn_scalar": scale,  # transformers takes integers only
        "final_logit_softcapping": config.final_cap,
    }


GEMMA2 = Family(
    "Gemma2ForCausalLM",
    "gemma2",
    {
        **DEFAULTS,
        "vocab_size": 256_000,
        "max_position_embeddings": 8192,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    read_gemma2,
    lambda config: {**write(config), "attn_logit_softcapping": config.attention_cap},
    activation="hidden_activation",
    ignored={"hidden_act": ...},  # which older files hold too, and nobody reads
)
GEMMA3 = Family(
    "Gemma3ForCausalLM",
    "gemma3_text",
    {
        **DEFAULTS,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
        "sliding_window_pattern": 6,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
    },
    read_gemma3,
    lambda config: {**write(config), **write_ropes(config)},
    activation="hidden_activation",
    ignored={"_sliding_window_pattern": ..., "hidden_act": ...},  # the first is said by `layer_types`
)
# Without a source folder there are no other parts to write: what is left is the text model, and says so.
GEMMA3_MULTIMODAL = dataclasses.replace(
    GEMMA3,
    other_parts=r"^(model\.)?(vision_tower|multi_modal_projector)\.",
    beside=dict.fromkeys(("vision_config", "mm_tokens_per_image", "initializer_range"), ...)
    | dict.fromkeys(("boi_token_index", "eoi_token_index", "image_token_index"), ...),
    text_modules="model.language_model.",
)
