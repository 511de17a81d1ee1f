"""Real checkpoints against torch transformers, folders of every make in and out, and clear errors."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from consistency_jax.errors import CheckpointError, ConfigError, UserError
from consistency_jax.models.decoder import (
    DecoderConfig,
    LayerType,
    init_params,
)
from consistency_jax.models.families import FAMILIES
from consistency_jax.models.huggingface import Model, load_pretrained, save_pretrained
from consistency_jax.models.rotary import Rope
from consistency_jax.models.tokenizers import TokenizerError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch_models import VOCABULARY, random_checkpoint, torch_logits  # noqa: E402

LLAMA = "llama, 5 heads without grouping, wide heads, linear rope, gelu"
UNTIED = "llama, 9 heads, llama3 rope, biases, untied"
GEMMA = "gemma 3 multimodal, 3 heads"
CHECKPOINTS = ("hf_stories260K", "hf_babyllama105")
GREEDY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No progress bars of transformers among the test output."""
    transformers.utils.logging.disable_progress_bar()
    yield
    transformers.utils.logging.enable_progress_bar()


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_real_checkpoints_give_torch_logits(data_folder: Path, name: str) -> None:
    folder = data_folder / "checkpoints" / name
    model = load_pretrained(folder)
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (1, 500))
    ours = np.asarray(model.apply(tokens))
    assert ours.dtype == np.float32
    # The bound asked of the port; float32 sums in another order gave 2.4e-5.
    np.testing.assert_allclose(ours, torch_logits(folder, tokens), atol=1e-4, rtol=0)


def test_real_checkpoint_writes_its_story(data_folder: Path) -> None:
    model = load_pretrained(data_folder / "checkpoints" / "hf_stories260K")
    text = [model.tokenizer.bos_token_id]
    padded = np.zeros((1, 40), np.int32)  # one shape, one compilation; later columns are not seen
    while len(text) < 40:
        padded[0, : len(text)] = text
        text.append(int(model.apply(padded)[0, len(text) - 1].argmax()))
    assert model.tokenizer.decode(text, skip_special_tokens=True).startswith(GREEDY)


def test_bfloat16_goes_in_and_out_unchanged(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "torch", LLAMA, "bfloat16")
    model = load_pretrained(folder, dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {np.dtype(ml_dtypes.bfloat16)}
    save_pretrained(model, tmp_path / "same")
    assert (tmp_path / "same" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "same/model.safetensors")
    assert all(np.array_equal(before[n].view(np.uint16), after[n].view(np.uint16)) for n in before)

    save_pretrained(load_pretrained(folder, dtype="float32"), tmp_path / "wide")
    changed = json.loads((tmp_path / "wide" / "config.json").read_text())
    assert changed == json.loads((folder / "config.json").read_text()) | {"dtype": "float32"}
    tokens = np.random.default_rng(2).integers(0, VOCABULARY, (1, 50))
    # bfloat16 keeps 8 bits through 3 layers.
    np.testing.assert_allclose(
        np.asarray(model.apply(tokens)), torch_logits(tmp_path / "wide", tokens), atol=0.4, rtol=0
    )


def test_a_model_made_here_loads_in_torch(tmp_path: Path) -> None:
    layers = (LayerType(rope=Rope(theta=300.0)),)
    config = DecoderConfig(
        vocab_size=50, hidden=24, layers=2, heads=3, kv_heads=1, head_dim=10, mlp=36, layer_types=layers
    )
    model = Model(config, init_params(config, jax.random.key(0)))
    save_pretrained(model, tmp_path / "made")
    tokens = np.random.default_rng(3).integers(0, 50, (2, 20))
    # float32 in another order.
    np.testing.assert_allclose(
        np.asarray(model.apply(tokens)), torch_logits(tmp_path / "made", tokens), atol=1e-5, rtol=0
    )
    assert not load_pretrained(tmp_path / "made").config.differences(config)


def test_source_files_are_copied(data_folder: Path, tmp_path: Path) -> None:
    source = data_folder / "checkpoints" / "hf_stories260K"
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"of an older export")
    (tmp_path / "chat_template.jinja").write_text("of another model")
    (tmp_path / "notes.txt").write_text("mine")
    save_pretrained(load_pretrained(source), tmp_path)
    for name in ("config.json", "generation_config.json", "tokenizer.model"):
        assert (tmp_path / name).read_bytes() == (source / name).read_bytes()
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == ["model.safetensors"]
    assert not (tmp_path / "chat_template.jinja").exists()
    assert (tmp_path / "notes.txt").exists()


def renamed(folder: Path, beginnings: dict[str, str]) -> None:
    """Rewrites the weights with the beginnings of their names changed."""

    def new(name: str) -> str:
        old = next((old for old in beginnings if name.startswith(old)), "")
        return beginnings.get(old, "") + name.removeprefix(old)

    tensors = load_file(folder / "model.safetensors")
    save_file({new(name): tensor for name, tensor in tensors.items()}, folder / "model.safetensors")


def same_tensors(one: Path, other: Path) -> bool:
    """Whether both folders hold tensors of the same names, types and values."""
    before, after = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return before.keys() == after.keys() and all(
        before[n].dtype == after[n].dtype and before[n].tobytes() == after[n].tobytes() for n in before
    )


def equal_params(one: Model, other: Model) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one.params, other.params))


@pytest.mark.parametrize(
    ("case", "beginnings"),
    [
        (LLAMA, {"model.": "language_model.model."}),
        (UNTIED, {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."}),
        (UNTIED, {"model.": "model.language_model."}),
        (GEMMA, {"language_model.model.": "model.language_model.", "": "model."}),
    ],
)
def test_names_of_every_make_are_read_and_written_back(
    tmp_path: Path, case: str, beginnings: dict[str, str]
) -> None:
    usual = random_checkpoint(tmp_path / "usual", case)
    other = random_checkpoint(tmp_path / "other", case)
    renamed(other, beginnings)
    assert not same_tensors(usual, other)
    model = load_pretrained(other)
    assert equal_params(model, load_pretrained(usual))
    save_pretrained(model, tmp_path / "out")
    assert same_tensors(tmp_path / "out", other)


def test_names_of_two_makes_in_one_folder_are_an_error(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path, UNTIED)
    renamed(folder, {"model.layers.1.": "language_model.model.layers.1."})
    with pytest.raises(
        CheckpointError, match=r"no parameter takes: language_model\.model.*missing: model\.layers\.1"
    ):
        load_pretrained(folder)


def test_the_vision_tower_of_a_gemma_is_skipped_by_name_and_comes_along_on_export(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "torch", GEMMA, "bfloat16")
    (folder / "preprocessor_config.json").write_text("{}")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["torch_dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config))
    vision = [n for n in load_file(folder / "model.safetensors") if "language_model" not in n]
    assert {name.split(".")[0] for name in vision} == {"vision_tower", "multi_modal_projector"}

    save_pretrained(load_pretrained(folder, dtype="bfloat16"), tmp_path / "same")
    assert same_tensors(tmp_path / "same", folder)
    assert (tmp_path / "same" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert (tmp_path / "same" / "preprocessor_config.json").read_text() == "{}"

    model = load_pretrained(folder, dtype="float32")
    model.params["final_norm"]["scale"] += 1.0
    save_pretrained(model, tmp_path / "wide")
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "wide/model.safetensors")
    assert all(
        after[name].tobytes() == before[name].tobytes() for name in vision
    )  # as they were, in bfloat16
    norm = "language_model.model.norm.weight"
    np.testing.assert_array_equal(after[norm], before[norm].astype(np.float32) + 1)
    changed = json.loads((tmp_path / "wide" / "config.json").read_text())
    assert (changed.pop("dtype"), changed["text_config"].pop("torch_dtype")) == ("float32", "float32")
    assert changed["vision_config"] == config["vision_config"]

    # Other parts than these are nobody's: an error, as in a text-only model.
    edit(folder, audio_tower__weight=np.zeros(3, np.float32))
    with pytest.raises(CheckpointError, match=r"no parameter takes: audio_tower\.weight"):
        load_pretrained(folder)
    edit(folder, audio_tower__weight=None, language_model__model__norm__weight=None)
    with pytest.raises(CheckpointError, match=r"missing: language_model\.model\.norm\.weight"):
        load_pretrained(folder)


def test_a_multimodal_gemma_is_written_as_text_only_without_its_folder(tmp_path: Path) -> None:
    model = load_pretrained(random_checkpoint(tmp_path / "torch", GEMMA))
    tokens = np.random.default_rng(4).integers(0, VOCABULARY, (1, 40))
    reference = torch_logits(tmp_path / "torch", tokens)
    model.folder = None
    save_pretrained(model, tmp_path / "text")
    assert json.loads((tmp_path / "text/config.json").read_text())["architectures"] == ["Gemma3ForCausalLM"]
    assert equal_params(load_pretrained(tmp_path / "text"), model)
    np.testing.assert_allclose(
        torch_logits(tmp_path / "text", tokens), reference, atol=1e-5
    )  # two code paths


def edit(folder: Path, **changes: np.ndarray | None) -> None:
    """Rewrites the weights with tensors replaced, added or (None) dropped; "__" stands for "."."""
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return random_checkpoint(tmp_path / "broken", LLAMA)


def test_every_tensor_is_accounted_for(folder: Path) -> None:
    edit(
        folder,
        extra__weight=np.zeros(3, np.float32),
        model__norm__weight=None,
        model__layers__1__mlp__up_proj__weight=np.zeros((7, 50), np.float32),
        model__layers__0__self_attn__rotary_emb__inv_freq=np.zeros(4, np.float32),
        lm_head__weight=np.zeros((VOCABULARY, 50), np.float32),
    )
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(folder)
    said = str(caught.value)
    assert "no parameter takes: extra.weight;" in said
    assert "missing: model.norm.weight;" in said
    assert "model.layers.1.mlp.up_proj.weight is [7, 50], config.json says [70, 50]" in said
    assert "lm_head.weight differs from model.embed_tokens.weight" in said
    assert "inv_freq" not in said


def test_what_nobody_trains_has_its_only_value(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "torch", "apertus, 3 heads", "bfloat16")
    load_pretrained(folder)  # 0.5 and -1e-6, rounded to bfloat16
    edit(folder, model__layers__1__mlp__act_fn__beta=np.array(0.6, np.float32))
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.act_fn\.beta is not 0\.5"):
        load_pretrained(folder)


def test_a_tied_head_stored_twice_is_fine(folder: Path) -> None:
    edit(folder, lm_head__weight=load_file(folder / "model.safetensors")["model.embed_tokens.weight"])
    assert load_pretrained(folder).config.tied
    head = load_file(folder / "model.safetensors")["lm_head.weight"].copy()
    head[-1, -1] += 1
    edit(folder, lm_head__weight=head)
    with pytest.raises(CheckpointError, match=r"lm_head.weight differs from model.embed_tokens.weight"):
        load_pretrained(folder)


def test_a_tokenizer_that_does_not_fit_is_told_before_any_weight_is_read(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(small_model, tmp_path / "broken")
    (folder / "tokenizer.json").write_text("{")
    monkeypatch.setattr(
        "consistency_jax.models.huggingface._read", lambda *_: pytest.fail("a weight was read")
    )
    with pytest.raises(TokenizerError):
        load_pretrained(folder)


def test_weights_too_large_for_a_dtype_are_an_error(folder: Path) -> None:
    norm = load_file(folder / "model.safetensors")["model.norm.weight"].copy()
    norm[0] = 1e5
    edit(folder, model__norm__weight=norm)
    load_pretrained(folder)
    with pytest.raises(CheckpointError, match="model.norm.weight holds NaN or infinite values in float16"):
        load_pretrained(folder, dtype="float16")


def test_the_tokenizer_that_a_model_has_is_saved(small_model: Path, tmp_path: Path) -> None:
    model = load_pretrained(small_model)
    model.tokenizer.chat_template = "{{ messages[0].content }}!"
    save_pretrained(model, tmp_path / "chat")
    assert load_pretrained(tmp_path / "chat").tokenizer.chat_template == model.tokenizer.chat_template
    bare = shutil.copytree(small_model, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    other = load_pretrained(bare)
    assert other.tokenizer is None
    other.tokenizer = model.tokenizer
    save_pretrained(other, tmp_path / "given")
    assert load_pretrained(tmp_path / "given").tokenizer("a b").input_ids == model.tokenizer("a b").input_ids


def test_doubled_tensors_and_missing_shards_are_errors(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "a.safetensors")
    save_file({"model.norm.weight": tensors["model.norm.weight"]}, folder / "b.safetensors")
    index = folder / "model.safetensors.index.json"
    where = dict.fromkeys(tensors, "a.safetensors") | {"model.norm.weight": "b.safetensors"}
    index.write_text(json.dumps({"weight_map": where}))
    with pytest.raises(CheckpointError, match=r"stored twice: model\.norm\.weight"):
        load_pretrained(folder)
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of 2 shards: b\.safetensors"):
        load_pretrained(folder)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="not an index"):
        load_pretrained(folder)
    index.unlink()
    with pytest.raises(CheckpointError, match="neither model.safetensors nor"):
        load_pretrained(folder)


def test_a_source_that_lost_its_weights_is_an_error_on_export(folder: Path, tmp_path: Path) -> None:
    model = load_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="neither model.safetensors nor"):
        save_pretrained(model, tmp_path / "out")


def test_truncated_weights_are_an_error(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="model.safetensors is truncated"):
        load_pretrained(folder)


def test_unsupported_configs_are_errors(folder: Path) -> None:
    path = folder / "config.json"
    good = json.loads(path.read_text())

    def failing(**changes: object) -> str:
        path.write_text(json.dumps(good | changes))
        with pytest.raises(ConfigError) as caught:
            load_pretrained(folder)
        return str(caught.value)

    said = failing(architectures=["FalconForCausalLM"])
    assert said.startswith(f"{folder}: unsupported architecture: FalconForCausalLM; supported: Apertus")
    assert set(FAMILIES) < set(re.findall(r"\w+", said))
    assert "LlamaForCausalLM" in failing(architectures=None, model_type="falcon")
    assert "architectures is 'LlamaForCausalLM'; it must be a list" in failing(
        architectures="LlamaForCausalLM"
    )
    assert "rope type 'dynamic'" in failing(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4})
    assert "rope_parameters has no 'factor'" in failing(
        rope_parameters={"rope_type": "linear", "rope_theta": 1e4}
    )
    assert "hidden_act = 'relu'" in failing(hidden_act="relu")
    assert "intermediate_size is null; it must be a whole number" in failing(intermediate_size=None)
    assert "not a multiple" in failing(num_key_value_heads=4)
    path.write_text(json.dumps(good | {"architectures": []}))
    assert load_pretrained(folder).architecture == "LlamaForCausalLM"  # by its model_type


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1, "b": 2}}', "[" * 9999]
)
def test_an_index_that_names_no_shards_is_an_error(folder: Path, index: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match="is not an index of safetensors shards"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda tensor: np.where(np.arange(tensor.size).reshape(tensor.shape) == 5, np.nan, tensor),
            "holds NaN",
        ),
        (lambda tensor: tensor * np.float32(np.inf), "holds NaN or infinite"),
        (
            lambda tensor: tensor.astype(np.int8),
            "quantised, which is not supported: model.embed_tokens.weight",
        ),
    ],
)
def test_weights_that_are_no_finite_floats_are_an_error(folder: Path, change, said: str) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.embed_tokens.weight"] = change(tensors["model.embed_tokens.weight"])
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=said):
        load_pretrained(folder)


def test_a_tokenizer_of_more_tokens_than_the_embedding_has_rows_is_an_error(
    small_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(small_model, folder)
    tensors, config = (
        load_file(folder / "model.safetensors"),
        json.loads((folder / "config.json").read_text()),
    )
    tensors = {name: t[:300] if len(t) == config["vocab_size"] else t for name, t in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        TokenizerError, match=r"id 300, but the embedding has rows 0 to 299; is it another model's"
    ):
        load_pretrained(folder)


def test_a_special_token_without_a_row_is_fine_unless_it_stands_before_texts(
    small_model: Path, tmp_path: Path
) -> None:
    for name, more in (("image", {"extra_special_tokens": ["<image>"]}), ("begin", {"bos_token": "<begin>"})):
        folder = tmp_path / name
        shutil.copytree(small_model, folder)
        settings = folder / "tokenizer_config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | more))
    assert len(load_pretrained(tmp_path / "image").tokenizer) == 401
    with pytest.raises(TokenizerError, match="'<begin>' id 400, but the embedding has rows 0 to 399"):
        load_pretrained(tmp_path / "begin")


def test_missing_folders_and_wrong_arguments_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        load_pretrained(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="dtype 'int8'"):
        load_pretrained(tmp_path, dtype="int8")
    config = DecoderConfig(vocab_size=9, hidden=4, layers=1, heads=1, kv_heads=1, head_dim=4, mlp=4)
    model = Model(config, init_params(config, jax.random.key(0)))
    with pytest.raises(ValueError, match="must lie in 0..8"):
        model.apply(np.array([[9]]))
    with pytest.raises(ValueError, match=r"must be \[B, T\]"):
        model.apply(np.array([1]))
    model.config = DecoderConfig(
        vocab_size=9, hidden=4, layers=1, heads=1, kv_heads=1, head_dim=4, mlp=4, qk_norm="head"
    )
    with pytest.raises(ConfigError, match="qk_norm cannot be said"):
        save_pretrained(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("checkpoint", [LLAMA, GEMMA])
def test_the_vocabulary_is_what_the_embedding_has_rows_for(tmp_path: Path, checkpoint: str) -> None:
    folder = random_checkpoint(tmp_path / "resized", checkpoint)
    tokens = np.random.default_rng(5).integers(0, VOCABULARY, (1, 30))
    reference = torch_logits(folder, tokens)
    told = json.loads((folder / "config.json").read_text())
    told.get("text_config", told)["vocab_size"] = VOCABULARY - 8
    (folder / "config.json").write_text(json.dumps(told))
    model = load_pretrained(folder)
    assert model.config.vocab_size == VOCABULARY
    save_pretrained(model, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written.get("text_config", written)["vocab_size"] == VOCABULARY
    np.testing.assert_array_equal(torch_logits(tmp_path / "out", tokens), reference)


def test_a_model_changed_from_its_source_is_not_saved_under_its_config(folder: Path, tmp_path: Path) -> None:
    model = load_pretrained(folder)
    model.config = DecoderConfig(
        vocab_size=9, hidden=4, layers=1, heads=1, kv_heads=1, head_dim=4, mlp=4, norm_eps=1.0
    )
    with pytest.raises(CheckpointError, match="no longer what .*norm_eps"):
        save_pretrained(model, tmp_path / "out")


def test_saved_files_carry_the_format_that_torch_readers_ask_for(folder: Path, tmp_path: Path) -> None:
    save_pretrained(load_pretrained(folder), tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_model_says_what_it_is_in_one_line(small_model):
    told = repr(load_pretrained(small_model))
    assert told.startswith(
        "Model(LlamaForCausalLM: 0.0 M parameters, 2 layers of 32, 400 tokens, float32, tokenizer, "
    )
    assert "\n" not in told


def test_a_model_is_saved_on_a_disk(small_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="folder=gs://b/y is an address"):
        save_pretrained(load_pretrained(small_model), "gs://b/y")
    assert list(tmp_path.iterdir()) == []
