"""config.json of both generations of transformers, published models, and models made here: all read as torch does."""

import dataclasses
import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hf_configs import (
    GEMMA3,
    MADE,
    MULTIMODAL,
    TURNED,
    as_transformers_5_writes,
    as_transformers_reads,
    made,
    read,
)
from safetensors.numpy import load_file, save_file

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import LayerType
from consistency_jax.models.families import FAMILIES
from consistency_jax.models.huggingface import load_pretrained, save_pretrained

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch_models import CASES, VOCABULARY, hf_config, random_checkpoint, torch_logits  # noqa: E402


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
