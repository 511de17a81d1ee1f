"""The registry of model families, by Hugging Face architecture.

A family is data and a few pure functions, no modules: how its `config.json` becomes a `DecoderConfig`, and
which tensor of its checkpoint is which of our parameters. A new family is one file here and one line in
`FAMILIES`.
"""

from collections.abc import Mapping
from typing import Any

from consistency_jax.errors import ConfigError
from consistency_jax.models.families import apertus, cohere, gemma, llama, mistral, olmo, qwen, smollm
from consistency_jax.models.families.family import Family, Weight

__all__ = ["FAMILIES", "Family", "Weight", "find_family"]

FAMILIES: dict[str, Family] = {
    "ApertusForCausalLM": apertus.FAMILY,
    "Cohere2ForCausalLM": cohere.COHERE2,
    "CohereForCausalLM": cohere.COHERE,
    "Gemma2ForCausalLM": gemma.GEMMA2,
    "Gemma3ForCausalLM": gemma.GEMMA3,
    "Gemma3ForConditionalGeneration": gemma.GEMMA3_MULTIMODAL,
    "LlamaForCausalLM": llama.FAMILY,
    "MinistralForCausalLM": mistral.MINISTRAL,
    "MistralForCausalLM": mistral.MISTRAL,
    "Olmo2ForCausalLM": olmo.OLMO2,
    "Olmo3ForCausalLM": olmo.OLMO3,
    "Qwen2ForCausalLM": qwen.QWEN2,
    "Qwen3ForCausalLM": qwen.QWEN3,
    "SmolLM3ForCausalLM": smollm.FAMILY,
}


def find_family(hf_config: Mapping[str, Any]) -> tuple[str, Family]:
    """The architecture that a parsed config.json names, or its model_type where it names none, and its family.

    Raises: ConfigError, listing the supported ones.
    """
    named, kind = hf_config.get("architectures") or [], hf_config.get("model_type")
    if not isinstance(named, list | tuple):
        raise ConfigError(f"config.json: architectures is {named!r:.60}; it must be a list of names")
    named = named or [name for name, family in FAMILIES.items() if family.model_type == kind]
    for architecture in named:
        if isinstance(architecture, str) and architecture in FAMILIES:
            return architecture, FAMILIES[architecture]
    what = ", ".join(map(str, named)) or f"none named (model_type {kind!r})"
    raise ConfigError(f"unsupported architecture: {what}; supported: {', '.join(sorted(FAMILIES))}")
