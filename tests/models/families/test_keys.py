"""Every key of a config.json is accounted for."""

import re
from typing import Any

import pytest
import transformers

from consistency_jax.errors import ConfigError
from consistency_jax.models.families import FAMILIES


def with_text(hf: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A config.json whose text model has other settings."""
    return hf | ({"text_config": hf["text_config"] | changes} if "text_config" in hf else changes)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_key_that_is_not_known_is_refused_by_name(architecture: str) -> None:
    """And nothing is that transformers writes: every key of its full config is accounted for."""
    family = FAMILIES[architecture]
    full = getattr(transformers, architecture).config_class().to_dict()
    known = family.from_hf(full)
    assert family.from_hf(with_text(full, use_cache=False, eos_token_id=[1, 2], clip_qkv=None)) == known
    rope = full.get("text_config", full)["rope_parameters"]
    within = (
        {"full_attention": rope["full_attention"] | {"factors": 1}}
        if "full_attention" in rope
        else {"factors": 1}
    )
    for changed, said in (
        (
            full | {"new_trait": 0.5, "other": False},
            "config.json: new_trait = 0.5, other = False: unknown here",
        ),
        (with_text(full, new_trait=0.5), "new_trait = 0.5: unknown here"),
        (with_text(full, clip_qkv=8.0), "clip_qkv = 8.0: unknown here"),
        (with_text(full, rope_parameters=rope | within), "rope_parameters: factors = 1: unknown here"),
        (full | {"quantization_config": {"quant_method": "fp8"}}, "quantised weights are not supported"),
    ):
        with pytest.raises(ConfigError, match=said):
            family.from_hf(changed)


def test_a_trait_that_a_family_lacks_passes_only_where_it_is_absent() -> None:
    llama = {"vocab_size": 9, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1}
    llama |= {"num_attention_heads": 1}
    plain = FAMILIES["LlamaForCausalLM"].from_hf(llama)
    said = {"max_window_layers": 2, "_attn_implementation": "eager", "_flash_attn_2_enabled": True}
    assert FAMILIES["LlamaForCausalLM"].from_hf(llama | said) == plain
    for key, absent, present in (
        ("sliding_window", None, 4096),
        ("use_qk_norm", False, True),
        ("final_logit_softcapping", None, 30.0),
        ("clip_qkv", None, 8.0),
    ):
        assert FAMILIES["LlamaForCausalLM"].from_hf(llama | {key: absent}) == plain
        with pytest.raises(ConfigError, match=f"{key} = {present}"):
            FAMILIES["LlamaForCausalLM"].from_hf(llama | {key: present})


@pytest.mark.parametrize(
    ("key", "value"),
    [("rms_norm_eps", 10**30), ("num_hidden_layers", 10**30), ("head_dim", 1e300), ("vocab_size", 2**31)],
)
def test_numbers_that_no_program_computes_with_are_refused(key, value) -> None:
    mistral = transformers.MistralConfig().to_dict()
    with pytest.raises(ConfigError, match=re.escape(f"{key} is {value!r:.20}")):
        FAMILIES["MistralForCausalLM"].from_hf(mistral | {key: value})


def test_a_window_wider_than_any_text_is_none() -> None:
    mistral = transformers.MistralConfig().to_dict()
    wide = FAMILIES["MistralForCausalLM"].from_hf(mistral | {"sliding_window": 2**31})
    assert max(wide.windows) == 2**31 - 1
