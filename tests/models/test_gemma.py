"""Gemma 2 and 3 against torch transformers: every trait, both generations of config.json, and back bit for bit."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from consistency_jax.models.decoder import Decoder, DecoderConfig, Rope, init_params
from consistency_jax.models.families import FAMILIES, ConfigError
from consistency_jax.models.huggingface import Model, load_pretrained, save_pretrained

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = (
    1e-5  # of the largest logit; float32 sums in another order gave 1.4e-6, the port is asked for 2e-4
)
VOCABULARY = 89
SHARED = {
    "vocab_size": VOCABULARY,
    "num_key_value_heads": 1,
    "initializer_range": 0.2,
    "max_position_embeddings": 512,
    "sliding_window": 8,
}
LOCAL = {"rope_type": "default", "rope_theta": 100.0}
GEMMA3 = SHARED | {
    "hidden_size": 54,
    "intermediate_size": 70,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 10,
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"],
    "query_pre_attn_scalar": 7,
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 3000.0, "factor": 4.0},
        "sliding_attention": LOCAL,
    },
}
TRAITS = {
    "gemma 3, 9 heads 3:1, linear rope": ("Gemma3", GEMMA3),
    "gemma 3, 3 heads 3:1, pattern of 2, biases, capped, untied": (
        "Gemma3",
        SHARED
        | {
            "hidden_size": 45,
            "intermediate_size": 64,
            "num_attention_heads": 3,
            "head_dim": 16,
            "num_hidden_layers": 5,
            "sliding_window_pattern": 2,
            "query_pre_attn_scalar": 31,
            "attention_bias": True,
            "final_logit_softcapping": 5.0,
            "rms_norm_eps": 1e-2,
            "tie_word_embeddings": False,
        },
    ),
    "gemma 2, 3 heads 3:1, soft caps, windows in turns": (
        "Gemma2",
        SHARED
        | {
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_attention_heads": 3,
            "head_dim": 14,
            "num_hidden_layers": 3,
            "query_pre_attn_scalar": 20,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 6.0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 700.0},
        },
    ),
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No progress bars of transformers among the test output."""
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


def random_gemma(folder: Path, family: str, traits: dict, dtype: str = "float32") -> Path:
    """A tiny random torch model in `folder`; weights large enough that every trait shows in the logits."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}{'Text' if family == 'Gemma3' else ''}Config")(**traits)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def torch_logits(folder: Path, tokens: np.ndarray) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.numpy()


def some_tokens(length: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, VOCABULARY, (2, length))


def difference(ours: jax.Array, theirs: np.ndarray) -> float:
    """The largest difference, as a part of the largest logit."""
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize(("family", "traits"), TRAITS.values(), ids=TRAITS.keys())
def test_random_gemmas_give_torch_logits_and_come_back_bit_for_bit(
    tmp_path: Path, family: str, traits: dict
) -> None:
    folder = random_gemma(tmp_path / "torch", family, traits)
    model = load_pretrained(folder)
    reference = torch_logits(folder, some_tokens())
    assert np.abs(reference).max() > 1  # the comparison means something
    assert difference(model.apply(some_tokens()), reference) < TOLERANCE

    out = tmp_path / "ours"
    save_pretrained(model, out)
    before, after = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert (out / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    np.testing.assert_array_equal(torch_logits(out, some_tokens()), reference)


def test_the_quiet_traits_show_in_the_logits(tmp_path: Path) -> None:
    """A trait that changed nothing at these sizes would pass the comparison with torch unread."""
    wrong = {
        "gemma 3, 9 heads 3:1, linear rope": {
            "window": 9,
            "rope": Rope(theta=3000.0),
            "sliding_rope": None,
        },
        "gemma 2, 3 heads 3:1, soft caps, windows in turns": {"attention_cap": None},
    }
    for case, changes in wrong.items():
        model = load_pretrained(random_gemma(tmp_path / case, *TRAITS[case]))
        right = np.asarray(model.apply(some_tokens(24)))
        for name, value in changes.items():
            other = Model(dataclasses.replace(model.config, **{name: value}), model.params)
            assert difference(other.apply(some_tokens(24)), right) > 0.1, name


def as_written_by_transformers_4(config: dict) -> dict:
    """A Gemma 3 config.json in the older form, of a model whose every second layer is global."""
    config = {k: v for k, v in config.items() if k not in ("rope_parameters", "layer_types")}
    config.pop("_sliding_window_pattern", None)
    return config | {
        "rope_theta": 3000.0,
        "rope_local_base_freq": 100.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        "sliding_window_pattern": 2,
    }


def test_transformers_4_and_5_settings_mean_the_same(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention"] * 2
    new = random_gemma(tmp_path / "five", "Gemma3", GEMMA3 | {"layer_types": kinds})
    old = tmp_path / "four"
    shutil.copytree(new, old)
    written = json.loads((new / "config.json").read_text())
    (old / "config.json").write_text(json.dumps(as_written_by_transformers_4(written)))
    config = load_pretrained(new).config
    assert load_pretrained(old).config == config
    assert config.sliding == (True, False, True, False)
    assert config.rope == Rope(theta=3000.0, scaling="linear", factor=4.0)
    assert config.sliding_rope == Rope(theta=100.0)
    # torch's own reading of the two files agrees, so the older file means what we read.
    np.testing.assert_array_equal(torch_logits(old, some_tokens()), torch_logits(new, some_tokens()))


@pytest.mark.parametrize(
    ("architecture", "theirs"),
    [("Gemma2ForCausalLM", "Gemma2Config"), ("Gemma3ForCausalLM", "Gemma3TextConfig")],
)
def test_absent_keys_mean_transformers_defaults(architecture: str, theirs: str) -> None:
    full = json.loads(getattr(transformers, theirs)().to_json_string(use_diff=False))
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    bare = {name: full[name] for name in (*sizes, "num_key_value_heads")}
    from_hf = FAMILIES[architecture].from_hf
    assert from_hf(bare) == from_hf(full)


def test_the_embedding_scale_is_rounded_to_bfloat16_as_torch_rounds_it(tmp_path: Path) -> None:
    folder = random_gemma(tmp_path, "Gemma3", GEMMA3, "bfloat16")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    rows = theirs.model.embed_tokens(torch.tensor(some_tokens(12))).detach().float().numpy()
    model = load_pretrained(folder, "bfloat16")
    # 1 + w = 0 after both halves of a block: the layers add nothing. A final norm with w = 0 and an epsilon that
    # drowns the mean square only divides by its root, a power of two: what comes out is the scaled embedding.
    for name in ("attention_post_norm", "mlp_post_norm"):
        model.params["layers"][name]["scale"] = -jnp.ones_like(model.params["layers"][name]["scale"])
    model.params["final_norm"]["scale"] = jnp.zeros_like(model.params["final_norm"]["scale"])
    config = dataclasses.replace(model.config, norm_eps=2.0**40)
    tokens = jnp.asarray(some_tokens(12))
    positions = jnp.broadcast_to(jnp.arange(12), tokens.shape)
    ours = jax.jit(Decoder(config).apply)(
        {"params": model.params}, tokens, positions, jnp.ones_like(tokens), jnp.zeros_like(tokens)
    )
    np.testing.assert_array_equal(np.asarray(ours, np.float32) * 2.0**20, rows)


def made(**traits: object) -> DecoderConfig:
    """A Gemma 3 that no file describes yet."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden": 27,
        "layers": 3,
        "heads": 3,
        "kv_heads": 1,
        "head_dim": 8,
        "mlp": 40,
    }
    gemma = {
        "norm_offset": True,
        "post_norm": True,
        "qk_norm": True,
        "activation": "gelu_tanh",
        "embedding_scale": 27**0.5,
        "window": 8,
        "sliding": (True, True, False),
        "rope": Rope(theta=3000.0, scaling="linear", factor=4.0),
        "sliding_rope": Rope(theta=100.0),
    }
    return DecoderConfig(**(sizes | gemma | traits))


@pytest.mark.parametrize(
    ("architecture", "traits"),
    [
        ("Gemma3ForCausalLM", {}),
        ("Gemma2ForCausalLM", {"qk_norm": False, "attention_cap": 2.0, "sliding_rope": None, "tied": False}),
    ],
)
def test_a_gemma_made_here_loads_in_torch(tmp_path: Path, architecture: str, traits: dict) -> None:
    config = made(initializer_range=0.2, **traits)
    params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
    save_pretrained(Model(config, params, architecture=architecture), tmp_path)
    model = load_pretrained(tmp_path)
    assert difference(model.apply(some_tokens()), torch_logits(tmp_path, some_tokens())) < TOLERANCE
    assert (model.config.rope, model.config.sliding) == (config.rope, config.sliding)


@pytest.mark.parametrize("said", [{"sliding": ()}, {"sliding": (False,) * 3}, {"sliding_rope": None}])
def test_one_model_said_in_several_ways_is_written_alike(said: dict) -> None:
    config = made(query_scale=20**-0.5, final_cap=5.0, **said)
    family = FAMILIES["Gemma3ForCausalLM"]
    back = family.from_hf(family.to_hf(config))
    assert family.to_hf(back) == family.to_hf(config)
    assert (back.query_scale, back.final_cap) == (config.query_scale, config.final_cap)
    assert [back.kinds, back.rope] == [config.kinds, config.rope]


def test_traits_that_no_gemma_has_are_errors() -> None:
    for architecture, traits, said in (
        ("Gemma3ForCausalLM", {"qk_norm": False}, "qk_norm cannot be said in Gemma3ForCausalLM"),
        ("Gemma3ForCausalLM", {"embedding_scale": None}, "embedding_scale cannot"),
        ("Gemma3ForCausalLM", {"attention_cap": 2.0}, "attention_cap cannot"),
        ("Gemma3ForCausalLM", {"query_scale": 0.3}, "query_scale cannot"),
        ("Gemma2ForCausalLM", {}, "qk_norm, sliding_rope cannot be said in Gemma2ForCausalLM"),
    ):
        with pytest.raises(ConfigError, match=said):
            FAMILIES[architecture].to_hf(made(**traits))


def test_unsupported_settings_are_errors() -> None:
    good = json.loads(transformers.Gemma3TextConfig(**GEMMA3).to_json_string(use_diff=False))
    for changes, said in (
        (
            {"layer_types": ["sliding_attention", "chunked_attention"] * 2},
            "chunked_attention.*supported: full_at",
        ),
        ({"layer_types": ["full_attention"]}, "sliding names 1 layers, the model has 4"),
        ({"layer_types": None, "sliding_window_pattern": 0}, "sliding_window_pattern = 0"),
        ({"sliding_window": None}, "need a window"),
        ({"use_bidirectional_attention": True}, "only causal"),
        ({"attn_logit_softcapping": 50.0}, "Gemma 3 has no attn_logit_softcapping"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "must be given by layer type"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope type 'yarn'"),
        ({"hidden_activation": "relu"}, "hidden_activation = 'relu'"),
        ({"num_key_value_heads": None}, "no 'num_key_value_heads'"),
    ):
        with pytest.raises(ValueError, match=said):
            FAMILIES["Gemma3ForCausalLM"].from_hf(good | changes)
