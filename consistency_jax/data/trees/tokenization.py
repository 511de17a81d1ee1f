"""Calling a fast tokenizer as trees need it: batches, continuations, and where an answer's tokens start."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

ENCODE_CHUNK = 8192  # texts


def first_answer_token(encoding: Any, start: int) -> int:
    """Index of the first token covering a character at `start` or later; len(tokens) where none does."""
    first = encoding.char_to_token(start)
    if first is not None:
        return first
    # The character itself has no token (offsets without spaces, or dropped by the normalizer).
    ends = (i for i, (_, end) in enumerate(encoding.offsets) if end > start)
    return next(ends, len(encoding.ids))


def encode(tokenizer: Any, texts: list[str], *, special: bool = False, offsets: bool = True) -> Iterator[Any]:
    """The encoding of each text; nothing is put around it.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: what to encode.
        special: whether "</s>" in a text is the special token (in a rendered chat) or four characters.
        offsets: False is faster, and leaves the encodings without true offsets.
    """
    return _encode(tokenizer.backend_tokenizer, texts, special, offsets)


def encode_continuations(
    tokenizer: Any, texts: list[str], *, special: bool = False, offsets: bool = False
) -> Iterator[Any]:
    """The encoding of texts that go on from others: no dummy space in front. Arguments as for `encode`.

    Sentencepiece models (and some byte-level ones) are trained to put a space before every text. Between a
    prompt and its answer that would double a space that is there, and make one up where none is written.
    """
    return _encode(_continuing(tokenizer), texts, special, offsets)


def tokenizer_key(tokenizer: Any) -> str:
    """A key of all that a tokenizer makes of a text or a conversation, wherever its files lie."""
    told = [tokenizer.special_tokens_map, tokenizer.chat_template]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    digest.update(_unlimited(tokenizer.backend_tokenizer).to_str().encode())
    return digest.hexdigest()


def has_dummy_space(tokenizer: Any) -> bool:
    """Whether a tokenizer puts a space before every text."""
    return _opens_with_space(tokenizer.backend_tokenizer, "a")


def dummy_space_stays(tokenizer: Any) -> bool:
    """Whether a tokenizer puts a space before every text, continuations too: it is not known how to take it away."""
    return _opens_with_space(_continuing(tokenizer), "a")


def _continuing(tokenizer: Any) -> Any:
    if tokenizer not in _CONTINUATIONS:
        _CONTINUATIONS[tokenizer] = _continuation_backend(tokenizer.backend_tokenizer)
    return _CONTINUATIONS[tokenizer]


_CONTINUATIONS: WeakKeyDictionary = WeakKeyDictionary()


def _encode(backend: Any, texts: list[str], special: bool, offsets: bool) -> Iterator[Any]:
    backend = _unlimited(backend)
    backend.encode_special_tokens = not special  # True stands for: as ordinary text
    batch = backend.encode_batch if offsets else backend.encode_batch_fast
    # A chunk at a time: an encoding takes a kilobyte or more.
    for start in range(0, len(texts), ENCODE_CHUNK):
        yield from batch(texts[start : start + ENCODE_CHUNK], add_special_tokens=False)


def _unlimited(backend: Any) -> Any:
    """The backend without settings that a tokenizer file may carry, and that transformers sets on each of its calls."""
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    return backend


def _continuation_backend(backend: Any) -> Any:
    if not _opens_with_space(backend, "a"):
        return backend
    state = json.loads(backend.to_str())
    for part in ("normalizer", "pre_tokenizer"):
        state[part] = _without_dummy_space(state[part])
    changed = type(backend).from_str(json.dumps(state))
    if _opens_with_space(changed, "a") or not _opens_with_space(changed, " a"):
        # Settings of an unknown kind: let the dummy space stand for the one that most answers begin with.
        return backend
    return changed


def _opens_with_space(backend: Any, text: str) -> bool:
    tokens = backend.encode(text, add_special_tokens=False).tokens
    return bool(tokens) and tokens[0].startswith(("▁", "Ġ"))


def _without_dummy_space(part: Any) -> Any:
    """A normalizer's or pre-tokenizer's settings without what puts a space before a text."""
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Prepend":
        return None
    if part.get("type") == "Replace" and "^" in part["pattern"].get("Regex", ""):
        return None  # like Strip below
    part = dict(part)
    for key in ("normalizers", "pretokenizers"):
        if key in part:
            part[key] = [p for p in map(_without_dummy_space, part[key]) if p is not None]
    if part.get("type") == "Metaspace":
        part["prepend_scheme"] = "never"
    if part.get("type") == "Strip":
        part["strip_left"] = False  # else the space that is there would go with the one that is not
    if "add_prefix_space" in part:
        part["add_prefix_space"] = False
    return part
