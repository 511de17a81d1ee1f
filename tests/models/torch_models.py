"""Small random Hugging Face models, two or more for each supported architecture, and torch's answers to tokens.

Together they have: odd head counts, three query heads a kv head, windows of 32 positions, rotary scaling on and off,
tied heads and heads of their own, biases, epsilons that show.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

VOCABULARY = 89
WINDOW = 32
SHARED = {
    "vocab_size": VOCABULARY,
    "intermediate_size": 70,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "hidden_size": 48,
    "initializer_range": 0.2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
NINE_HEADS = {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 54}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 1024,
    "beta_fast": 8.0,
    "beta_slow": 2.0,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.5}
GEMMA_ROPES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 3000.0, "factor": 4.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
IN_TURNS = ["sliding_attention", "full_attention", "sliding_attention"]
GEMMA = {"head_dim": 14, "sliding_window": WINDOW, "query_pre_attn_scalar": 7}
VISION = {
    "hidden_size": 12,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "vision_use_head": False,
}

# name -> (architecture, its settings beside SHARED)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, 9 heads, llama3 rope, biases, untied": (
        "LlamaForCausalLM",
        NINE_HEADS
        | {
            "rope_parameters": LLAMA3_ROPE,
            "tie_word_embeddings": False,
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
    "llama, 5 heads without grouping, wide heads, linear rope, gelu": (
        "LlamaForCausalLM",
        {
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "hidden_size": 50,
            "head_dim": 14,
            "rope_parameters": LINEAR_ROPE,
            "hidden_act": "gelu_pytorch_tanh",
            "rms_norm_eps": 1e-2,
        },
    ),
    "qwen 2, 3 heads": ("Qwen2ForCausalLM", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen 2, 9 heads, windows from layer 1 on, linear rope, untied": (
        "Qwen2ForCausalLM",
        NINE_HEADS
        | {
            "rope_parameters": LINEAR_ROPE,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 1,
            "rms_norm_eps": 1e-2,
            "tie_word_embeddings": False,
        },
    ),
    "qwen 3, 3 wide heads": (
        "Qwen3ForCausalLM",
        {"head_dim": 18, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    "qwen 3, 9 heads, biases, a window in the middle, llama3 rope, untied": (
        "Qwen3ForCausalLM",
        NINE_HEADS
        | {
            "head_dim": 10,
            "attention_bias": True,
            "rope_parameters": LLAMA3_ROPE,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "rms_norm_eps": 1e-2,
            "tie_word_embeddings": False,
        },
    ),
    "gemma 2, 3 heads, soft caps": (
        "Gemma2ForCausalLM",
        GEMMA
        | {
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 6.0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 700.0},
        },
    ),
    "gemma 2, 9 heads, uncapped, linear rope, biases, untied": (
        "Gemma2ForCausalLM",
        GEMMA
        | NINE_HEADS
        | {
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "attention_bias": True,
            "rope_parameters": LINEAR_ROPE,
            "tie_word_embeddings": False,
        },
    ),
    "gemma 3, 9 heads, linear rope": (
        "Gemma3ForCausalLM",
        GEMMA | NINE_HEADS | {"layer_types": IN_TURNS, "rope_parameters": GEMMA_ROPES, "rms_norm_eps": 1e-2},
    ),
    "gemma 3, 3 heads, biases, capped, untied": (
        "Gemma3ForCausalLM",
        GEMMA
        | {
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "attention_bias": True,
            "final_logit_softcapping": 5.0,
            "tie_word_embeddings": False,
        },
    ),
    "gemma 3 multimodal, 3 heads": (
        "Gemma3ForConditionalGeneration",
        GEMMA | {"layer_types": IN_TURNS, "rope_parameters": GEMMA_ROPES},
    ),
    "gemma 3 multimodal, 9 heads, untied": (
        "Gemma3ForConditionalGeneration",
        GEMMA
        | NINE_HEADS
        | {"layer_types": IN_TURNS[:2] * 2, "num_hidden_layers": 4, "tie_word_embeddings": False},
    ),
    "cohere, 3 heads with norms of their own": (
        "CohereForCausalLM",
        {
            "use_qk_norm": True,
            "logit_scale": 0.125,
            "rope_parameters": {"rope_type": "default", "rope_theta": 900.0},
        },
    ),
    "cohere, 9 heads, linear rope, biases, untied": (
        "CohereForCausalLM",
        NINE_HEADS
        | {
            "logit_scale": 0.7,
            "layer_norm_eps": 1e-2,
            "attention_bias": True,
            "rope_parameters": LINEAR_ROPE,
            "tie_word_embeddings": False,
        },
    ),
    "cohere 2, 3 heads": (
        "Cohere2ForCausalLM",
        {
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            "sliding_window": WINDOW,
            "logit_scale": 0.3,
        },
    ),
    "cohere 2, 9 heads, linear rope, biases, untied": (
        "Cohere2ForCausalLM",
        NINE_HEADS
        | {
            "layer_types": IN_TURNS,
            "sliding_window": WINDOW,
            "logit_scale": 0.7,
            "rope_parameters": LINEAR_ROPE,
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "mistral, 3 heads, a window": (
        "MistralForCausalLM",
        {"sliding_window": WINDOW, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    "mistral, 9 wide heads, no window, untied": (
        "MistralForCausalLM",
        NINE_HEADS
        | {
            "head_dim": 10,
            "sliding_window": None,
            "rope_parameters": LLAMA3_ROPE,
            "rms_norm_eps": 1e-2,
            "tie_word_embeddings": False,
        },
    ),
    "ministral, 3 wide heads, a window in the middle": (
        "MinistralForCausalLM",
        {
            "head_dim": 18,
            "sliding_window": WINDOW,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        },
    ),
    "ministral, 9 heads, windows, yarn, untied": (
        "MinistralForCausalLM",
        NINE_HEADS
        | {
            "head_dim": 8,
            "sliding_window": WINDOW,
            "rope_parameters": YARN_ROPE | {"mscale": 2.0, "mscale_all_dim": 0.5},
            "tie_word_embeddings": False,
        },
    ),
    "olmo 2, 3 heads, tied": ("Olmo2ForCausalLM", {"rope_parameters": LINEAR_ROPE}),
    "olmo 2, 9 heads, llama3 rope, biases, untied": (
        "Olmo2ForCausalLM",
        NINE_HEADS
        | {
            "rope_parameters": LLAMA3_ROPE,
            "rms_norm_eps": 1e-2,
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "olmo 3, 3 heads, windows": (
        "Olmo3ForCausalLM",
        {"num_hidden_layers": 4, "sliding_window": WINDOW},
    ),
    "olmo 3, 9 heads, yarn in global layers, biases, untied": (
        "Olmo3ForCausalLM",
        NINE_HEADS
        | {
            "head_dim": 16,
            "layer_types": IN_TURNS,
            "sliding_window": WINDOW,
            "rope_parameters": {
                "full_attention": YARN_ROPE | {"rope_theta": 5e5, "attention_factor": 1.5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
            },
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "smollm 3, 3 heads, one of four layers still": (
        "SmolLM3ForCausalLM",
        {"num_hidden_layers": 4, "pad_token_id": None},
    ),
    "smollm 3, 9 heads, windows where nothing turns, biases, untied": (
        "SmolLM3ForCausalLM",
        NINE_HEADS
        | {
            "pad_token_id": None,
            "no_rope_layers": [1, 0, 1],
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "rope_parameters": YARN_ROPE,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "apertus, 3 heads": ("ApertusForCausalLM", {"rope_parameters": LLAMA3_ROPE}),
    "apertus, 9 heads, silu, biases, untied": (
        "ApertusForCausalLM",
        NINE_HEADS
        | {
            "hidden_act": "silu",
            "rms_norm_eps": 1e-2,
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
    ),
}


def hf_config(case: str, **changes: Any) -> transformers.PretrainedConfig:
    """The transformers config of a case."""
    architecture, settings = CASES[case]
    settings = SHARED | settings | changes
    if architecture == "Gemma3ForConditionalGeneration":
        # The token of an image must lie outside of what the tests ask about.
        return transformers.Gemma3Config(
            text_config=transformers.Gemma3TextConfig(**settings),
            vision_config=transformers.SiglipVisionConfig(**VISION),
            mm_tokens_per_image=4,
            image_token_index=VOCABULARY,
            tie_word_embeddings=settings["tie_word_embeddings"],
        )
    stem = architecture.removesuffix("ForCausalLM").replace("Gemma3", "Gemma3Text")
    config = getattr(transformers, f"{stem}Config")(**settings)
    config.architectures = [architecture]
    return config


def random_checkpoint(folder: Path, case: str, dtype: str = "float32", **changes: Any) -> Path:
    """A tiny random torch model in `folder`; weights large enough that every trait shows in the logits."""
    torch.manual_seed(0)
    model = getattr(transformers, CASES[case][0])(hf_config(case, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def load(folder: Path) -> torch.nn.Module:
    """A folder as torch loads it, in float32."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def torch_logits(folder_or_model: Path | torch.nn.Module, tokens: np.ndarray) -> np.ndarray:
    """f32[B, T, V] for tokens i[B, T]."""
    model = load(folder_or_model) if isinstance(folder_or_model, Path) else folder_or_model
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.numpy()
