"""config.json of both generations of transformers, published models, and models made here: all read as torch does."""

import dataclasses
import json
from typing import Any

import pytest

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import DecoderConfig, Rope
from consistency_jax.models.families import FAMILIES
from consistency_jax.models.published import PUBLISHED, published_config

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch_models import CASES, hf_config  # noqa: E402

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


def as_transformers_4_writes(hf: dict[str, Any]) -> dict[str, Any]:
    """A config.json of today in the older form, as far as that can say the same."""
    if "text_config" in hf:
        return hf | {"text_config": as_transformers_4_writes(hf["text_config"])}
    old = {k: v for k, v in hf.items() if k not in ("rope_parameters", "_sliding_window_pattern")}
    rope = dict(hf["rope_parameters"])
    if "full_attention" in rope:
        old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = dict(rope["full_attention"])
    old["rope_theta"] = rope.pop("rope_theta")
    old["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    kinds = old.get("layer_types", [])
    pattern = kinds.index("full_attention") + 1 if "full_attention" in kinds else len(kinds) + 1
    in_turns = [
        "full_attention" if i % pattern == 0 else "sliding_attention" for i in range(1, len(kinds) + 1)
    ]
    first = kinds.index("sliding_attention") if "sliding_attention" in kinds else len(kinds)
    if hf["model_type"] in ("gemma3_text", "cohere2") and kinds == in_turns:
        old = {k: v for k, v in old.items() if k != "layer_types"} | {"sliding_window_pattern": pattern}
    if hf["model_type"].startswith("qwen") and "full_attention" not in kinds[first:]:
        old = {k: v for k, v in old.items() if k != "layer_types"} | {"max_window_layers": first}
    return old


@pytest.mark.parametrize("case", CASES)
def test_transformers_4_and_5_files_mean_the_same(case: str) -> None:
    config = hf_config(case)
    config.architectures = [CASES[case][0]]
    new = as_transformers_5_writes(config)
    old = as_transformers_4_writes(new)
    assert "rope_parameters" not in json.dumps(old)
    ours = read(new)
    assert read(as_transformers_5_writes(config, use_diff=True)) == ours
    assert read(old) == ours
    # transformers itself reads the older file so: it means what we read.
    assert read(as_transformers_reads(old)) == ours


def test_older_files_lose_their_newer_keys() -> None:
    """The conversion of the test above does say patterns and windows in the older way."""
    said = {case: as_transformers_4_writes(as_transformers_5_writes(hf_config(case))) for case in CASES}
    assert said["cohere 2, 3 heads"]["sliding_window_pattern"] == 4
    assert said["gemma 3 that sees, 3 heads"]["text_config"]["sliding_window_pattern"] == 2
    assert said["qwen 2, 9 heads, windows from layer 1 on, linear rope, untied"]["max_window_layers"] == 1
    assert [case for case, old in said.items() if "layer_types" in old] == [
        "qwen 3, 9 heads, biases, a window in the middle, llama3 rope, untied",
        "gemma 2, 3 heads, soft caps",
        "gemma 2, 9 heads, uncapped, linear rope, biases, untied",
    ]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_absent_keys_mean_transformers_defaults(architecture: str) -> None:
    model = getattr(transformers, architecture)
    full = as_transformers_5_writes(model.config_class())
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    bare = {"text_config": {}} if architecture == MULTIMODAL else {name: full[name] for name in sizes}
    assert FAMILIES[architecture].from_hf(bare) == FAMILIES[architecture].from_hf(full)


# ------------------------------------------------------------------------------------------------ published models

PARAMETERS = {
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "google/gemma-2-9b": 9_241_705_984,
    "google/gemma-3-270m": 268_098_176,
    "google/gemma-3-1b-pt": 999_885_952,
    "google/gemma-3-4b-pt": 3_880_263_168,
    "google/gemma-3-12b-pt": 11_766_034_176,
    "CohereLabs/aya-expanse-8b": 8_028_033_024,
}


@pytest.mark.parametrize("hub_id", PUBLISHED)
def test_published_models_are_read_and_counted_as_torch_does(hub_id: str) -> None:
    hf, config = PUBLISHED[hub_id], published_config(hub_id)
    assert read(as_transformers_reads(hf)) == config
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**hf))
    text = model.model.language_model if hf["architectures"] == [MULTIMODAL] else model
    assert type(model).__name__ == hf["architectures"][0]
    assert sum(p.numel() for p in text.parameters()) == config.num_params == PARAMETERS[hub_id]


def test_traits_of_published_models() -> None:
    eight_b = published_config("meta-llama/Llama-3.1-8B")
    assert (eight_b.heads, eight_b.kv_heads, eight_b.head_dim, eight_b.tied) == (32, 8, 128, False)
    assert eight_b.rope == Rope(500_000.0, "llama3", 8.0, 1.0, 4.0, 8192)
    three_b = published_config("meta-llama/Llama-3.2-3B")
    assert (three_b.tied, three_b.rope.factor, three_b.norm_eps) == (True, 32.0, 1e-5)

    for size, eps in (("0.5B", 1e-6), ("7B", 1e-6), ("14B", 1e-5)):
        qwen = published_config(f"Qwen/Qwen2.5-{size}")
        assert (qwen.qkv_bias, qwen.out_bias, qwen.qk_norm) == (True, False, False)
        assert (qwen.rope, qwen.sliding, qwen.window) == (Rope(1e6), (), None)
        assert (qwen.norm_eps, qwen.tied) == (eps, size == "0.5B")
    for size in ("0.6B", "8B", "14B"):
        qwen = published_config(f"Qwen/Qwen3-{size}")
        assert (qwen.qkv_bias, qwen.qk_norm, qwen.qk_norm_per_head, qwen.head_dim) == (
            False,
            True,
            False,
            128,
        )
        assert (qwen.rope, qwen.sliding, qwen.tied) == (Rope(1e6), (), size == "0.6B")

    gemma2 = published_config("google/gemma-2-9b")
    assert (gemma2.attention_cap, gemma2.final_cap, gemma2.query_scale) == (50.0, 30.0, 1 / 16)
    assert (gemma2.sliding[:3], gemma2.window, gemma2.sliding_rope) == ((True, False, True), 4096, None)
    for size, window, scaled in (
        ("270m", 512, 1.0),
        ("1b-pt", 512, 1.0),
        ("4b-pt", 1024, 8.0),
        ("12b-pt", 1024, 8.0),
    ):
        gemma = published_config(f"google/gemma-3-{size}")
        assert (gemma.norm_offset, gemma.post_norm, gemma.qk_norm, gemma.tied) == (True,) * 4
        assert (gemma.head_dim, gemma.query_scale, gemma.embedding_scale) == (256, 1 / 16, gemma.hidden**0.5)
        assert (gemma.window, gemma.sliding_rope) == (window, Rope(1e4))
        assert gemma.sliding[:7] == (True,) * 5 + (False, True)
        assert gemma.rope == (Rope(1e6) if scaled == 1.0 else Rope(1e6, "linear", scaled))
        assert (gemma.activation, gemma.attention_cap, gemma.final_cap) == ("gelu_tanh", None, None)
    four_b = published_config("google/gemma-3-4b-pt")
    assert (four_b.vocab_size, four_b.heads, four_b.kv_heads) == (
        262_208,
        8,
        4,
    )  # none of which its file says

    aya = published_config("CohereLabs/aya-expanse-8b")
    assert (aya.norm, aya.parallel_block, aya.rope_style, aya.rope) == (
        "layer",
        True,
        "interleaved",
        Rope(1e4),
    )
    assert (aya.logit_scale, aya.tied, aya.qk_norm, aya.norm_eps) == (0.125, True, False, 1e-5)

    with pytest.raises(KeyError, match="known: meta-llama/Llama-3.1-8B, "):
        published_config("gpt2")


# ------------------------------------------------------------------------------------------------- models made here

SIZES = {"vocab_size": 89, "hidden": 27, "layers": 3, "heads": 3, "kv_heads": 1, "head_dim": 8, "mlp": 40}
WINDOWS = {"window": 8, "sliding": (True, True, False)}
GEMMA = {
    "norm_offset": True,
    "post_norm": True,
    "activation": "gelu_tanh",
    "embedding_scale": 27**0.5,
    **WINDOWS,
}
GEMMA3 = GEMMA | {"qk_norm": True, "rope": Rope(3000.0, "linear", 4.0), "sliding_rope": Rope(100.0)}
COHERE = {"norm": "layer", "parallel_block": True, "rope_style": "interleaved", "logit_scale": 0.5}
MADE = {
    "LlamaForCausalLM": {"rope": Rope(300.0, "llama3", 8.0, 1.0, 4.0, 64), "mlp_bias": True, "tied": False},
    "Qwen2ForCausalLM": {"qkv_bias": True, "window": 8, "sliding": (False, True, True)},
    "Qwen3ForCausalLM": {"qk_norm": True, "qkv_bias": True, "out_bias": True, **WINDOWS},
    "Gemma2ForCausalLM": GEMMA | {"attention_cap": 2.0, "final_cap": 3.0, "tied": False},
    "Gemma3ForCausalLM": GEMMA3,
    "CohereForCausalLM": COHERE | {"qk_norm": True, "qk_norm_per_head": True},
    "Cohere2ForCausalLM": COHERE | {"rope": Rope(None), "sliding_rope": Rope(100.0), **WINDOWS},
}


def made(**traits: Any) -> DecoderConfig:
    """A model that no file describes yet; where nothing is said, `query_scale` as Gemma's files say it."""
    return DecoderConfig(**({"query_scale": 8**-0.5} | SIZES | traits))


@pytest.mark.parametrize("architecture", MADE)
def test_a_config_written_here_says_the_same_to_us_and_to_transformers(architecture: str) -> None:
    for changes in ({}, {"window": None, "sliding": (), "sliding_rope": None}):
        config = made(**(MADE[architecture] | changes))
        written = json.loads(json.dumps(FAMILIES[architecture].to_hf(config)))
        for hf in (written, as_transformers_reads(written)):
            back = read(hf)
            assert dataclasses.replace(back, query_scale=config.query_scale).differences(config) == []
            assert back.query_scale in (None, 8**-0.5)


@pytest.mark.parametrize("said", [{"sliding": ()}, {"sliding": (False,) * 3}, {"sliding_rope": None}])
def test_one_model_said_in_several_ways_is_written_alike(said: dict) -> None:
    config = made(**(GEMMA3 | {"query_scale": 20**-0.5, "final_cap": 5.0} | said))
    family = FAMILIES["Gemma3ForCausalLM"]
    back = family.from_hf(family.to_hf(config))
    assert family.to_hf(back) == family.to_hf(config)
    assert (back.query_scale, back.final_cap) == (config.query_scale, config.final_cap)
    assert [back.kinds, back.rope] == [config.kinds, config.rope]


def test_a_model_that_sees_is_written_as_its_text_part_without_a_source() -> None:
    assert FAMILIES[MULTIMODAL].to_hf(made(**GEMMA3)) == FAMILIES["Gemma3ForCausalLM"].to_hf(made(**GEMMA3))


@pytest.mark.parametrize(
    ("architecture", "traits", "said"),
    [
        ("LlamaForCausalLM", {"qk_norm": True}, "qk_norm cannot be said in LlamaForCausalLM"),
        ("LlamaForCausalLM", WINDOWS, "window, sliding cannot"),
        ("Qwen2ForCausalLM", {"qkv_bias": False}, "qkv_bias cannot be said in Qwen2ForCausalLM"),
        ("Qwen2ForCausalLM", {"out_bias": True}, "out_bias cannot"),
        ("Qwen3ForCausalLM", {"qkv_bias": False}, "out_bias cannot be said in Qwen3ForCausalLM"),
        ("Gemma2ForCausalLM", {"qk_norm": True}, "qk_norm cannot be said in Gemma2ForCausalLM"),
        ("Gemma2ForCausalLM", {"sliding_rope": Rope(5.0)}, "sliding_rope cannot"),
        ("Gemma3ForCausalLM", {"qk_norm": False}, "qk_norm cannot be said in Gemma3ForCausalLM"),
        ("Gemma3ForCausalLM", {"embedding_scale": None}, "embedding_scale cannot"),
        ("Gemma3ForCausalLM", {"attention_cap": 2.0}, "attention_cap cannot"),
        ("Gemma3ForCausalLM", {"query_scale": 0.3}, "query_scale cannot"),
        ("CohereForCausalLM", {"qk_norm_per_head": False}, "qk_norm_per_head cannot"),
        ("CohereForCausalLM", {"norm": "rms"}, "norm cannot be said in CohereForCausalLM"),
        ("Cohere2ForCausalLM", {"rope": Rope(5.0)}, "rope cannot be said in Cohere2ForCausalLM"),
    ],
)
def test_traits_that_a_family_lacks_are_errors(architecture: str, traits: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FAMILIES[architecture].to_hf(made(**(MADE[architecture] | traits)))


GEMMA_CASE, QWEN_CASE = "gemma 3, 9 heads, linear rope", "qwen 2, 3 heads"
FLAT_ROPE = {"rope_type": "default", "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("case", "changes", "said"),
    [
        (GEMMA_CASE, {"layer_types": ["chunked_attention"] * 3}, "chunked_attention.*supported: full_at"),
        (GEMMA_CASE, {"layer_types": ["full_attention"]}, "sliding names 1 layers, the model has 3"),
        (GEMMA_CASE, {"layer_types": None, "sliding_window_pattern": 0}, "sliding_window_pattern = 0"),
        (GEMMA_CASE, {"sliding_window": None}, "need a window"),
        (GEMMA_CASE, {"use_bidirectional_attention": True}, "only causal"),
        (GEMMA_CASE, {"attn_logit_softcapping": 50.0}, "Gemma 3 has no attn_logit_softcapping"),
        (GEMMA_CASE, {"rope_parameters": FLAT_ROPE}, "must be given by layer type"),
        (GEMMA_CASE, {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope type 'yarn'"),
        (GEMMA_CASE, {"hidden_activation": "relu"}, "hidden_activation = 'relu'"),
        (GEMMA_CASE, {"num_attention_heads": None}, "no 'num_attention_heads'"),
        (QWEN_CASE, {"layer_types": ["sliding_attention"] * 3}, "need a window"),  # use_sliding_window is off
        (QWEN_CASE, {"rope_parameters": {"full_attention": FLAT_ROPE}}, "by layer type are not supported"),
        (QWEN_CASE, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("gemma 3 that sees, 3 heads", {"text_config": None}, "no 'text_config'"),
        ("gemma 3 that sees, 3 heads", {"tie_word_embeddings": False}, "tie_word_embeddings differs"),
    ],
)
def test_unsupported_settings_are_errors(case: str, changes: dict, said: str) -> None:
    config = hf_config(case)
    config.architectures = [CASES[case][0]]
    with pytest.raises(ValueError, match=said):
        read(as_transformers_5_writes(config) | changes)
