"""Configs of small models to prove, and the mark of what needs the TPU compiler."""

import importlib.util

import pytest

from consistency_jax.config.defaults import default

SMALL = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 640,
    "vocab_size": 3000,
}


LLAMA = SMALL | {"tie_word_embeddings": False}


GEMMA = SMALL | {
    "architectures": ["Gemma3ForCausalLM"],
    "num_hidden_layers": 3,
    "sliding_window": 64,
    "sliding_window_pattern": 3,
}


def small_config(architecture, **mesh):
    config = default()
    config.model.architecture = architecture
    config.model.dtype = config.model.compute_dtype = "bfloat16"
    config.model.remat = "full"
    config.pretrain.total_steps = 1  # the model is no folder
    config.batching["items"] = 16
    config.evaluation.tokens = 2048
    config.mesh.update(mesh)
    return config


needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: make aot"
)
