"""config.json as transformers reads and writes it, and decoders of every family that no file describes yet."""

import json
from typing import Any

import transformers

from consistency_jax.models.decoder import DecoderConfig, LayerType
from consistency_jax.models.families import FAMILIES
from consistency_jax.models.rotary import Rope

MULTIMODAL = "Gemma3ForConditionalGeneration"


def read(hf: dict[str, Any]) -> DecoderConfig:
    return FAMILIES[hf["architectures"][0]].from_hf(hf)


def as_transformers_5_writes(config: Any, use_diff: bool = False) -> dict[str, Any]:
    return json.loads(config.to_json_string(use_diff=use_diff)) | {"architectures": config.architectures}


def as_transformers_reads(hf: dict[str, Any]) -> dict[str, Any]:
    """What transformers makes of a config.json, in full, in its own present form."""
    config = transformers.AutoConfig.for_model(**hf)
    config.architectures = hf["architectures"]
    return as_transformers_5_writes(config)


SIZES = {"vocab_size": 89, "hidden": 27, "layers": 3, "heads": 3, "kv_heads": 1, "head_dim": 8, "mlp": 40}


LOCAL = LayerType(8)


WINDOWS = {"layer_types": (LOCAL, LOCAL, LayerType())}


GEMMA = {
    "norm_offset": True,
    "norm_sites": "both",
    "activation": "gelu_tanh",
    "embedding_scale": 27**0.5,
    **WINDOWS,
}


TURNED, STILL = LayerType(8, Rope(100.0)), LayerType(rope=None)


YARN = Rope(3000.0, "yarn", 4.0, original_length=64, beta_fast=16.0, beta_slow=2.0, attention_factor=1.25)


BASES = {"layer_types": (TURNED, LayerType(rope=Rope(3000.0, "linear", 4.0)), TURNED)}


GEMMA3 = GEMMA | BASES | {"qk_norm": "head"}


COHERE = {"norm": "layer", "parallel_block": True, "rope_style": "interleaved", "logit_scale": 0.5}


OLMO = {"norm_sites": "behind", "qk_norm": "width", "qkv_bias": True, "out_bias": True, "tied": False}


MADE = {
    "ApertusForCausalLM": {"gated": False, "activation": "xielu", "qk_norm": "head"},
    "LlamaForCausalLM": {
        "layer_types": (LayerType(rope=Rope(300.0, "llama3", 8.0, 1.0, 4.0, 64)),),
        "mlp_bias": True,
        "tied": False,
    },
    "MistralForCausalLM": {"layer_types": (TURNED,)},
    "MinistralForCausalLM": {"layer_types": (TURNED, LayerType(rope=Rope(100.0)), TURNED)},
    "Olmo2ForCausalLM": OLMO | {"layer_types": (LayerType(rope=YARN),)},
    "Olmo3ForCausalLM": OLMO | {"layer_types": (TURNED, LayerType(rope=YARN), TURNED)},
    "Qwen2ForCausalLM": {"qkv_bias": True, "layer_types": (LayerType(), LOCAL, LOCAL)},
    "Qwen3ForCausalLM": {"qk_norm": "head", "qkv_bias": True, "out_bias": True, **WINDOWS},
    "Gemma2ForCausalLM": GEMMA | {"attention_cap": 2.0, "final_cap": 3.0, "tied": False},
    "Gemma3ForCausalLM": GEMMA3,
    "CohereForCausalLM": COHERE | {"qk_norm": "own_scales"},
    "Cohere2ForCausalLM": COHERE | {"layer_types": (TURNED, STILL, TURNED)},
    "SmolLM3ForCausalLM": {"layer_types": (STILL, LayerType(rope=Rope(100.0)), STILL), "mlp_bias": True},
}


def made(**traits: Any) -> DecoderConfig:
    """A model that no file describes yet."""
    return DecoderConfig(**(SIZES | traits))


def written(architecture: str, **traits: Any) -> dict[str, Any]:
    """The config.json of a made decoder of a family with these traits."""
    return FAMILIES[architecture].to_hf(made(**(MADE[architecture] | traits)))


# What every config.json says; the traits of a family stand beside.
BARE = {
    "vocab_size": 89,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
}


def bare(architecture: str, **keys: Any) -> DecoderConfig:
    """The decoder of a config.json with these keys alone."""
    return FAMILIES[architecture].from_hf(BARE | keys)
