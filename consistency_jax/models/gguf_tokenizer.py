"""The tokenizer in a GGUF file's metadata, as llama.cpp segments with it: nothing is normalised that no key asks for.

Two kinds are supported: "llama", a sentencepiece model, and "gpt2", byte-level BPE, where `tokenizer.ggml.pre` names
the expression by which text is split before merges.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
from etils import epy
from tokenizers import decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from consistency_jax.data.trees.tokenization import SPLITS_WORDS
from consistency_jax.models.tokenizers import SPACE, TokenizerError, convert_sentencepiece

with epy.lazy_imports():  # when it is used: a command's first line need not wait for it
    import transformers

CONTROL, USER_DEFINED = 3, 4  # types of tokens, in sentencepiece's numbers
_, _LLAMA3, _QWEN2 = SPLITS_WORDS  # by which trees are built faster
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# `tokenizer.ggml.pre` -> the expression of words; "": GPT-2's own; "digits": that, with every digit apart.
SPLITS = {
    **dict.fromkeys(("gpt-2", "gpt2"), ""),
    **dict.fromkeys(("smollm", "command-r", "refact", "starcoder"), "digits"),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _QWEN2),
    "tekken": _TEKKEN,
}


def gguf_tokenizer(value: Callable[[str], Any], path: Path) -> "transformers.PreTrainedTokenizerFast | None":
    """The tokenizer that metadata tell; it puts BOS and EOS where the file says that they are added.

    Args:
      value: key -> what the metadata hold; None where they do not.
      path: for messages.

    Returns: None where the file has no tokenizer.

    Raises: TokenizerError for a kind that is not supported, or lists that do not fit.
    """

    def own(key: str) -> Any:
        return value(f"tokenizer.ggml.{key}")

    kind, tokens = own("model"), own("tokens")
    if kind in (None, "none", "no_vocab") or not tokens:
        return None
    try:
        return _tokenizer(kind, tokens, own, path, value("tokenizer.chat_template"))
    except TokenizerError:
        raise
    except Exception as error:  # the library raises bare exceptions, and metadata may hold anything
        raise TokenizerError(f"{path}: the tokenizer cannot be made: {error}") from error


def _tokenizer(
    kind: str, tokens: list[str], own: Callable[[str], Any], path: Path, chat_template: str | None
) -> "transformers.PreTrainedTokenizerFast":
    kinds = own("token_type") or [1] * len(tokens)
    if len(kinds) != len(tokens) or len(own("scores") or tokens) != len(tokens):
        raise TokenizerError(f"{path}: the tokenizer's lists are not of one length")
    special = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = own(f"{key}_token_id")
        if number is not None and not 0 <= number < len(tokens):
            raise TokenizerError(f"{path}: {key}_token_id = {number}, and there are {len(tokens)} tokens")
        special[name] = None if number is None else tokens[number]
    if kind == "llama":
        tokenizer = _sentencepiece(tokens, kinds, own)
    elif kind == "gpt2":
        tokenizer = _byte_level(tokens, kinds, own, path)
    else:
        raise TokenizerError(f"{path}: tokenizer {kind!r} is not supported; supported: llama, gpt2")
    # llama.cpp's defaults where the file does not say
    bos = own("add_bos_token")
    bos = kind == "llama" or _takes_whole_words(own) if bos is None else bos
    sides = [special["bos"] if bos else None, "$A", special["eos"] if own("add_eos_token") else None]
    ids = {token: tokens.index(token) for token in (sides[0], sides[2]) if token is not None}
    if ids:
        template = " ".join(side for side in sides if side is not None)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=list(ids.items())
        )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": token for name, token in special.items() if token is not None},
    )
    made.chat_template = chat_template
    return made


def _sentencepiece(tokens: list[str], kinds: list[int], own: Callable[[str], Any]) -> tokenizers.Tokenizer:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    trainer, spec = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.byte_fallback = trainer.BPE, True
    spec.add_dummy_prefix = own("add_space_prefix") is not False
    spec.remove_extra_whitespaces = False
    for token, score, kind in zip(tokens, own("scores") or [0.0] * len(tokens), kinds, strict=True):
        # Writers of these files put spaces for sentencepiece's own sign into what users defined.
        piece = token.replace(" ", SPACE) if kind == USER_DEFINED else token
        proto.pieces.add(piece=piece, score=score, type=kind)
    return convert_sentencepiece(proto)


def _byte_level(
    tokens: list[str], kinds: list[int], own: Callable[[str], Any], path: Path
) -> tokenizers.Tokenizer:
    pre, merges = own("pre"), own("merges")
    if pre not in SPLITS:
        raise TokenizerError(
            f"{path}: tokenizer.ggml.pre = {pre!r} is not supported; supported: {', '.join(SPLITS)}"
        )
    if not merges:
        raise TokenizerError(
            f"{path}: the tokenizer has no merges, without which texts are bytes; take another file"
        )
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    if odd := [pair for pair in pairs if "".join(pair) not in vocabulary]:  # over which the library panics
        raise TokenizerError(f"{path}: the merge {' '.join(odd[0])!r} makes what is no token")
    tokenizer = tokenizers.Tokenizer(BPE(vocabulary, pairs, ignore_merges=_takes_whole_words(own)))
    expression = SPLITS[pre]
    words = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=expression in ("", "digits"))]
    if expression == "digits":
        words.insert(0, pre_tokenizers.Digits(individual_digits=True))
    elif expression:
        words.insert(0, pre_tokenizers.Split(tokenizers.Regex(expression), behavior="isolated"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(words)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            tokenizers.AddedToken(token, normalized=False, special=kind == CONTROL)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]
    )
    return tokenizer


def _takes_whole_words(own: Callable[[str], Any]) -> bool:
    """As llama.cpp does of these: a word that is a token is that token, and BOS stands before a text."""
    return own("model") == "gpt2" and SPLITS.get(own("pre")) in (_LLAMA3, _TEKKEN)
