"""Tokenizers of checkpoint folders, always fast ones (with character offsets).

A `tokenizer.json` is taken as it stands: for some families `AutoTokenizer` rebuilds it from the vocabulary
alone, and then a Llama tokenizer loses one of two leading spaces. A folder that holds only a sentencepiece
`tokenizer.model` is converted here, setting by setting, from the model file itself: `AutoTokenizer` alone drops
the leading space that sentencepiece adds, and so segments text differently from the tokenizer the model was
trained with. Such a file says nothing of what stands before a text: its BOS does, unless the tokenizer_config.json
beside it has add_bos_token false.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import tokenizers
from etils import epy
from tokenizers import decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram

from consistency_jax.data.trees.tokenization import bos_of
from consistency_jax.errors import UserError
from consistency_jax.runtime.files import read_json

with epy.lazy_imports():  # when it is used: a command's first line need not wait for it
    import transformers

SPACE = "▁"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
# Of tokenizer_config.json, what changes no token.
KEPT_SETTINGS = ("model_max_length", "padding_side", "truncation_side")
TEMPLATES = "additional_chat_templates"  # a folder of templates by name, as transformers 5 writes them


class TokenizerError(UserError):
    """A tokenizer file that is there but cannot be read."""


def load_tokenizer(folder: str | Path) -> "transformers.PreTrainedTokenizerFast | None":
    """The fast tokenizer of a checkpoint folder, None where it has none; TokenizerError where broken."""
    folder = Path(folder)
    try:
        tokenizer = _read(folder)
        if tokenizer is not None:
            tokenizer("a")  # some settings are looked at only when a text comes
        return tokenizer
    except Exception as error:  # transformers, tokenizers and protobuf each raise their own kinds
        raise TokenizerError(f"{folder}: the tokenizer cannot be read: {error}") from error


def _read(folder: Path) -> "transformers.PreTrainedTokenizerFast | None":
    model_file = folder / "tokenizer.model"
    if (folder / "tokenizer.json").is_file():
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    if (folder / "vocab.json").is_file():
        return transformers.AutoTokenizer.from_pretrained(folder)
    if not model_file.is_file():
        return None
    if _is_tiktoken(model_file):
        tokenizer = _from_tiktoken(model_file)
    else:
        tokenizer = from_sentencepiece(model_file)
        _name_tokens(tokenizer, folder)
    tokenizer.chat_template = _chat_template(folder)
    if tokenizer_settings(folder).get("add_bos_token") is not False:  # Llama's and Gemma's default
        put_bos(tokenizer)
    return tokenizer


def _name_tokens(tokenizer: "transformers.PreTrainedTokenizerFast", folder: Path) -> None:
    """Gives a `tokenizer.model` what the JSON files beside it add: tokens (of a chat, say), and which is EOS.

    Raises: ValueError where they want another id than is free.
    """
    settings, added = tokenizer_settings(folder), dict(tokenizer_settings(folder, "added_tokens.json"))
    plain: set[str] = set()
    for index, told in settings.get("added_tokens_decoder", {}).items():
        added[told["content"]] = int(index)
        plain |= set() if told.get("special", True) else {told["content"]}
    known = tokenizer.get_vocab()
    for token, index in sorted(added.items(), key=lambda item: item[1]):
        if known.get(token) == index:
            continue
        tokenizer.add_tokens([token], special_tokens=token not in plain)
        if tokenizer.convert_tokens_to_ids(token) != index:
            raise ValueError(
                f"{token!r} should have id {index}, and has {tokenizer.convert_tokens_to_ids(token)}"
            )
    known, named = tokenizer.get_vocab(), tokenizer_settings(folder, "special_tokens_map.json") | settings
    for role in ("bos_token", "eos_token", "unk_token", "pad_token"):
        token = named.get(role)
        token = token["content"] if isinstance(token, dict) else token
        if token in known:
            setattr(tokenizer, role, token)


def check_rows(tokenizer: "transformers.PreTrainedTokenizerFast", rows: int, where: str) -> None:
    """That every token that a text can have, and BOS and EOS, has a row in an embedding of so many.

    Special tokens that no text becomes may lie beyond: Gemma 3's for images does.

    Raises: TokenizerError that names one that has none.
    """
    beyond = {token: index for token, index in tokenizer.get_vocab().items() if index >= rows}
    needless = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    needless -= {tokenizer.bos_token, tokenizer.eos_token}
    if found := sorted((index, token) for token, index in beyond.items() if token not in needless):
        index, token = found[0]
        raise TokenizerError(
            f"{where}: the tokenizer gives {token!r} id {index}, but the embedding has rows 0 to {rows - 1}; "
            "is it another model's tokenizer?"
        )


def put_bos(tokenizer: "transformers.PreTrainedTokenizerFast") -> None:
    """Has a tokenizer put the BOS that it names, if any, before a text; one that puts something stays as it is."""
    if tokenizer.bos_token_id is None or bos_of(tokenizer) is not None:
        return
    bos, backend = tokenizer.bos_token, tokenizer.backend_tokenizer
    put = processors.TemplateProcessing(
        single=[bos, "$A"], pair=[bos, "$A", "$B"], special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    known = backend.post_processor
    backend.post_processor = put if known is None else processors.Sequence([known, put])


def tokenizer_settings(folder: Path, name: str = "tokenizer_config.json") -> dict[str, Any]:
    """What such a file of a folder says; {} where there is none."""
    path = folder / name
    return read_json(path) if path.is_file() else {}


def _chat_template(folder: Path) -> str | dict[str, str] | None:
    """The chat template beside a `tokenizer.model`, in any of the three places where one is kept."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if found := tokenizer_settings(folder, name).get("chat_template"):
            named = isinstance(found, list)
            return {entry["name"]: entry["template"] for entry in found} if named else found
    return None


def copy_tokenizer_files(source: Path, target: Path) -> list[str]:
    """Copies what there is of `TOKENIZER_FILES` and of named chat templates; returns the files' names."""
    present = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    for name in present:
        shutil.copyfile(source / name, target / name)
    if (source / TEMPLATES).is_dir():
        shutil.copytree(source / TEMPLATES, target / TEMPLATES)
    return present


def from_sentencepiece(model_file: str | Path) -> "transformers.PreTrainedTokenizerFast":
    """A fast tokenizer that segments as sentencepiece does with this `tokenizer.model` (BPE or unigram).

    It puts nothing around a text. Control pieces are special tokens, read by their spelling unless it is called with
    `split_special_tokens`. Unlike sentencepiece, a unigram model (and a BPE one with user symbols, where it is the
    whole word) reads the spelling of a control, unknown or byte piece as it even then.
    """
    # Imported here: only these files need protobuf.
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(Path(model_file).read_bytes())
    trainer, pieces, kinds = proto.trainer_spec, proto.pieces, proto.SentencePiece

    def control(identity: int) -> str | None:
        known = 0 <= identity < len(pieces) and pieces[identity].type == kinds.CONTROL
        return pieces[identity].piece if known else None

    special = {
        "bos_token": control(trainer.bos_id),
        "eos_token": control(trainer.eos_id),
        "pad_token": control(trainer.pad_id),
        "unk_token": next((p.piece for p in pieces if p.type == kinds.UNKNOWN), None),
    }
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=convert_sentencepiece(proto),
        clean_up_tokenization_spaces=False,
        **special,
    )


def convert_sentencepiece(proto: Any) -> tokenizers.Tokenizer:
    """A tokenizer that segments as a sentencepiece `ModelProto` says, BPE or unigram.

    Raises:
      TokenizerError: another kind of model.
    """
    trainer, spec = proto.trainer_spec, proto.normalizer_spec
    pieces = list(proto.pieces)
    kinds = proto.SentencePiece
    unk = next((p.piece for p in pieces if p.type == kinds.UNKNOWN), None)

    if trainer.model_type == trainer.BPE:
        model = _bpe(pieces, unk, trainer.byte_fallback, kinds)
    elif trainer.model_type == trainer.UNIGRAM:
        unk_id = next((i for i, p in enumerate(pieces) if p.type == kinds.UNKNOWN), None)
        scores = [(p.piece, p.score) for p in pieces]
        model = Unigram(scores, unk_id=unk_id, byte_fallback=trainer.byte_fallback)
    else:
        raise TokenizerError("only BPE and unigram sentencepiece models are supported")
    tokenizer = tokenizers.Tokenizer(model)

    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        # Not normalizers.Strip: sentencepiece strips spaces alone, not every whitespace.
        steps.append(normalizers.Replace(tokenizers.Regex("^ +| +$"), ""))
        steps.append(normalizers.Replace(tokenizers.Regex(" {2,}"), " "))
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    if spec.escape_whitespaces:
        steps.append(normalizers.Replace(" ", SPACE))
    tokenizer.normalizer = normalizers.Sequence(steps)

    # User symbols stand whole. They are cut out after normalization, not before it as added tokens would be:
    # the dummy prefix belongs before the whole text, not before every part of it.
    symbols = sorted((p.piece for p in pieces if p.type == kinds.USER_DEFINED), key=len, reverse=True)
    if symbols:
        pattern = tokenizers.Regex("|".join(map(re.escape, symbols)))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="isolated")

    undo: list[decoders.Decoder] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if spec.add_dummy_prefix:
        undo.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(undo)
    tokenizer.add_tokens(
        [
            tokenizers.AddedToken(p.piece, normalized=False, special=True)
            for p in pieces
            if p.type == kinds.CONTROL
        ]
    )
    return tokenizer


def _bpe(pieces: list, unk: str | None, byte_fallback: bool, kinds: type) -> BPE:
    """Sentencepiece merges the pair whose result scores best; a merge list says the same by its order."""
    vocab = {p.piece: i for i, p in enumerate(pieces)}
    normal = {p.piece: p.score for p in pieces if p.type == kinds.NORMAL}
    merges: list[tuple[float, int, str, str]] = []
    for piece, score in normal.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in normal and right in normal:
                merges.append((-score, vocab[piece], left, right))
    merges.sort()
    return BPE(
        vocab,
        [(left, right) for _, _, left, right in merges],
        unk_token=unk,
        fuse_unk=True,
        byte_fallback=byte_fallback,
        # A user symbol comes as a word of its own and has no merges. (A learned piece is what its merges make
        # of it, so for other words this changes nothing.)
        ignore_merges=any(p.type == kinds.USER_DEFINED for p in pieces),
    )


def _is_tiktoken(model_file: Path) -> bool:
    """Tiktoken files are lines of base64 and a rank; sentencepiece files are binary."""
    with model_file.open("rb") as file:
        first = file.readline(400).split()
    return len(first) == 2 and first[1].isdigit()


def _from_tiktoken(model_file: Path) -> "transformers.PreTrainedTokenizerFast":
    """Llama 3's original `tokenizer.model`: its pattern and 256 special tokens are fixed, not in the file."""
    from transformers.convert_slow_tokenizer import TikTokenConverter

    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    special += [f"<|reserved_special_token_{i}|>" for i in range(4)]
    special += ["<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"]
    special += [f"<|reserved_special_token_{i}|>" for i in range(5, 251)]
    converter = TikTokenConverter(vocab_file=str(model_file), extra_special_tokens=special)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=converter.converted(),
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        clean_up_tokenization_spaces=False,
    )
