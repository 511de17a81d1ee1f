"""GGUF, the one-file format of llama.cpp and Ollama: its metadata as a config.json, its tensors as a folder's.

A file is read as if it were the Hugging Face folder that it was made from: the family reads `GgufFile.config`, and
every tensor is accounted for under its Hugging Face name. What the writer of such files changed is undone: Llama's q
and k rows stand in interleaved rotary order, Gemma's norms have 1 added, Llama 3's rotary scaling is a tensor; some
traits of Gemma and Cohere are in no key, because llama.cpp has them in code.

Sources: the GGUF specification (ggml, docs/gguf.md), and llama.cpp's converter and model definitions.
"""

import functools
import math
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epy

from consistency_jax.errors import CheckpointError, ConfigError
from consistency_jax.models.families.keys import Keys
from consistency_jax.models.gguf_tokenizer import gguf_tokenizer
from consistency_jax.models.rotary import Rope

with epy.lazy_imports():  # when it is used: a command's first line need not wait for it
    import transformers

Undo = Callable[[np.ndarray], np.ndarray]
# Stem of a tensor's name -> the module that has it in a Hugging Face checkpoint.
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA_LAYER = LAYER | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
ROPE_FACTORS = "rope_freqs.weight"  # what Llama 3's frequencies are divided by, a number a pair of dimensions
# Keys that decide nothing here: how the file was made, and the absence of experts.
WITHOUT_EFFECT = {
    "vocab_size": ...,
    "rope.scaling.finetuned": ...,
    "tensor_data_layout": ...,
    "expert_count": 0,
}
WITHOUT_EFFECT |= {"expert_used_count": 0, "attention.causal": True, "rope.scaling.attn_factor": 1.0}


class Architecture(NamedTuple):
    """What a `general.architecture` is here.

    Attributes:
      architecture: of the family that runs it.
      config: its metadata -> the keys of config.json beside those that all tell alike.
      layer: `LAYER`, or what its layers' tensors are called.
      norm_offset: subtracted from stored norm weights.
      interleaved: whether q and k rows stand in interleaved rotary order, where the family has halves.
      eps: of its norms, config.json's name and GGUF's.
    """

    architecture: str
    config: Callable[[Keys, int], dict[str, Any]]
    layer: Mapping[str, str] = LAYER
    norm_offset: float = 0.0
    interleaved: bool = False
    eps: tuple[str, str] = ("rms_norm_eps", "attention.layer_norm_rms_epsilon")


def _plain(meta: Keys, layers: int) -> dict[str, Any]:
    return {}


def _gemma(largest: int) -> Callable[[Keys, int], dict[str, Any]]:
    """`largest`: layers of the 27b model, whose queries are scaled by another rule; no key says so."""

    def read(meta: Keys, layers: int) -> dict[str, Any]:
        scale = meta["embedding_length"] // meta["attention.head_count"]
        scale = scale if layers == largest else meta.get("attention.key_length") or scale
        return {
            "query_pre_attn_scalar": scale,
            "sliding_window": meta.required("attention.sliding_window"),
            "attn_logit_softcapping": meta.get("attn_logit_softcapping"),
            "final_logit_softcapping": meta.get("final_logit_softcapping"),
        }

    return read


def _gemma3(meta: Keys, layers: int) -> dict[str, Any]:
    pattern = meta.get("attention.sliding_window_pattern", 6)
    sliding = pattern if isinstance(pattern, list) else [(i + 1) % pattern != 0 for i in range(layers)]
    return {
        **_gemma(62)(meta, layers),
        "layer_types": ["sliding_attention" if slides else "full_attention" for slides in sliding],
        "rope_local_base_freq": _number(meta.get("rope.freq_base_swa", 10_000.0)),
    }


def _cohere2(meta: Keys, layers: int) -> dict[str, Any]:
    window = meta.required("attention.sliding_window")
    return {"logit_scale": _number(meta.required("logit_scale")), "sliding_window": window}


ARCHITECTURES = {
    "llama": Architecture("LlamaForCausalLM", _plain, interleaved=True),
    "qwen2": Architecture("Qwen2ForCausalLM", _plain),
    "qwen3": Architecture("Qwen3ForCausalLM", _plain),
    "gemma2": Architecture("Gemma2ForCausalLM", _gemma(46), GEMMA_LAYER, 1.0),
    "gemma3": Architecture("Gemma3ForCausalLM", _gemma3, GEMMA_LAYER, 1.0),
    "command-r": Architecture(
        "CohereForCausalLM",
        lambda meta, layers: {"logit_scale": _number(meta.required("logit_scale"))},
        eps=("layer_norm_eps", "attention.layer_norm_epsilon"),
    ),
    "cohere2": Architecture(
        "Cohere2ForCausalLM", _cohere2, eps=("layer_norm_eps", "attention.layer_norm_epsilon")
    ),
}


def is_gguf(path: Path) -> bool:
    """Whether it is a file that begins as GGUF does, or is called one."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix == ".gguf" or file.read(4) == b"GGUF"


def open_gguf(path: Path) -> "GgufFile":
    """The file, read once for as long as it stays as it is. Errors are `GgufFile`'s."""
    state = path.stat()
    return _opened(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=1)
def _opened(path: Path, *_: int) -> "GgufFile":
    return GgufFile(path)


class GgufFile:
    """An open GGUF file, with the tensors of `tensor_files.TensorFiles` under their Hugging Face names.

    Attributes:
      path: of the file.
      config: the config.json that its metadata tells.

    Raises:
      CheckpointError: a file that is truncated, no GGUF, or holds what cannot be dequantised.
      ConfigError: an architecture or a trait that is not supported, or the package `gguf` missing.
    """

    described_by = "metadata"
    doubled = ()  # the reader refuses such a file
    coded = frozenset()  # all are dequantised

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gguf = _package(path)
        try:
            self._metadata, stored = read_header(path)
        except Exception as error:  # a damaged header may say anything: sizes, kinds, shapes
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} is truncated or no GGUF file ({reason})") from error
        try:
            self._understand(stored)
        # Our own errors are none of these.
        except (TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise CheckpointError(f"{path}: its metadata do not fit together ({error!r:.100})") from error

    def _understand(self, stored: dict[str, "StoredTensor"]) -> None:
        path, name = self.path, self._metadata.get("general.architecture")
        if name not in ARCHITECTURES:
            supported = ", ".join(ARCHITECTURES)
            raise ConfigError(f"{path}: unsupported GGUF architecture {name!r}; supported: {supported}")
        if (parts := self._metadata.get("split.count", 1)) > 1:
            raise CheckpointError(
                f"{path} is one of {parts} parts; join them first: llama-gguf-split --merge"
            )
        self._kind = ARCHITECTURES[name]
        self._check_types(stored)
        factors = stored.pop(ROPE_FACTORS, None)
        self._tensors = {self._name(own): tensor for own, tensor in stored.items()}
        self.config = self._config(name, None if factors is None else self._floats(factors))

    def __enter__(self) -> "GgufFile":
        return self

    def __exit__(self, *_: object) -> None:
        """Forgets the file, which was mapped, and its metadata: of a large vocabulary more than the file itself."""
        _opened.cache_clear()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def read(self, name: str, index: tuple[Any, ...] = (...,)) -> np.ndarray:
        """The part `index` of a tensor, f32, as the Hugging Face folder would hold it."""
        undo = self._undo(name)
        if undo is None and isinstance(index[0], slice):  # rows are quantised one by one
            return self._floats(self._tensors[name], index[0])[(slice(None), *index[1:])]
        values = self._floats(self._tensors[name])
        return (undo(values) if undo else values)[index]

    def tokenizer(self) -> "transformers.PreTrainedTokenizerFast | None":
        """The tokenizer in the metadata; None where there is none. TokenizerError where it cannot be made."""
        return gguf_tokenizer(self._metadata.get, self.path)

    def _check_types(self, stored: Mapping[str, "StoredTensor"]) -> None:
        """That one row of each type can be undone, before anything long begins."""
        firsts = {tensor.kind: (name, tensor) for name, tensor in stored.items()}
        for kind, (name, tensor) in firsts.items():
            try:
                self._floats(tensor, slice(0, 1))
            except (NotImplementedError, KeyError, ValueError) as error:
                raise CheckpointError(
                    f"{self.path}: {name} is quantised as {kind}, which the package gguf cannot undo "
                    f"({error}); take the file in another quantisation"
                ) from error

    def _floats(self, tensor: "StoredTensor", rows: slice = slice(None)) -> np.ndarray:
        kind, one_row = self._gguf.GGMLQuantizationType[tensor.kind], len(tensor.shape) == 1
        values = self._gguf.dequantize(tensor.rows if one_row else tensor.rows[rows], kind)
        return np.asarray(values[rows] if one_row else values, np.float32)

    def _name(self, own: str) -> str:
        """The Hugging Face name of a tensor; its own where it has none, which no parameter takes then."""
        layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", own)
        if layer and layer[2] in self._kind.layer:
            return f"model.layers.{layer[1]}.{self._kind.layer[layer[2]]}.{layer[3]}"
        stem, _, last = own.rpartition(".")
        return f"{TOP[stem]}.{last}" if stem in TOP else own

    def _undo(self, name: str) -> Undo | None:
        """What turns a stored tensor into the Hugging Face one; None where they are the same."""
        if self._kind.norm_offset and name.endswith("norm.weight"):
            return lambda values: values - self._kind.norm_offset
        for module, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if self._kind.interleaved and f"self_attn.{module}." in name:
                return lambda values, heads=self.config[heads]: _halves(values, heads)
        return None

    def _config(self, name: str, factors: np.ndarray | None) -> dict[str, Any]:
        own = {k.removeprefix(f"{name}."): v for k, v in self._metadata.items() if k.startswith(f"{name}.")}
        meta = Keys(own, where=f"{self.path}: the metadata")
        layers, heads = meta.required("block_count"), meta.required("attention.head_count")
        kv_heads = meta.get("attention.head_count_kv", heads)
        there = 1 + max(
            (int(own.split(".")[2]) for own in self._tensors if own.startswith("model.layers.")), default=0
        )
        # Names are made of each; a few that are missing are told one by one.
        if isinstance(layers, int) and layers > there + 1000:
            raise CheckpointError(f"{self.path}: block_count = {layers:,}, and the file holds {there} layers")
        if not all(isinstance(count, int) for count in (heads, kv_heads, meta.get("feed_forward_length"))):
            raise ConfigError(f"{self.path}: layers of different sizes are not supported")
        head_dim = meta.get("attention.key_length") or meta.required("embedding_length") // heads
        for key in ("attention.value_length", "rope.dimension_count"):
            if meta.get(key, head_dim) != head_dim:
                raise ConfigError(f"{self.path}: {key} = {meta[key]}, where heads have {head_dim} dimensions")
        rope = _rope_scaling(meta, self.path)
        if factors is not None:
            rope = _llama3(factors, _number(meta.required("rope.freq_base")), head_dim, self.path)
        ours, theirs = self._kind.eps
        config = {
            "architectures": [self._kind.architecture],
            "hidden_size": meta.required("embedding_length"),
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": head_dim,
            "intermediate_size": meta.required("feed_forward_length"),
            "max_position_embeddings": meta.required("context_length"),
            ours: _number(meta.required(theirs)),
            "rope_theta": _number(meta.get("rope.freq_base", 10_000.0)),
            "tie_word_embeddings": "lm_head.weight" not in self._tensors,
            "vocab_size": self.shape("model.embed_tokens.weight")[0]
            if "model.embed_tokens.weight" in self._tensors
            else meta.required("vocab_size"),
            **({"rope_scaling": rope} if rope else {}),
            **self._kind.config(meta, layers),
        }
        first = "model.layers.0."  # what its tensors tell
        told = {"attention_bias": "self_attn.o_proj.bias", "mlp_bias": "mlp.up_proj.bias"}
        told |= {"use_qk_norm": "self_attn.q_norm.weight"} if name == "command-r" else {}
        config |= {key: True for key, tensor in told.items() if first + tensor in self._tensors}
        meta.account(WITHOUT_EFFECT)
        return {key: value for key, value in config.items() if value is not None}


class StoredTensor(NamedTuple):
    """A tensor as it lies in the file: `rows` u8[..., bytes of a row], quantised as `kind`; `shape` of its values."""

    shape: tuple[int, ...]
    kind: str
    rows: np.ndarray


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """The metadata of a file, and its tensors by name, not read yet. (The package's reader takes 20 times as long for
    a large vocabulary.)

    Raises:
      ValueError: a file that is no GGUF of version 2 or 3, ends too early, or has a name twice.
    """
    data = np.memmap(path, np.uint8, "r")
    fields = _Fields(memoryview(data))
    if bytes(fields.take(4)) != b"GGUF" or fields.number("u4") not in (2, 3):
        raise ValueError("it does not begin as GGUF of version 2 or 3 does")
    tensors, keys = fields.number("u8"), fields.number("u8")
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key = fields.text()
        if key in metadata:
            raise ValueError(f"{key} stands twice")
        metadata[key] = fields.value(fields.number("u4"))
    found = []
    for _ in range(tensors):
        name = fields.text()
        shape = tuple(fields.number("u8") for _ in range(fields.number("u4")))[::-1]
        found.append((name, shape, fields.number("u4"), fields.number("u8")))
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    alignment = metadata.get("general.alignment", 32)
    start, stored = -(-fields.at // alignment) * alignment, {}
    for name, shape, number, offset in found:
        kind = GGMLQuantizationType(number)
        block, size = GGML_QUANT_SIZES[kind]
        sizes = (*shape[:-1], shape[-1] // block * size)
        own = data[start + offset :][: math.prod(sizes)]
        if len(own) < math.prod(sizes) or shape[-1] % block:
            raise ValueError(f"{name} does not fit the file")
        if name in stored:
            raise ValueError(f"{name} stands twice")
        stored[name] = StoredTensor(shape, kind.name, own.reshape(sizes))
    return metadata, stored


class _Fields:
    """The values of a header, one after another."""

    SCALARS = dict(enumerate(("u1", "i1", "u2", "i2", "u4", "i4", "f4", "?"))) | {
        10: "u8",
        11: "i8",
        12: "f8",
    }
    TEXT, LIST = 8, 9

    def __init__(self, data: memoryview) -> None:
        self._data, self.at = data, 0

    def take(self, size: int) -> memoryview:
        part = self._data[self.at : self.at + size]
        if len(part) < size:
            raise ValueError("the file ends inside its header")
        self.at += size
        return part

    def number(self, kind: str) -> Any:
        return np.frombuffer(self.take(np.dtype(kind).itemsize), f"<{kind}")[0].item()

    def text(self) -> str:
        return str(self.take(int.from_bytes(self.take(8), "little")), "utf8")

    def value(self, kind: int) -> Any:
        """A number, a text, or a list of one kind."""
        if kind == self.TEXT:
            return self.text()
        if kind != self.LIST:
            return self.number(self._scalar(kind))
        kind, count = self.number("u4"), self.number("u8")
        if kind in (self.TEXT, self.LIST):
            return [self.value(kind) for _ in range(count)]
        scalar = self._scalar(kind)
        return np.frombuffer(self.take(count * np.dtype(scalar).itemsize), f"<{scalar}").tolist()

    def _scalar(self, kind: int) -> str:
        if kind not in self.SCALARS:
            raise ValueError(f"a value of the unknown kind {kind}")
        return self.SCALARS[kind]


def _package(path: Path) -> types.ModuleType:
    """The package that undoes quantisations."""
    try:
        import gguf
    except ImportError:
        raise ConfigError(f"{path}: reading GGUF needs: pip install 'consistency_jax[gguf]'") from None
    return gguf


def _number(value: float) -> float:
    """The shortest decimal that a stored float32 is of: 1e-06, not 9.999999974752427e-07. What is no number stays what
    it is, for the reader of the config to tell."""
    return float(str(np.float32(value))) if isinstance(value, int | float) else value


def _halves(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from interleaved rotary order (x0 y0 x1 y1 ...) to halves (x0 x1 ... y0 y1 ...)."""
    pairs = values.reshape(heads, -1, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def _rope_scaling(meta: Keys, path: Path) -> dict[str, Any] | None:
    kind = meta.get("rope.scaling.type", "none")
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise ConfigError(f"{path}: rope scaling {kind!r} is not supported; supported: linear, yarn")
    found = {"rope_type": kind, "factor": _number(meta.required("rope.scaling.factor"))}
    if kind == "yarn":
        found["original_max_position_embeddings"] = meta.required("rope.scaling.original_context_length")
    return found


def _llama3(factors: np.ndarray, theta: float, head_dim: int, path: Path) -> dict[str, Any]:
    """The rotary scaling that divides the frequencies so: the published Llama 3.x, which differ in `factor` alone."""
    rope = Rope(theta, "llama3", factor=float(factors.max()))
    if not np.array_equal(factors.shape, [head_dim // 2]) or not np.allclose(
        Rope(theta).frequencies(head_dim) / rope.frequencies(head_dim), factors, rtol=1e-4
    ):
        raise ConfigError(f"{path}: {ROPE_FACTORS} holds another rotary scaling than Llama 3's")
    return {
        "rope_type": "llama3",
        "factor": rope.factor,
        "low_freq_factor": rope.low_frequency_factor,
        "high_freq_factor": rope.high_frequency_factor,
        "original_max_position_embeddings": rope.original_length,
    }
