"""Apertus: Llama's block without a gate, xIELU for activation, queries and keys normed head by head."""

from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.families.family import LAYER, Family, Weight, tensor_names


def names(config: DecoderConfig) -> dict[str, Weight]:
    """The usual names but for two norms."""
    norms = {"attention_norm": "attention_layernorm", "mlp_norm": "feedforward_layernorm"}
    own = {f"layers/{ours}/scale": Weight(f"{LAYER}{theirs}.weight") for ours, theirs in norms.items()}
    return tensor_names(config) | own


FAMILY = Family(
    "ApertusForCausalLM",
    "apertus",
    {
        "rms_norm_eps": 1e-5,
        "hidden_act": "xielu",
        "max_position_embeddings": 65_536,
        "rope_theta": 12_000_000.0,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 12_000_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
    lambda hf: {"gated": False, "qk_norm": "head"},
    lambda config: {},
    names=names,
    ignored={"post_norm": False, "qk_norm": True},  # what its own code was told
)
