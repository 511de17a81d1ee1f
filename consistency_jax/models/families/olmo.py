"""OLMo 2 and 3: norms behind attention and mlp alone, and queries and keys normed over the whole width of their heads.

OLMo 3 has windows, in three of four layers; its long-context rotary scaling (YaRN) is for global layers only.
"""

from typing import Any

from consistency_jax.models.families.family import (
    Family,
    except_every_nth,
    read_layers,
    read_ropes,
    write_layers,
    write_ropes,
)
from consistency_jax.models.families.keys import Keys

DEFAULTS = {"rms_norm_eps": 1e-5, "hidden_act": "silu", "max_position_embeddings": 2048}
NORMS = {"norm_sites": "behind", "qk_norm": "width"}


def read_olmo3(hf: Keys) -> dict[str, Any]:
    """With windows."""
    ropes = read_ropes(hf, hf["rope_theta"])
    return {**NORMS, "layer_types": read_layers(hf, hf["sliding_window"], except_every_nth(4), ropes)}


OLMO2 = Family("Olmo2ForCausalLM", "olmo2", DEFAULTS, lambda hf: NORMS, lambda config: {})
OLMO3 = Family(
    "Olmo3ForCausalLM",
    "olmo3",
    {**DEFAULTS, "sliding_window": 4096, "rope_theta": 500_000.0},
    read_olmo3,
    lambda config: {**write_layers(config), **write_ropes(config)},
)
