"""Llama 2, 3, 3.1, 3.2 (text) and every checkpoint of that shape."""

from consistency_jax.models.families.family import Family

FAMILY = Family(
    "LlamaForCausalLM",
    "llama",
    defaults={"rms_norm_eps": 1e-6, "hidden_act": "silu", "max_position_embeddings": 2048, "mlp_bias": False},
    read=lambda hf: {"mlp_bias": bool(hf["mlp_bias"])},
    write=lambda config: {"mlp_bias": config.mlp_bias},
    ignored={"activation": "swiglu"},  # Falcon 3's files say so beside hidden_act
)
