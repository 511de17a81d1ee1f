"""config.json of both generations of transformers, published models, and models made here: all read as torch does."""

import dataclasses
import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import DecoderConfig, LayerType
from consistency_jax.models.families import FAMILIES
from consistency_jax.models.huggingface import load_pretrained, save_pretrained
from consistency_jax.models.published import PUBLISHED, published_config
from consistency_jax.models.rotary import Rope

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch_models import CASES, VOCABULARY, hf_config, random_checkpoint, torch_logits  # noqa: E402

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
        if hf["model_type"] == "gemma3_text":
            old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = dict(rope["full_attention"])
    old["rope_theta"] = rope.pop("rope_theta")
    old["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    kinds = old.get("layer_types") or []
    pattern = kinds.index("full_attention") + 1 if "full_attention" in kinds else len(kinds) + 1
    in_turns = [
        "full_attention" if i % pattern == 0 else "sliding_attention" for i in range(1, len(kinds) + 1)
    ]
    first = kinds.index("sliding_attention") if "sliding_attention" in kinds else len(kinds)
    if hf["model_type"] in ("gemma3_text", "cohere2") and kinds == in_turns:
        old = {k: v for k, v in old.items() if k != "layer_types"} | {"sliding_window_pattern": pattern}
    if hf["model_type"].startswith("qwen") and "full_attention" not in kinds[first:]:
        old = {k: v for k, v in old.items() if k != "layer_types"} | {"max_window_layers": first}
    if hf["model_type"] == "smollm3" and "sliding_attention" not in kinds:
        del old["layer_types"]
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
    assert said["gemma 3 multimodal, 3 heads"]["text_config"]["sliding_window_pattern"] == 2
    assert said["qwen 2, 9 heads, windows from layer 1 on, linear rope, untied"]["max_window_layers"] == 1
    assert [case for case, old in said.items() if "layer_types" in old] == [
        "qwen 3, 9 heads, biases, a window in the middle, llama3 rope, untied",
        "gemma 2, 3 heads, soft caps",
        "gemma 2, 9 heads, uncapped, linear rope, biases, untied",
        "ministral, 3 wide heads, a window in the middle",
        "ministral, 9 heads, windows, yarn, untied",
        "olmo 3, 3 heads, windows",
        "olmo 3, 9 heads, yarn in global layers, biases, untied",
        "smollm 3, 9 heads, windows where nothing turns, biases, untied",
    ]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_absent_keys_mean_transformers_defaults(architecture: str) -> None:
    model = getattr(transformers, architecture)
    full = as_transformers_5_writes(model.config_class())
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    bare = {"text_config": {}} if architecture == MULTIMODAL else {name: full[name] for name in sizes}
    assert FAMILIES[architecture].from_hf(bare) == FAMILIES[architecture].from_hf(full)


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
    assert FAMILIES["LlamaForCausalLM"].from_hf(llama | {"max_window_layers": 2}) == plain
    for key, absent, present in (
        ("sliding_window", None, 4096),
        ("use_qk_norm", False, True),
        ("final_logit_softcapping", None, 30.0),
        ("clip_qkv", None, 8.0),
    ):
        assert FAMILIES["LlamaForCausalLM"].from_hf(llama | {key: absent}) == plain
        with pytest.raises(ConfigError, match=f"{key} = {present}"):
            FAMILIES["LlamaForCausalLM"].from_hf(llama | {key: present})


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
    assert eight_b.ropes == (Rope(500_000.0, "llama3", 8.0, 1.0, 4.0, 8192),)
    three_b = published_config("meta-llama/Llama-3.2-3B")
    assert (three_b.tied, three_b.ropes[0].factor, three_b.norm_eps) == (True, 32.0, 1e-5)

    for size, eps in (("0.5B", 1e-6), ("7B", 1e-6), ("14B", 1e-5)):
        qwen = published_config(f"Qwen/Qwen2.5-{size}")
        assert (qwen.qkv_bias, qwen.out_bias, qwen.qk_norm) == (True, False, "none")
        assert qwen.layer_types == (LayerType(rope=Rope(1e6)),)
        assert (qwen.norm_eps, qwen.tied) == (eps, size == "0.5B")
    for size in ("0.6B", "8B", "14B"):
        qwen = published_config(f"Qwen/Qwen3-{size}")
        assert (qwen.qkv_bias, qwen.qk_norm, qwen.head_dim) == (False, "head", 128)
        assert (qwen.layer_types, qwen.tied) == ((LayerType(rope=Rope(1e6)),), size == "0.6B")

    gemma2 = published_config("google/gemma-2-9b")
    assert (gemma2.attention_cap, gemma2.final_cap, gemma2.head_dim**-0.5) == (50.0, 30.0, 1 / 16)
    assert gemma2.query_scale is None  # as usual
    assert gemma2.layer_types == (LayerType(4096), LayerType()) * 21
    for size, window, scaled in (
        ("270m", 512, 1.0),
        ("1b-pt", 512, 1.0),
        ("4b-pt", 1024, 8.0),
        ("12b-pt", 1024, 8.0),
    ):
        gemma = published_config(f"google/gemma-3-{size}")
        assert (gemma.norm_offset, gemma.norm_sites, gemma.qk_norm, gemma.tied) == (
            True,
            "both",
            "head",
            True,
        )
        assert (gemma.head_dim, gemma.query_scale, gemma.embedding_scale) == (256, None, gemma.hidden**0.5)
        local = LayerType(window, Rope(1e4))
        whole = LayerType(None, Rope(1e6) if scaled == 1.0 else Rope(1e6, "linear", scaled))
        assert gemma.layer_types[:7] == (local,) * 5 + (whole, local)
        assert (gemma.activation, gemma.attention_cap, gemma.final_cap) == ("gelu_tanh", None, None)
    four_b = published_config("google/gemma-3-4b-pt")
    assert (four_b.vocab_size, four_b.heads, four_b.kv_heads) == (
        262_208,
        8,
        4,
    )  # none of which its file says

    aya = published_config("CohereLabs/aya-expanse-8b")
    assert (aya.norm, aya.parallel_block, aya.rope_style) == ("layer", True, "interleaved")
    assert aya.layer_types == (LayerType(rope=Rope(1e4)),)
    assert (aya.logit_scale, aya.tied, aya.qk_norm, aya.norm_eps) == (0.125, True, "none", 1e-5)

    with pytest.raises(KeyError, match="known: meta-llama/Llama-3.1-8B, "):
        published_config("gpt2")


# ------------------------------------------------------------------------------------------------- models made here

SIZES = {"vocab_size": 89, "hidden": 27, "layers": 3, "heads": 3, "kv_heads": 1, "head_dim": 8, "mlp": 40}
LOCAL = LayerType(8)
WINDOWS = {"layer_types": (LOCAL, LOCAL, LayerType())}
GEMMA = {
    "norm_offset": True,
    "norm_sites": "both",
    "activation": "gelu_tanh",
    "embedding_scale": 27**0.5,
    **WINDOWS,
}
TURNED, STILL = LayerType(8, Rope(100.0)), LayerType(rope=None)
YARN = Rope(3000.0, "yarn", 4.0, original_length=64, beta_fast=16.0, beta_slow=2.0, attention_factor=1.25)
BASES = {"layer_types": (TURNED, LayerType(rope=Rope(3000.0, "linear", 4.0)), TURNED)}
GEMMA3 = GEMMA | BASES | {"qk_norm": "head"}
COHERE = {"norm": "layer", "parallel_block": True, "rope_style": "interleaved", "logit_scale": 0.5}
OLMO = {"norm_sites": "behind", "qk_norm": "width", "qkv_bias": True, "out_bias": True, "tied": False}
MADE = {
    "ApertusForCausalLM": {"gated": False, "activation": "xielu", "qk_norm": "head"},
    "LlamaForCausalLM": {
        "layer_types": (LayerType(rope=Rope(300.0, "llama3", 8.0, 1.0, 4.0, 64)),),
        "mlp_bias": True,
        "tied": False,
    },
    "MistralForCausalLM": {"layer_types": (TURNED,)},
    "MinistralForCausalLM": {"layer_types": (TURNED, LayerType(rope=Rope(100.0)), TURNED)},
    "Olmo2ForCausalLM": OLMO | {"layer_types": (LayerType(rope=YARN),)},
    "Olmo3ForCausalLM": OLMO | {"layer_types": (TURNED, LayerType(rope=YARN), TURNED)},
    "Qwen2ForCausalLM": {"qkv_bias": True, "layer_types": (LayerType(), LOCAL, LOCAL)},
    "Qwen3ForCausalLM": {"qk_norm": "head", "qkv_bias": True, "out_bias": True, **WINDOWS},
    "Gemma2ForCausalLM": GEMMA | {"attention_cap": 2.0, "final_cap": 3.0, "tied": False},
    "Gemma3ForCausalLM": GEMMA3,
    "CohereForCausalLM": COHERE | {"qk_norm": "own_scales"},
    "Cohere2ForCausalLM": COHERE | {"layer_types": (TURNED, STILL, TURNED)},
    "SmolLM3ForCausalLM": {"layer_types": (STILL, LayerType(rope=Rope(100.0)), STILL), "mlp_bias": True},
}


def made(**traits: Any) -> DecoderConfig:
    """A model that no file describes yet."""
    return DecoderConfig(**(SIZES | traits))


@pytest.mark.parametrize("architecture", MADE)
def test_a_config_written_here_says_the_same_to_us_and_to_transformers(architecture: str) -> None:
    traits = MADE[architecture]
    for layer in traits.get("layer_types", (LayerType(),)):
        for changes in ({}, {"layer_types": (layer,)}):
            config = made(**(traits | changes))
            written = json.loads(json.dumps(FAMILIES[architecture].to_hf(config)))
            for hf in (written, as_transformers_reads(written)):
                assert read(hf).differences(config) == []


def test_one_model_said_in_several_ways_is_one() -> None:
    alike = made(layer_types=(TURNED,) * 3, query_scale=8**-0.5)
    assert alike == made(layer_types=(TURNED,))
    assert alike.each_layer == (TURNED,) * 3
    config = made(**(GEMMA3 | {"query_scale": 20**-0.5, "final_cap": 5.0, "layer_types": (TURNED,) * 3}))
    family = FAMILIES["Gemma3ForCausalLM"]
    assert family.from_hf(family.to_hf(config)).differences(config) == []


def test_a_multimodal_model_is_written_as_its_text_part_without_a_source() -> None:
    assert FAMILIES[MULTIMODAL].to_hf(made(**GEMMA3)) == FAMILIES["Gemma3ForCausalLM"].to_hf(made(**GEMMA3))


@pytest.mark.parametrize(
    ("architecture", "traits", "said"),
    [
        ("LlamaForCausalLM", {"qk_norm": "head"}, "qk_norm cannot be said in LlamaForCausalLM"),
        ("LlamaForCausalLM", WINDOWS, "layer_types cannot"),
        ("LlamaForCausalLM", {"gated": False}, "gated cannot"),
        ("MistralForCausalLM", WINDOWS, "layer_types cannot"),
        ("MistralForCausalLM", {"qkv_bias": True}, "qkv_bias cannot"),
        ("Olmo2ForCausalLM", {"norm_sites": "before"}, "norm_sites cannot"),
        ("Olmo3ForCausalLM", {"qk_norm": "head"}, "qk_norm cannot"),
        ("SmolLM3ForCausalLM", {"layer_types": (LayerType(None, YARN), LOCAL, STILL)}, "layer_types cannot"),
        ("ApertusForCausalLM", {"gated": True}, "gated cannot"),
        ("Qwen2ForCausalLM", {"qkv_bias": False}, "qkv_bias cannot be said in Qwen2ForCausalLM"),
        ("Qwen2ForCausalLM", {"out_bias": True}, "out_bias cannot"),
        ("Qwen3ForCausalLM", {"qkv_bias": False}, "out_bias cannot be said in Qwen3ForCausalLM"),
        ("Gemma2ForCausalLM", {"qk_norm": "head"}, "qk_norm cannot be said in Gemma2ForCausalLM"),
        ("Gemma2ForCausalLM", BASES, "layer_types cannot"),
        ("Gemma3ForCausalLM", {"qk_norm": "none"}, "qk_norm cannot be said in Gemma3ForCausalLM"),
        ("Gemma3ForCausalLM", {"embedding_scale": None}, "embedding_scale cannot"),
        ("Gemma3ForCausalLM", {"attention_cap": 2.0}, "attention_cap cannot"),
        ("Gemma3ForCausalLM", {"query_scale": 0.3}, "query_scale cannot"),
        ("CohereForCausalLM", {"qk_norm": "head"}, "qk_norm cannot"),
        ("CohereForCausalLM", {"norm": "rms"}, "norm cannot be said in CohereForCausalLM"),
        ("Cohere2ForCausalLM", {"layer_types": (TURNED, LayerType(), TURNED)}, "layer_types cannot"),
    ],
)
def test_traits_that_a_family_lacks_are_errors(architecture: str, traits: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FAMILIES[architecture].to_hf(made(**(MADE[architecture] | traits)))


GEMMA_CASE, QWEN_CASE = "gemma 3, 9 heads, linear rope", "qwen 2, 3 heads"
SMOLLM_CASE = "smollm 3, 3 heads, one of four layers still"
FLAT_ROPE = {"rope_type": "default", "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("case", "changes", "said"),
    [
        (GEMMA_CASE, {"layer_types": ["chunked_attention"] * 3}, "chunked_attention.*supported: full_at"),
        (GEMMA_CASE, {"layer_types": ["full_attention"]}, "layer_types names 1 layers, the model has 3"),
        (GEMMA_CASE, {"layer_types": None, "sliding_window_pattern": 0}, "sliding_window_pattern = 0"),
        (GEMMA_CASE, {"sliding_window": None}, "need a sliding_window"),
        (GEMMA_CASE, {"use_bidirectional_attention": True}, "use_bidirectional_attention = True: unknown"),
        (GEMMA_CASE, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0: unknown"),
        (GEMMA_CASE, {"rope_parameters": FLAT_ROPE}, "must be given by layer type"),
        (GEMMA_CASE, {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'"),
        (GEMMA_CASE, {"hidden_activation": "relu"}, "hidden_activation = 'relu'"),
        (GEMMA_CASE, {"num_attention_heads": None}, "no 'num_attention_heads'"),
        (
            QWEN_CASE,
            {"layer_types": ["sliding_attention"] * 3},
            "need a sliding_window",
        ),  # use_sliding_window is off
        (QWEN_CASE, {"rope_parameters": {"full_attention": FLAT_ROPE}}, "by layer type are not supported"),
        (QWEN_CASE, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (SMOLLM_CASE, {"no_rope_layers": [1]}, "no_rope_layers names 1 layers, the model has 4"),
        (SMOLLM_CASE, {"no_rope_layer_interval": 0}, "no_rope_layer_interval = 0; must be at least 1"),
        ("gemma 3 multimodal, 3 heads", {"text_config": None}, "no 'text_config'"),
        ("gemma 3 multimodal, 3 heads", {"tie_word_embeddings": False}, "tie_word_embeddings differs"),
    ],
)
def test_unsupported_settings_are_errors(case: str, changes: dict, said: str) -> None:
    config = hf_config(case)
    config.architectures = [CASES[case][0]]
    with pytest.raises(ValueError, match=said):
        read(as_transformers_5_writes(config) | changes)


# ---------------------------------------------------------------------------------------------------- a new family

# One module, as it would stand in models/families/: a Llama with keys and tensors of other names.
MODULE = """
import dataclasses

from consistency_jax.models.families.family import Family, tensor_names


def own(name):
    return name.replace("input_layernorm", "ln_1").replace("post_attention_layernorm", "ln_2")


FAMILY = Family(
    "ToyForCausalLM",
    "toy",
    defaults={"norm_epsilon": 1e-5, "act": "silu", "max_position_embeddings": 512},
    read=lambda hf: {"mlp_bias": bool(hf["biased"])},
    write=lambda config: {"biased": config.mlp_bias},
    eps="norm_epsilon",
    activation="act",
    names=lambda config: {
        path: dataclasses.replace(weight, name=own(weight.name)) for path, weight in tensor_names(config).items()
    },
)
"""


def test_a_family_is_one_module_and_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llama = random_checkpoint(tmp_path / "llama", "llama, 9 heads, llama3 rope, biases, untied")
    module = types.ModuleType("toy")
    exec(MODULE, module.__dict__)
    toy, keys = tmp_path / "toy", {"rms_norm_eps": "norm_epsilon", "hidden_act": "act", "mlp_bias": "biased"}
    toy.mkdir()
    hf = json.loads((llama / "config.json").read_text()) | {
        "architectures": ["ToyForCausalLM"],
        "model_type": "toy",
    }
    hf = {keys.get(key, key): value for key, value in hf.items()}
    (toy / "config.json").write_text(json.dumps(hf))
    tensors = {module.own(name): value for name, value in load_file(llama / "model.safetensors").items()}
    save_file(tensors, toy / "model.safetensors")
    with pytest.raises(ConfigError, match="unsupported architecture: ToyForCausalLM"):
        load_pretrained(toy)

    monkeypatch.setitem(FAMILIES, "ToyForCausalLM", module.FAMILY)  # the row
    model = load_pretrained(toy)
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (1, 100))
    reference = torch_logits(llama, tokens)
    # float32 in another order, as a part of the largest logit.
    np.testing.assert_allclose(model.apply(tokens), reference, atol=2e-5 * np.abs(reference).max(), rtol=0)

    save_pretrained(model, tmp_path / "copied")
    assert (tmp_path / "copied" / "config.json").read_bytes() == (toy / "config.json").read_bytes()
    written = load_file(tmp_path / "copied" / "model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(np.array_equal(written[name], tensor) for name, tensor in tensors.items())
    save_pretrained(dataclasses.replace(model, folder=None), tmp_path / "made")
    np.testing.assert_array_equal(load_pretrained(tmp_path / "made").apply(tokens), model.apply(tokens))
    with pytest.raises(ConfigError, match="horizon = 2: unknown here"):
        module.FAMILY.from_hf(hf | {"horizon": 2})
