"""GGUF files, written by llama.cpp's own package from random torch models: the logits are torch's, and strange files
are refused by name."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from consistency_jax.errors import CheckpointError, ConfigError
from consistency_jax.models.gguf import is_gguf, open_gguf, read_header
from consistency_jax.models.huggingface import load_pretrained, read_decoder, save_pretrained

gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")

from torch_models import (  # noqa: E402
    LLAMA3_ROPE,
    VOCABULARY,
    hf_config,
    random_checkpoint,
    torch_logits,
)

ARCH = gguf.MODEL_ARCH
# name -> (case of torch_models, what it changes, GGUF's architecture)
FILES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "llama 3.1's rope, biases, untied": (
        "llama, 9 heads, llama3 rope, biases, untied",
        {
            "head_dim": 32,
            "max_position_embeddings": 131_072,
            "rope_parameters": LLAMA3_ROPE
            | {"rope_theta": 5e5, "original_max_position_embeddings": 8192, "factor": 32.0},
        },
        ARCH.LLAMA,
    ),
    "llama, wide heads, linear rope": (
        "llama, 5 heads without grouping, wide heads, linear rope, gelu",
        {"hidden_act": "silu"},
        ARCH.LLAMA,
    ),
    "mistral without a window": (
        "mistral, 9 wide heads, no window, untied",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        ARCH.LLAMA,
    ),
    "qwen 2": ("qwen 2, 3 heads", {}, ARCH.QWEN2),
    "qwen 2, yarn, untied": (
        "qwen 2, 9 heads, windows from layer 1 on, linear rope, untied",
        {
            "use_sliding_window": False,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 5000.0,
                "factor": 8.0,
                "original_max_position_embeddings": 1024,
            },
        },
        ARCH.QWEN2,
    ),
    "qwen 3": ("qwen 3, 3 wide heads", {}, ARCH.QWEN3),
    "gemma 2": ("gemma 2, 3 heads, soft caps", {"query_pre_attn_scalar": 14}, ARCH.GEMMA2),
    "gemma 3, linear rope": (
        "gemma 3, 9 heads, linear rope",
        {
            "query_pre_attn_scalar": 14,
            "num_hidden_layers": 7,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 3000.0, "factor": 4.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
        ARCH.GEMMA3,
    ),
    "cohere, norms of heads": ("cohere, 3 heads with norms of their own", {}, ARCH.COMMAND_R),
    "cohere 2": ("cohere 2, 3 heads", {}, ARCH.COHERE2),
}
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (2, 80))


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head in the order x0 y0 x1 y1 ..., where x is the first half and y the second."""
    size = len(rows) // heads
    order = np.arange(size).reshape(2, -1).T.reshape(-1)
    return np.concatenate([rows[h * size :][order] for h in range(heads)])


def write(folder: Path, path: Path, arch: Any, quantise: Any = None, **changes: Any) -> Path:
    """The folder's model as a GGUF file.

    Args:
      quantise: type of the matrices whose rows it can hold.
      changes: keys of the metadata to set otherwise; None leaves one out.
    """
    hf, name = json.loads((folder / "config.json").read_text()), gguf.MODEL_ARCH_NAMES[arch]
    heads, kv_heads = hf["num_attention_heads"], hf["num_key_value_heads"]
    head_dim = hf.get("head_dim") or hf["hidden_size"] // heads
    ropes = hf["rope_parameters"]
    rope = ropes.get("full_attention", ropes)
    writer = gguf.GGUFWriter(path, name)
    keys = {
        "block_count": hf["num_hidden_layers"],
        "context_length": hf["max_position_embeddings"],
        "embedding_length": hf["hidden_size"],
        "feed_forward_length": hf["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.freq_base": float(rope["rope_theta"]),
        "attention.layer_norm_rms_epsilon": hf.get("rms_norm_eps"),
        "attention.layer_norm_epsilon": hf.get("layer_norm_eps"),
        "logit_scale": hf.get("logit_scale"),
        "attn_logit_softcapping": hf.get("attn_logit_softcapping"),
        "final_logit_softcapping": hf.get("final_logit_softcapping"),
        "attention.sliding_window": hf.get("sliding_window")
        if arch in (ARCH.GEMMA2, ARCH.GEMMA3, ARCH.COHERE2)
        else None,
    }
    if rope["rope_type"] in ("linear", "yarn"):
        keys |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": float(rope["factor"])}
    if rope["rope_type"] == "yarn":
        keys["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    for key, value in (keys | changes).items():
        if value is not None:
            kind = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}[type(value)]
            getattr(writer, f"add_{kind}")(f"{name}.{key}", value)
    names = gguf.get_tensor_name_map(arch, hf["num_hidden_layers"])
    for stored, tensor in load_file(folder / "model.safetensors").items():
        own = names.get_name(stored, try_suffixes=(".weight", ".bias"))
        if arch == ARCH.LLAMA and ".q_proj." in stored:
            tensor = interleaved(tensor, heads)
        if arch == ARCH.LLAMA and ".k_proj." in stored:
            tensor = interleaved(tensor, kv_heads)
        if arch in (ARCH.GEMMA2, ARCH.GEMMA3) and stored.endswith("norm.weight"):
            tensor = tensor + 1
        if quantise is not None and tensor.ndim == 2:
            writer.add_tensor(own, gguf.quantize(tensor, quantise), raw_dtype=quantise)
        else:
            writer.add_tensor(own, np.ascontiguousarray(tensor))
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, head_dim))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def llama3_factors(rope: dict[str, Any], head_dim: int) -> np.ndarray:
    """What transformers divides Llama 3's frequencies by."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = hf_config("llama, 9 heads, llama3 rope, biases, untied", head_dim=head_dim, rope_parameters=rope)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1.0 / rope["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
    return (plain / scaled.numpy()).astype(np.float32)


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_logits_of_the_folder_that_it_was_made_from(tmp_path: Path, name: str) -> None:
    case, changes, arch = FILES[name]
    folder = random_checkpoint(tmp_path / "folder", case, **changes)
    model = load_pretrained(write(folder, tmp_path / "model.gguf", arch))
    expected = torch_logits(folder, TOKENS)
    near = 3e-5 * np.abs(expected).max()
    np.testing.assert_allclose(model.apply(TOKENS), expected, atol=near)
    save_pretrained(model, tmp_path / "out")
    np.testing.assert_allclose(torch_logits(tmp_path / "out", TOKENS), expected, atol=near)
    assert load_pretrained(tmp_path / "out").config.differences(model.config) == []


# ------------------------------------------------------------------------------------------------------ quantisation
WIDE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen 2 whose matrices have rows of whole blocks."""
    return random_checkpoint(tmp_path_factory.mktemp("qwen"), "qwen 2, 3 heads", **WIDE)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantise", [None, "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_tensors_are_dequantised_into_the_dtype_asked_for(
    folder: Path, tmp_path: Path, quantise: str | None, dtype: str
) -> None:
    kind = quantise and getattr(gguf.GGMLQuantizationType, quantise)
    path = write(folder, tmp_path / "model.gguf", ARCH.QWEN2, kind)
    params = load_pretrained(path, dtype).params
    for layer, name in enumerate(f"model.layers.{n}.mlp.up_proj.weight" for n in range(3)):
        stored = load_file(folder / "model.safetensors")[name]
        if kind is not None:
            stored = gguf.dequantize(gguf.quantize(stored, kind), kind)
        expected = torch.tensor(stored.T).to(getattr(torch, dtype)).float().numpy()
        np.testing.assert_array_equal(params["layers"]["mlp"]["up"]["kernel"][layer], expected)


def test_a_part_of_a_tensor_is_that_part_of_the_whole(folder: Path, tmp_path: Path) -> None:
    llama = random_checkpoint(
        tmp_path / "llama", FILES["llama, wide heads, linear rope"][0], hidden_act="silu"
    )
    for source, arch in ((folder, ARCH.QWEN2), (llama, ARCH.LLAMA)):
        file = open_gguf(write(source, tmp_path / f"{arch}.gguf", arch))
        for name, stored in load_file(source / "model.safetensors").items():
            assert file.shape(name) == stored.shape
            np.testing.assert_array_equal(file.read(name), stored)
            part = (slice(3, 7), slice(None, 5))[: stored.ndim]
            np.testing.assert_array_equal(file.read(name, part), stored[part])


def test_a_header_is_what_the_packages_reader_says(folder: Path, tmp_path: Path) -> None:
    odd = {"a.list": [1, 2, 3], "b.texts": ["\u00e9", ""], "c.truth": True, "d.number": 0.5}
    path = write(folder, tmp_path / "model.gguf", ARCH.QWEN2, gguf.GGMLQuantizationType.Q8_0, **odd)
    metadata, tensors = read_header(path)
    reader = gguf.GGUFReader(path)
    fields = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    assert metadata == fields
    assert [*tensors] == [tensor.name for tensor in reader.tensors]
    for theirs in reader.tensors:
        ours = tensors[theirs.name]
        assert (ours.shape, ours.kind) == (tuple(theirs.shape[::-1]), theirs.tensor_type.name)
        assert ours.rows.tobytes() == theirs.data.tobytes()


# ------------------------------------------------------------------------------------------------------ what is refused
def assert_refused(path: Path, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        load_pretrained(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_wherever_it_ends(folder: Path, tmp_path: Path) -> None:
    whole = write(folder, tmp_path / "whole.gguf", ARCH.QWEN2).read_bytes()
    for size in (0, 3, 10, 100, 300, 1000, 2000, 4000, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"{size}.gguf"
        path.write_bytes(whole[:size])
        assert_refused(path, CheckpointError, "is truncated or no GGUF file")


@pytest.mark.parametrize("place", range(4, 400, 7))
def test_a_damaged_header_is_one_clear_error_or_still_fits(folder: Path, tmp_path: Path, place: int) -> None:
    whole = bytearray(write(folder, tmp_path / "whole.gguf", ARCH.QWEN2).read_bytes())
    whole[place] ^= 0xFF
    path = tmp_path / "damaged.gguf"
    path.write_bytes(whole)
    said = str(path)
    try:
        load_pretrained(path)  # a byte of a name or a number that nothing reads may change
    except (CheckpointError, ConfigError) as error:
        said = str(error)
    assert str(path) in said


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04" + bytes(5000))
    assert_refused(path, CheckpointError, "is truncated or no GGUF file")
    other = tmp_path / "model.bin"
    other.write_bytes(bytes(5000))
    assert_refused(other, CheckpointError, "is a file, and no GGUF")
    assert not is_gguf(tmp_path)


def test_a_folder_of_gguf_files_names_the_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    path = write(folder, tmp_path / "model.gguf", ARCH.QWEN2)
    with pytest.raises(CheckpointError, match=f"give the file itself: {path}"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expert_count": 8}, "expert_count = 8: unknown here"),
        ({"attention.clamp_kqv": 6.0}, "attention.clamp_kqv = 6.0: unknown here"),
        ({"attention.value_length": 8}, "attention.value_length = 8, where heads have 16 dimensions"),
        ({"rope.dimension_count": 8}, "rope.dimension_count = 8, where heads have 16 dimensions"),
        ({"rope.scaling.type": "longrope"}, "rope scaling 'longrope' is not supported"),
        ({"attention.head_count_kv": [1, 2, 1]}, "layers of different sizes are not supported"),
        ({"block_count": None}, "has no 'block_count'"),
        ({"attention.layer_norm_rms_epsilon": "x"}, "rms_norm_eps is 'x'; it must be a number"),
        ({"attention.layer_norm_rms_epsilon": [1e-5]}, r"rms_norm_eps is \[.*; it must be a number"),
        ({"rope.freq_base": [1e4]}, r"rope_theta is \[.*; it must be a number"),
    ],
)
def test_a_trait_that_is_not_known_is_refused_by_name(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert_refused(write(folder, tmp_path / "model.gguf", ARCH.QWEN2, **changes), ConfigError, message)


@pytest.mark.parametrize("name", ["gemma 3, linear rope", "cohere 2"])
def test_metadata_of_any_kind_are_one_clear_error_or_fit(tmp_path: Path, name: str) -> None:
    checkpoint, changes, arch = FILES[name]
    folder = random_checkpoint(tmp_path / "torch", checkpoint, **changes)
    keys = ("block_count", "embedding_length", "context_length", "logit_scale", "rope.freq_base")
    keys += ("attention.head_count", "attention.key_length")
    keys += ("attention.sliding_window", "attention.sliding_window_pattern")
    told = {}
    for n, (key, value) in enumerate(itertools.product(keys, (0, 1.5, "x", [1, 2], True))):
        path = write(folder, tmp_path / f"{n}.gguf", arch, **{key: value})
        try:
            assert read_decoder(path)[1].vocab_size == VOCABULARY, (key, value)  # what its tensors tell stays
        except (CheckpointError, ConfigError) as error:
            told[path] = str(error)
    assert len(told) > 10
    assert [said for path, said in told.items() if not said.startswith(str(path))] == []


def test_the_size_of_a_gemmas_heads_may_be_left_out(tmp_path: Path) -> None:
    checkpoint, changes, arch = FILES["gemma 2"]
    folder = random_checkpoint(
        tmp_path / "torch", checkpoint, **changes | {"head_dim": 16, "hidden_size": 48}
    )
    whole, less = (
        write(folder, tmp_path / f"{name}.gguf", arch, **own)
        for name, own in {"whole": {}, "less": {"attention.key_length": None}}.items()
    )
    assert read_decoder(less)[1] == read_decoder(whole)[1]


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "mamba")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert_refused(
        tmp_path / "model.gguf", ConfigError, "unsupported GGUF architecture 'mamba'; supported: llama, qwen2"
    )


def test_tensors_that_do_not_fit_the_metadata_are_named(folder: Path, tmp_path: Path) -> None:
    fewer = write(folder, tmp_path / "fewer.gguf", ARCH.QWEN2, block_count=2)
    assert_refused(
        fewer, CheckpointError, "do not fit its metadata. no parameter takes: model.layers.2.*and 4 more"
    )
    more = write(folder, tmp_path / "more.gguf", ARCH.QWEN2, block_count=4)
    assert_refused(more, CheckpointError, "missing: model.layers.3.*")
    many = write(folder, tmp_path / "many.gguf", ARCH.QWEN2, block_count=2**30)
    assert_refused(many, CheckpointError, "block_count = 1,073,741,824, and the file holds 3 layers")
    narrow = write(folder, tmp_path / "narrow.gguf", ARCH.QWEN2, feed_forward_length=64)
    assert_refused(narrow, CheckpointError, r"up_proj.weight is \[96, 64\], metadata says \[64, 64\]")


def test_a_quantisation_that_cannot_be_undone_is_named(tmp_path: Path) -> None:
    path, kind = tmp_path / "model.gguf", gguf.GGMLQuantizationType.Q8_K
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros((4, 292), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert_refused(
        path, CheckpointError, "blk.0.ffn_up.weight is quantised as Q8_K, which the package gguf cannot undo"
    )


def test_another_rotary_scaling_than_llama_3s_is_refused(tmp_path: Path) -> None:
    case, _, arch = FILES["llama 3.1's rope, biases, untied"]
    folder = random_checkpoint(tmp_path / "folder", case)  # of an original length of 64
    assert_refused(
        write(folder, tmp_path / "model.gguf", arch), ConfigError, "another rotary scaling than Llama 3's"
    )
