"""Published models by Hugging Face id: what their config.json says of shapes and traits, without the weights.

For everything that needs a model's shapes and not its values: parameter counts, compiling for a machine that is not
here. The files are kept in the form that the Hub has them in, keys that change nothing left out; the weights of most
are behind a licence to agree to.
"""

from typing import Any

from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.families import find_family


def _sizes(hidden: int, mlp: int, heads: int, layers: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
    }


def _llama(factor: float, sizes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Llama 3.1 and 3.2."""
    scaling = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 131_072,
        "mlp_bias": False,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_scaling": {"rope_type": "llama3", "factor": factor, **scaling},
        "rope_theta": 500_000.0,
        "torch_dtype": "bfloat16",
        "vocab_size": 128_256,
        **sizes,
        **more,
    }


def _qwen(model_type: str, sizes: dict[str, Any], length: int, **more: Any) -> dict[str, Any]:
    """Qwen 2.5 and 3."""
    return {
        "architectures": [f"Q{model_type[1:]}ForCausalLM"],
        "model_type": model_type,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": length,
        "max_window_layers": sizes["num_hidden_layers"],
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "vocab_size": 151_936,
        **sizes,
        **more,
    }


def _qwen2(sizes: dict[str, Any], length: int, **more: Any) -> dict[str, Any]:
    return _qwen("qwen2", sizes, length, sliding_window=length, **more)


def _qwen3(sizes: dict[str, Any], **more: Any) -> dict[str, Any]:
    shared = {"attention_bias": False, "head_dim": 128, "num_key_value_heads": 8, "rope_scaling": None}
    return _qwen("qwen3", sizes, 40_960, **shared, **more)


def _gemma3_text(sizes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The two text-only sizes."""
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "initializer_range": 0.02,
        "max_position_embeddings": 32_768,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-6,
        "rope_local_base_freq": 10_000.0,
        "rope_scaling": None,
        "rope_theta": 1_000_000.0,
        "sliding_window": 512,
        "torch_dtype": "bfloat16",
        "vocab_size": 262_144,
        **sizes,
        **more,
    }


def _gemma3(**sizes: Any) -> dict[str, Any]:
    """The multimodal sizes. Their files leave out what was the default of transformers: vocabulary, head size, ..."""
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "boi_token_index": 255_999,
        "eoi_token_index": 256_000,
        "image_token_index": 262_144,
        "initializer_range": 0.02,
        "mm_tokens_per_image": 256,
        "text_config": {
            "model_type": "gemma3_text",
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
            **sizes,
        },
        "torch_dtype": "bfloat16",
        "vision_config": {
            "hidden_size": 1152,
            "image_size": 896,
            "intermediate_size": 4304,
            "model_type": "siglip_vision_model",
            "num_attention_heads": 16,
            "num_hidden_layers": 27,
            "patch_size": 14,
            "vision_use_head": False,
        },
    }


PUBLISHED: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.1-8B": _llama(8.0, _sizes(4096, 14_336, 32, 32), tie_word_embeddings=False),
    "meta-llama/Llama-3.2-1B": _llama(
        32.0, _sizes(2048, 8192, 32, 16), head_dim=64, tie_word_embeddings=True
    ),
    "meta-llama/Llama-3.2-3B": _llama(
        32.0, _sizes(3072, 8192, 24, 28), head_dim=128, tie_word_embeddings=True
    ),
    "Qwen/Qwen2.5-0.5B": _qwen2(
        _sizes(896, 4864, 14, 24), 32_768, num_key_value_heads=2, tie_word_embeddings=True
    ),
    "Qwen/Qwen2.5-7B": _qwen2(
        _sizes(3584, 18_944, 28, 28), 131_072, num_key_value_heads=4, vocab_size=152_064
    ),
    "Qwen/Qwen2.5-14B": _qwen2(
        _sizes(5120, 13_824, 40, 48), 131_072, num_key_value_heads=8, vocab_size=152_064, rms_norm_eps=1e-5
    ),
    "Qwen/Qwen3-0.6B": _qwen3(_sizes(1024, 3072, 16, 28), tie_word_embeddings=True),
    "Qwen/Qwen3-8B": _qwen3(_sizes(4096, 12_288, 32, 36)),
    "Qwen/Qwen3-14B": _qwen3(_sizes(5120, 17_408, 40, 40)),
    "google/gemma-2-9b": {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "attention_bias": False,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        **_sizes(3584, 14_336, 16, 42),
        "initializer_range": 0.02,
        "max_position_embeddings": 8192,
        "num_key_value_heads": 8,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "sliding_window": 4096,
        "torch_dtype": "float32",
        "vocab_size": 256_000,
    },
    "google/gemma-3-270m": _gemma3_text(
        _sizes(640, 2048, 4, 18), layer_types=(["sliding_attention"] * 5 + ["full_attention"]) * 3
    ),
    "google/gemma-3-1b-pt": _gemma3_text(_sizes(1152, 6912, 4, 26), sliding_window_pattern=6),
    "google/gemma-3-4b-pt": _gemma3(hidden_size=2560, intermediate_size=10_240, num_hidden_layers=34),
    "google/gemma-3-12b-pt": _gemma3(**_sizes(3840, 15_360, 16, 48), num_key_value_heads=8),
    "CohereLabs/aya-expanse-8b": {
        "architectures": ["CohereForCausalLM"],
        "model_type": "cohere",
        "attention_bias": False,
        "hidden_act": "silu",
        **_sizes(4096, 14_336, 32, 32),
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-5,
        "logit_scale": 0.125,
        "max_position_embeddings": 8192,
        "num_key_value_heads": 8,
        "rope_theta": 10_000,
        "torch_dtype": "float16",
        "use_qk_norm": False,
        "vocab_size": 256_000,
    },
}


def published_config(hub_id: str) -> DecoderConfig:
    """The decoder of a published model; KeyError that lists the known ones."""
    if hub_id not in PUBLISHED:
        raise KeyError(f"the shapes of {hub_id!r} are not known here; known: {', '.join(PUBLISHED)}")
    hf = PUBLISHED[hub_id]
    _, family = find_family(hf)
    return family.from_hf(hf)
