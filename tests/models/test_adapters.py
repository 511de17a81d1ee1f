"""A model's adapters: merged they are the sum, and `peft` reads their folder as we mean it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapted_models import CONFIG, LORA, TOKENS, adapted, flat, random_params

from consistency_jax.models.adapters import add_adapters, merge_adapters, save_adapter
from consistency_jax.models.decoder import LayerType
from consistency_jax.models.huggingface import Model, load_pretrained, save_pretrained
from consistency_jax.models.lora import PROJECTIONS

GEMMA = dataclasses.replace(
    CONFIG,
    qkv_bias=False,
    out_bias=False,
    norm_offset=True,
    norm_eps=1e-6,
    norm_sites="both",
    qk_norm="head",
    activation="gelu_tanh",
    embedding_scale=48**0.5,
    layer_types=(LayerType(16), LayerType()),
)
OLMO = dataclasses.replace(CONFIG, norm_sites="behind", qk_norm="width")
APERTUS = dataclasses.replace(CONFIG, gated=False, activation="xielu", qk_norm="head")


@pytest.fixture(scope="module")
def base() -> Model:
    config = dataclasses.replace(CONFIG, initializer_range=0.2)
    return Model(config, random_params(config))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_new_adapters_change_nothing_and_copy_nothing(base, dtype):
    config = dataclasses.replace(base.config, dtype=dtype, param_dtype=dtype)
    model = dataclasses.replace(
        base, config=config, params=jax.tree.map(lambda p: p.astype(dtype), base.params)
    )
    policy = add_adapters(model, LORA, seed=0)
    assert (policy.apply(TOKENS) == model.apply(TOKENS)).all()
    own = flat(policy.params)
    for name, leaf in flat(model.params).items():
        assert own.pop(name) is leaf
    assert set(own) == {f"{name}/{part}" for name in PROJECTIONS for part in ("lora_a", "lora_b")}
    assert {leaf.dtype for leaf in own.values()} == {jnp.dtype("float32")}
    a = own["layers/mlp/down/lora_a"]
    assert a.shape == (2, 80, 4)
    assert 0.9 / 80**0.5 < jnp.abs(a).max() <= 1 / 80**0.5  # uniform, as PEFT draws it
    assert (a[0] != a[1]).any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_kernels_are_the_sum_rounded_once(base, dtype):
    model = adapted(dataclasses.replace(base, params=jax.tree.map(lambda p: p.astype(dtype), base.params)))
    own, merged = flat(model.params), flat(merge_adapters(model).params)
    half = {"float32": 2.0**-21, "bfloat16": 2.0**-8}[dtype]  # half a unit, and some for float32's own sums
    for name in PROJECTIONS:
        w, a, b = (
            np.asarray(own[f"{name}/{part}"]).astype(np.float64) for part in ("kernel", "lora_a", "lora_b")
        )
        exact = w + 6.0 / 4 * a @ b
        assert (
            error := np.abs(np.asarray(merged.pop(f"{name}/kernel")).astype(np.float64) - exact)
        ).max() > 0
        assert (error <= half * np.abs(exact) + 1e-6).all()
        assert np.abs(exact - w).max() > 0.05
    for name, leaf in merged.items():
        assert own[name] is leaf


def test_an_adapted_model_is_not_exported_unmerged(base, tmp_path):
    save_pretrained(base, tmp_path / "base")
    model = adapted(load_pretrained(tmp_path / "base"))
    with pytest.raises(ValueError, match="no longer what .* says .lora."):
        save_pretrained(model, tmp_path / "out")
    save_pretrained(merge_adapters(model), tmp_path / "out")
    again, merged = flat(load_pretrained(tmp_path / "out").params), flat(merge_adapters(model).params)
    assert set(again) == set(merged)
    for name, leaf in merged.items():
        np.testing.assert_array_equal(again[name], leaf)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own
def test_peft_loads_the_adapter_of_a_multimodal_model(tmp_path):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    import torch_models

    base = torch_models.random_checkpoint(tmp_path / "base", "gemma 3 multimodal, 3 heads")
    ours = adapted(load_pretrained(base))
    save_adapter(ours, tmp_path / "adapter", base=str(base))
    theirs = peft.PeftModel.from_pretrained(torch_models.load(base), tmp_path / "adapter").eval()
    assert not any("vision" in name for name, _ in theirs.named_parameters() if "lora" in name)
    tokens = TOKENS % torch_models.VOCABULARY
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(ours.apply(tokens), expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's own
@pytest.mark.parametrize(
    ("architecture", "config", "targets"),
    [
        ("LlamaForCausalLM", CONFIG, "attention|mlp"),
        ("Gemma3ForCausalLM", GEMMA, "query|value|down"),
        ("Olmo2ForCausalLM", OLMO, "query|key|up"),
        ("ApertusForCausalLM", APERTUS, "attention|mlp"),
    ],
)
def test_peft_loads_the_adapter_onto_the_base(tmp_path, architecture, config, targets):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    config = dataclasses.replace(config, initializer_range=0.2, max_length=64)
    save_pretrained(Model(config, random_params(config), architecture=architecture), tmp_path / "base")
    ours = adapted(load_pretrained(tmp_path / "base"), dataclasses.replace(LORA, targets=targets))
    save_adapter(ours, tmp_path / "adapter", base=str(tmp_path / "base"))

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    with torch.no_grad():
        before = theirs(torch.tensor(TOKENS)).logits.numpy()
        theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
        after = theirs(torch.tensor(TOKENS)).logits.numpy()
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(ours.apply(TOKENS), after, rtol=2e-4, atol=2e-4 * np.abs(after).max())
    settings = peft.LoraConfig.from_pretrained(tmp_path / "adapter")
    assert settings.base_model_name_or_path == str(tmp_path / "base")
    assert (settings.r, settings.lora_alpha, settings.bias) == (4, 6, "none")
