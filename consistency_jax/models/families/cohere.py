"""Cohere: Command R, Aya Expanse (CohereForCausalLM), Command R7B (Cohere2ForCausalLM).

Attention and mlp read the same LayerNorm and are added together; positions turn neighbouring pairs; logits are
scaled. Command R+ also norms queries and keys, each head with a scale of its own. Cohere 2 has windows, and no
positions at all in its global layers.
"""

from typing import Any

from consistency_jax.models.families.family import (
    Family,
    except_every_nth,
    read_layers,
    read_rope,
    write_layers,
)
from consistency_jax.models.families.keys import Keys

DEFAULTS = {
    "layer_norm_eps": 1e-5,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "logit_scale": 0.0625,
    "tie_word_embeddings": True,
}
# What Cohere's own code is told, and transformers takes for granted.
IGNORED = {
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1.0,
    "use_embedding_sharing": True,
    "use_gated_activation": True,
    "use_parallel_block": True,
    "use_parallel_embedding": ...,  # how its tensor is dealt to devices
}


def read(hf: Keys) -> dict[str, Any]:
    """The traits that both generations read alike."""
    return {
        "norm": "layer",
        "parallel_block": True,
        "rope_style": "interleaved",
        "logit_scale": hf["logit_scale"],
    }


def read_cohere2(hf: Keys) -> dict[str, Any]:
    """With windows and positions in sliding layers only."""
    slides = except_every_nth(hf["sliding_window_pattern"])
    return {**read(hf), "layer_types": read_layers(hf, hf["sliding_window"], slides, (None, read_rope(hf)))}


COHERE = Family(
    "CohereForCausalLM",
    "cohere",
    {**DEFAULTS, "use_qk_norm": False, "rope_theta": 500_000.0},
    lambda hf: {**read(hf), "qk_norm": "own_scales" if hf["use_qk_norm"] else "none"},
    lambda config: {"logit_scale": config.logit_scale, "use_qk_norm": config.qk_norm == "own_scales"},
    eps="layer_norm_eps",
    ignored=IGNORED,
)
COHERE2 = Family(
    "Cohere2ForCausalLM",
    "cohere2",
    {**DEFAULTS, "sliding_window": 4096, "sliding_window_pattern": 4},
    read_cohere2,
    lambda config: {"logit_scale": config.logit_scale, **write_layers(config)},
    eps="layer_norm_eps",
    ignored=IGNORED
    | {"layer_switch": 4, "order_of_interleaved_layers": "local_attn_first", "_sliding_window_pattern": ...},
)
