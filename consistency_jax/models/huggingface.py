"""Hugging Face folders in and out: config.json and safetensors <-> DecoderConfig and parameters.

Every tensor is accounted for before any is read: one that no parameter takes, one that is missing, stored
twice or of a wrong shape is an error. Parameters are stacked one at a time, so the peak beside the model
is its largest parameter; with a mesh each host reads only the bytes of its own devices.

A folder's names may begin in several ways (`PREFIXES`); the one it has is found at its embedding, and an export
keeps it. Of a multimodal model the text part is loaded; an export takes the other parts from its source.
"""

import contextlib
import dataclasses
import functools
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epy
from flax import traverse_util

from consistency_jax.data.trees.tokenization import tokenizer_key
from consistency_jax.errors import CheckpointError, ConfigError
from consistency_jax.models.checkpoint import find_checkpoint, read_config
from consistency_jax.models.decoder import Decoder, DecoderConfig, Params, abstract_params, logits
from consistency_jax.models.families import FAMILIES, Family, Weight, find_family
from consistency_jax.models.families.family import constants, tied_head
from consistency_jax.models.gguf import GgufFile, is_gguf, open_gguf
from consistency_jax.models.quantised import is_kernel, quantised_kernel
from consistency_jax.models.shardings import param_shardings
from consistency_jax.models.tensor_files import TensorFiles, some, write_tensors
from consistency_jax.models.tokenizers import (
    KEPT_SETTINGS,
    TEMPLATES,
    TOKENIZER_FILES,
    check_rows,
    copy_tokenizer_files,
    load_tokenizer,
    tokenizer_settings,
)
from consistency_jax.runtime.files import local, named, write_text
from consistency_jax.runtime.mesh import fetch
from consistency_jax.runtime.processes import is_main, on_main
from consistency_jax.runtime.progress import Progress

with epy.lazy_imports():  # when it is used: a command's first line need not wait for it
    import transformers

IGNORED = re.compile(r"rotary_emb\.inv_freq$")  # a buffer that old writers stored; it follows from the config
# How the names of a text model may begin -> how its head's name does then: alone, and inside a multimodal model as
# transformers 4 and 5 write it.
PREFIXES = {"model.": "", "language_model.model.": "language_model.", "model.language_model.": ""}
# What an export replaces: its own files of weights, however many there were.
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
COPIED = ("generation_config.json", "preprocessor_config.json", "processor_config.json")
Tensors = TensorFiles | GgufFile
DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(repr=False)
class Model:
    """A decoder with its parameters: `params` is a plain nested dict (see `models/decoder.py`)."""

    config: DecoderConfig
    params: Params
    tokenizer: "transformers.PreTrainedTokenizerFast | None" = None
    folder: Path | None = None  # where config.json and tokenizer files are copied from on export
    architecture: str = "LlamaForCausalLM"

    def __repr__(self) -> str:
        """In one line: what it is, how large, and where it is from."""
        config, tokens = self.config, "no tokenizer" if self.tokenizer is None else "tokenizer"
        size = f"{config.num_params / 1e6:,.1f} M parameters, {config.layers} layers of {config.hidden}"
        size += "" if config.base == "none" else f", {config.base} projections"
        source = "" if self.folder is None else f", {self.folder}"
        told = f"{size}, {config.vocab_size:,} tokens, {config.param_dtype}, {tokens}{source}"
        return f"Model({self.architecture}: {told})"

    def apply(self, tokens: Any) -> jax.Array:
        """tokens i32[B, T] without padding -> logits f32[B, T, V]. Compiles once a shape; for tests."""
        tokens = jnp.asarray(tokens, jnp.int32)
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be [B, T], not of shape {tokens.shape}")
        if tokens.size and (int(tokens.min()) < 0 or int(tokens.max()) >= self.config.vocab_size):
            raise ValueError(f"tokens must lie in 0..{self.config.vocab_size - 1}")
        return _apply(self.config, self.params, tokens)


@functools.partial(jax.jit, static_argnums=0)
def _apply(config: DecoderConfig, params: Params, tokens: jax.Array) -> jax.Array:
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    one_tree, trunk = jnp.ones_like(tokens), jnp.zeros_like(tokens)
    hidden = Decoder(config).apply({"params": params}, tokens, positions, one_tree, trunk)
    return logits(params, config, hidden)


# ---------------------------------------------------------------------------------------------------- loading


def load_pretrained(
    path_or_hub_id: str | Path,
    dtype: str = "float32",
    mesh: jax.sharding.Mesh | None = None,
    base: str = "none",
) -> Model:
    """A checkpoint folder, a GGUF file, or the id of a folder on the Hugging Face Hub, as a `Model`.

    Args:
      path_or_hub_id: a folder with config.json and safetensors, a file of llama.cpp or Ollama (`models/gguf.py`; its
        tensors are dequantised one at a time), or "organisation/name" (downloaded once).
      dtype: of parameters and computation: float32, bfloat16 or float16; tensors are cast as they are read.
      mesh: parameters are split over it by `models/shardings.py`; None: the default device.
      base: int8 or nf4: kernels of projections are quantised as they are read (`models/quantised.py`).

    Raises: CheckpointError (folder, tensors), ConfigError (architecture, config.json), TokenizerError.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype {dtype!r} is not supported; supported: {', '.join(DTYPES)}")
    path = find_checkpoint(path_or_hub_id)
    architecture, config = read_decoder(path)
    family, config = FAMILIES[architecture], dataclasses.replace(config, dtype=dtype, param_dtype=dtype)
    in_one = is_gguf(path)
    with open_gguf(path) if in_one else TensorFiles(path) as tensors:
        config = dataclasses.replace(config, vocab_size=_vocabulary(config, family, tensors))
        tokenizer = tensors.tokenizer() if in_one else load_tokenizer(path)
        if tokenizer is not None:
            check_rows(tokenizer, config.vocab_size, str(path))
        try:
            config = dataclasses.replace(config, base=base)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
        named = _read_params(path, config, family, mesh, tensors)
        params = traverse_util.unflatten_dict(dict(named), sep="/")
    return Model(config, params, tokenizer, None if in_one else path, architecture)


def read_decoder(path: Path) -> tuple[str, DecoderConfig]:
    """The architecture of a folder or GGUF file and its decoder; ConfigError that names it where there is none here."""
    hf_config = open_gguf(path).config if is_gguf(path) else read_config(path)
    try:
        architecture, family = find_family(hf_config)
        return architecture, family.from_hf(hf_config)
    except ValueError as error:  # a ConfigError, or traits that clash in a `DecoderConfig`
        raise ConfigError(f"{path}: {error}") from error


def _vocabulary(config: DecoderConfig, family: Family, tensors: Tensors) -> int:
    """The rows of the stored embedding: tools that resize it do not all tell config.json."""
    name = find_naming(tensors.names)(family.names(config)["embedding/weight"].name)
    shape = tensors.shape(name) if name in tensors.names else ()
    # What is wrong or missing is told with the rest.
    return shape[0] if len(shape) == 2 and shape[0] else config.vocab_size


def _places(config: DecoderConfig, mesh: jax.sharding.Mesh | None) -> dict[str, Any]:
    return {} if mesh is None else traverse_util.flatten_dict(param_shardings(config, mesh), sep="/")


def _read_params(
    path: Path, config: DecoderConfig, family: Family, mesh: jax.sharding.Mesh | None, tensors: Tensors
) -> Iterator[tuple[str, jax.Array]]:
    """The parameters of a folder by name, one at a time; those that are quantised, of one layer at a time."""
    shapes = traverse_util.flatten_dict(abstract_params(config.unquantised), sep="/")
    places = _places(config.unquantised, mesh)
    rename = find_naming(tensors.names)
    mapping = _weights(family, config, rename)
    _account(path, config, family, mapping, rename, shapes, tensors)
    progress = Progress(f"reading {path.name}, tensors", len(shapes), every_s=5.0)

    def placed(name: str, *layer: slice) -> jax.Array:
        """One of them on its devices; or one layer of it, [1, ...]."""
        shape, whole = shapes[name].shape, (slice(None),) * len(shapes[name].shape)

        def read(index: tuple[slice, ...]) -> np.ndarray:
            return _read(tensors, mapping[name], shapes[name], (*layer, *index[len(layer) :]))

        if name not in places:
            return jnp.asarray(read(whole))
        return jax.make_array_from_callback((1,) * len(layer) + shape[len(layer) :], places[name], read)

    for name in shapes:
        if config.base != "none" and is_kernel(name):
            layers = (placed(name, slice(layer, layer + 1)) for layer in range(config.layers))
            yield from quantised_kernel(name, config.layers, layers, config.base, _places(config, mesh))
        else:
            yield name, placed(name)
        progress.advance(ended=False)  # off a terminal a line where it takes long, and none where it does not
    progress.close()


def find_naming(stored: Iterable[str]) -> Callable[[str], str]:
    """From the tensor names of families to those of a folder, given all names `stored` in it."""
    stored = set(stored)
    trunk = next((p for p in PREFIXES if f"{p}embed_tokens.weight" in stored), "model.")

    def rename(name: str) -> str:
        return trunk + name.removeprefix("model.") if name.startswith("model.") else PREFIXES[trunk] + name

    return rename


def _weights(family: Family, config: DecoderConfig, rename: Callable[[str], str]) -> dict[str, Weight]:
    return {
        path: dataclasses.replace(weight, name=rename(weight.name))
        for path, weight in family.names(config).items()
    }


def _other_parts(family: Family, tensors: Tensors) -> list[str]:
    """The tensors of a vision tower and the like, which are no text model's."""
    return [n for n in tensors.names if family.other_parts and re.search(family.other_parts, n)]


def _constants(config: DecoderConfig, rename: Callable[[str], str]) -> list[tuple[int, str, float]]:
    """Tensors that are no parameters: layer, name, value."""
    return [
        (layer, rename(name).format(layer=layer), value)
        for name, value in constants(config).items()
        for layer in range(config.layers)
    ]


def _tensor_names(weight: Weight, layers: int) -> list[str]:
    if "{layer}" not in weight.name:
        return [weight.name]
    return [weight.name.format(layer=i) for i in range(layers)]


def _tensor_shape(weight: Weight, shape: tuple[int, ...]) -> tuple[int, ...]:
    one = shape[1:] if "{layer}" in weight.name else shape
    return one[::-1] if weight.transpose else one


def _account(
    path: Path,
    config: DecoderConfig,
    family: Family,
    mapping: Mapping[str, Weight],
    rename: Callable[[str], str],
    shapes: Mapping[str, jax.ShapeDtypeStruct],
    tensors: Tensors,
) -> None:
    """One CheckpointError that names every tensor that is unmapped, missing, doubled or of a wrong shape."""
    if set(mapping) != set(shapes):
        # ours to mend, not theirs
        raise AssertionError(f"the family maps {set(mapping) ^ set(shapes)} wrongly")
    expected = {
        name: _tensor_shape(weight, shapes[ours].shape)
        for ours, weight in mapping.items()
        for name in _tensor_names(weight, config.layers)
    }
    aliases = {rename(a): rename(b) for a, b in tied_head(config).items()}
    aliases = {a: b for a, b in aliases.items() if a in tensors.names and b in tensors.names}
    constants = {name: value for _, name, value in _constants(config, rename) if name in tensors.names}
    known = {*expected, *aliases, *constants, *_other_parts(family, tensors)}
    unmapped = [name for name in tensors.names if name not in known and not IGNORED.search(name)]
    missing = [name for name in expected if name not in tensors.names]
    wrong = [
        f"{name} is {list(tensors.shape(name))}, {tensors.described_by} says {list(shape)}"
        for name, shape in expected.items()
        if name in tensors.names and tensors.shape(name) != shape
    ]
    coded = [name for name in expected if name in tensors.coded]
    differ = [
        f"{a} differs from {b} (if they should, set tie_word_embeddings to false there)"
        for a, b in aliases.items()
        if not _equal(tensors, a, b)
    ]
    differ += [
        f"{name} is not {value}"
        for name, value in constants.items()
        if not np.allclose(tensors.read(name).astype(np.float32), value, rtol=2.0**-8)  # bfloat16's
    ]
    problems = {
        "no parameter takes": unmapped,
        "missing": missing,
        "stored twice": tensors.doubled,
        "wrong shape": wrong,
        "quantised, which is not supported": coded,
        f"not as {tensors.described_by} says": differ,
    }
    said = [f"{what}: {some(names)}" for what, names in problems.items() if names]
    if said:
        raise CheckpointError(
            f"{path}: its tensors do not fit its {tensors.described_by}. " + "; ".join(said)
        )


def _equal(tensors: Tensors, one: str, other: str, rows: int = 8192) -> bool:
    """Whether two tensors hold the same, read a part at a time: of a large vocabulary each is gigabytes."""
    shape = tensors.shape(one)
    return shape == tensors.shape(other) and all(
        np.array_equal(tensors.read(one, part), tensors.read(other, part))
        for part in ((slice(at, min(at + rows, shape[0])),) for at in range(0, shape[0], rows))
    )


def _read(
    tensors: Tensors, weight: Weight, shape: jax.ShapeDtypeStruct, index: tuple[slice, ...]
) -> np.ndarray:
    """The part `index` of one of our parameters, cast, from its tensors."""

    def one(name: str, part: tuple[slice, ...]) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):  # the sum tells, and needs no second array
            tensor = tensors.read(name, part[::-1] if weight.transpose else part).astype(shape.dtype)
            total = np.add.reduce(tensor, axis=None, dtype=np.float32)
        if not np.isfinite(total):
            raise CheckpointError(
                f"{tensors.path}: {name} holds NaN or infinite values in {shape.dtype}; is the file damaged?"
            )
        return tensor.T if weight.transpose else tensor

    if "{layer}" not in weight.name:
        return np.ascontiguousarray(one(weight.name, index))
    layers = range(*index[0].indices(shape.shape[0]))
    part = index[1:]
    sizes = [len(range(*s.indices(n))) for s, n in zip(part, shape.shape[1:])]
    stacked = np.empty((len(layers), *sizes), shape.dtype)
    for row, layer in enumerate(layers):
        stacked[row] = one(weight.name.format(layer=layer), part)
    return stacked


# ----------------------------------------------------------------------------------------------------- saving


def save_pretrained(model: Model, folder: str | Path, max_shard_bytes: int = 5_000_000_000) -> None:
    """Writes a folder that `transformers` (and `load_pretrained`) loads, bit for bit the model's parameters.

    A sourced model's config.json is copied with only its dtype changed (and its vocab_size, where the embedding has
    other rows), its tokenizer, generation and processor files are copied, its tensors keep the source's names, and
    what the source has beside the text model (a vision tower) is copied as it is; a model made here gets a config.json
    from its family. Weights go to one file, or to shards of at most `max_shard_bytes` with an index. They are written
    beside and renamed at the end, so that a failure leaves an older folder as it was. Of several processes all gather
    the parameters, tensor by tensor, and process 0 writes.

    Raises: CheckpointError where the model is no longer what its source config.json says; OSError.
    """
    folder = local(folder, "folder")
    if model.config.base != "none":
        raise CheckpointError(
            f"the model is quantised ({model.config.base}): write the one that it was made of"
        )
    family = FAMILIES[model.architecture]
    config_text = _config_text(model, family)
    fresh = folder / ".saving"

    def begin() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        write_text(fresh / "config.json", config_text)

    def finish() -> None:
        if model.folder is not None:
            theirs = load_tokenizer(model.folder)
            keys = [tokenizer_key(own) for own in (model.tokenizer, theirs) if own is not None]
            copied: list[str] = []
            if model.tokenizer is None or len(keys) == 2 and keys[0] == keys[1]:
                copied = copy_tokenizer_files(model.folder, fresh)
            # Another one than the folder's, with data.bos=named, say; or a bare tokenizer.model, which other libraries
            # take for what its class usually does with one.
            if model.tokenizer is not None and {"tokenizer.json", "vocab.json"}.isdisjoint(copied):
                told = tokenizer_settings(fresh)
                with named(fresh):
                    model.tokenizer.save_pretrained(fresh)
                told = tokenizer_settings(fresh) | {key: told[key] for key in KEPT_SETTINGS if key in told}
                text = json.dumps(told, indent=2, ensure_ascii=False)
                write_text(fresh / "tokenizer_config.json", text)
            for name in COPIED:
                if (model.folder / name).is_file():
                    shutil.copyfile(model.folder / name, fresh / name)
        elif model.tokenizer is not None:
            with named(fresh):
                model.tokenizer.save_pretrained(fresh)
        # What another model left here; one without a tokenizer says nothing of the tokenizer that lies there.
        told = {path.name for path in fresh.iterdir()}
        left = (() if told.isdisjoint(TOKENIZER_FILES) else TOKENIZER_FILES) + (
            COPIED if model.folder else ()
        )
        for stale in folder.iterdir():
            if WEIGHTS.fullmatch(stale.name) or stale.name in left:
                stale.unlink()
        if not told.isdisjoint(TOKENIZER_FILES):
            shutil.rmtree(folder / TEMPLATES, ignore_errors=True)
        for path in fresh.iterdir():
            path.replace(folder / path.name)

    on_main(begin)
    try:
        with TensorFiles(model.folder) if model.folder else contextlib.nullcontext() as source:
            _write_weights(_pieces(model, family, source), fresh, max_shard_bytes)
        on_main(finish)
    finally:
        if is_main():
            shutil.rmtree(fresh, ignore_errors=True)


def _config_text(model: Model, family: Family) -> str:
    dtype = model.config.param_dtype
    if dtype not in DTYPES:
        raise CheckpointError(f"parameters of {dtype} have no place in a checkpoint; use {', '.join(DTYPES)}")
    if model.folder is None:
        ends = {
            f"{name}_token_id": getattr(model.tokenizer, f"{name}_token_id", None)
            for name in ("bos", "eos", "pad")
        }
        ends = {key: value for key, value in ends.items() if value is not None}
        return json.dumps(family.to_hf(model.config) | ends | {"dtype": dtype}, indent=2) + "\n"
    source = read_config(model.folder)
    traits = family.from_hf(source)
    rows = {} if model.config.vocab_size == traits.vocab_size else {"vocab_size": model.config.vocab_size}
    differing = model.config.differences(dataclasses.replace(traits, **rows))
    if differing:
        raise CheckpointError(
            f"the model is no longer what {model.folder / 'config.json'} says ({', '.join(differing)});"
            " set model.folder = None to have a new config.json written"
        )
    changed = {**source, **dict.fromkeys(_dtype_keys(source) or ("dtype",), dtype)}
    text = source.get("text_config")
    if isinstance(text, Mapping):
        changed["text_config"] = {**text, **dict.fromkeys(_dtype_keys(text), dtype), **rows}
    else:
        changed |= rows
    if changed == source:
        return (model.folder / "config.json").read_text()
    return json.dumps(changed, indent=2) + "\n"


def _dtype_keys(hf_config: Mapping[str, Any]) -> list[str]:
    return [key for key in ("dtype", "torch_dtype") if key in hf_config]


@dataclasses.dataclass(frozen=True)
class _Piece:
    """One tensor to write; its values are fetched when its shard's turn has come."""

    name: str
    nbytes: int
    read: Callable[[], np.ndarray]


def _pieces(model: Model, family: Family, source: TensorFiles | None) -> list[_Piece]:
    """Every tensor of the model, in layer order as other writers have it, then the source's other parts."""
    rename = find_naming(source.names if source else ())
    flat = traverse_util.flatten_dict(model.params, sep="/")
    ours = []
    for path, weight in _weights(family, model.config, rename).items():
        stacked = "{layer}" in weight.name
        for layer, name in enumerate(_tensor_names(weight, model.config.layers)):
            read = functools.partial(_fetch, flat[path], layer if stacked else None, weight.transpose)
            size = flat[path].nbytes // (flat[path].shape[0] if stacked else 1)
            ours.append((layer if stacked else -1, _Piece(name, size, read)))
    dtype = jnp.dtype(model.config.param_dtype)
    for layer, name, value in _constants(model.config, rename):
        ours.append((layer, _Piece(name, dtype.itemsize, functools.partial(np.array, value, dtype))))
    ours.sort(key=lambda piece: (piece[0], piece[1].name))
    others = _other_parts(family, source) if source else []
    return [piece for _, piece in ours] + [
        _Piece(name, source.nbytes(name), functools.partial(source.read, name)) for name in sorted(others)
    ]


def _fetch(parameter: jax.Array, layer: int | None, transpose: bool) -> np.ndarray:
    tensor = np.asarray(fetch(parameter if layer is None else parameter[layer]))
    return np.ascontiguousarray(tensor.T if transpose else tensor)


def _write_weights(pieces: list[_Piece], folder: Path, max_shard_bytes: int) -> None:
    shards: list[list[_Piece]] = [[]]
    filled = total = 0
    for piece in pieces:
        if shards[-1] and filled + piece.nbytes > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(piece)
        filled, total = filled + piece.nbytes, total + piece.nbytes
    where = {}
    for number, shard in enumerate(shards, 1):
        several = len(shards) > 1
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if several else "model.safetensors"
        tensors = {}
        for piece in shard:
            tensor = piece.read()  # gathered by all processes
            if is_main():
                tensors[piece.name] = tensor
        on_main(functools.partial(write_tensors, folder / file, tensors))
        where |= {piece.name: file for piece in shard}
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        on_main(
            lambda: write_text(folder / "model.safetensors.index.json", json.dumps(index, indent=2) + "\n")
        )
