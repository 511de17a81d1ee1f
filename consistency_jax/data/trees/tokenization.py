"""A fast tokenizer as trees need it: continuations, where an answer's tokens start, and where texts may be split."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from consistency_jax.data.items import DataError

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


def bos_of(tokenizer: Any) -> int | None:
    """The token that a tokenizer itself puts before a text, its BOS; None where it puts none.

    What it names does not count, but what a call with special tokens gives: some name a BOS that they put nowhere (it
    opens the turns of a chat), others put one that no file beside tokenizer.json names.

    Raises:
        DataError: where it puts several.
    """
    encoding = _unlimited(tokenizer.backend_tokenizer).encode("a", add_special_tokens=True)
    put = list(takewhile(lambda pair: pair[1], zip(encoding.ids, encoding.special_tokens_mask, strict=True)))
    if len(put) > 1:
        raise DataError.at(
            "the tokenizer",
            f"it puts {len(put)} tokens before a text ({' '.join(encoding.tokens[: len(put)])})",
            "Only one is supported: change the post_processor of its tokenizer.json",
        )
    return put[0][0] if put else None


def puts_space(tokenizer: Any) -> bool:
    """Whether a tokenizer puts a space before a text."""
    return _opens_with_space(_unlimited(tokenizer.backend_tokenizer), "a")


def without_row(tokens: Sequence[int] | np.ndarray, rows: int) -> str:
    """Says which token an embedding of so many rows has none for; "" where it has one for each."""
    most = int(np.max(tokens, initial=0))
    return f"the token {most}, and the model's embedding has rows 0 to {rows - 1}" if most >= rows else ""


def tokenizer_key(tokenizer: Any) -> str:
    """A key of all that a tokenizer makes of a text or a conversation, wherever its files lie."""
    told = [tokenizer.special_tokens_map, tokenizer.chat_template]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    digest.update(_unlimited(tokenizer.backend_tokenizer).to_str().encode())
    return digest.hexdigest()


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
    if getattr(backend.model, "dropout", None):  # BPE's, for training: other tokens each time
        backend.model.dropout = None
    return backend


def _continuation_backend(backend: Any) -> Any:
    if not _opens_with_space(backend, "a") and (_opens_with_space(backend, " a") or not _lost_space(backend)):
        return backend
    state = json.loads(backend.to_str())
    for part in ("normalizer", "pre_tokenizer"):
        state[part] = _without_dummy_space(state[part])
    changed = type(backend).from_str(json.dumps(state))
    if _opens_with_space(changed, "a") or not _opens_with_space(changed, " a"):
        # Settings of an unknown kind: let the dummy space stand for the one that most answers begin with.
        return backend
    return changed


def _lost_space(backend: Any) -> bool:
    """Whether a space goes that opens a text, and stays inside of one."""
    ids = [backend.encode(text, add_special_tokens=False).ids for text in ("a", " a", "b a", "ba")]
    return ids[0] == ids[1] and ids[2] != ids[3]


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


# ------------------------------------------------------------------------------------------------ splitting texts
# The regular expressions of GPT-2, and of cl100k and its relatives: no match goes on from another character to a space.
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS_WORDS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    _CL100K % r"\p{N}{1,3}",
    _CL100K % r"\p{N}",
)
_PUNCTUATION = ".,;:!?()[]\"'«»“”’–—-…=/"
_BESIDE = rf"(?:[^\W_]|[{re.escape(_PUNCTUATION)}])"
# No normalizer makes a space of those, or joins one to them.
_SPLIT = re.compile(rf"(?<={_BESIDE})(?= {_BESIDE})")
_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend", "Precompiled", "Strip")
_SPACE_BEHIND = re.compile("[^ ▁Ġ][ ▁Ġ]")


@dataclass(frozen=True)
class Splitter:
    """Splits texts where their parts, tokenized apart, give the tokens of the whole.

    A split lies before a single space between two letters, digits or common punctuation marks: "born| in". Nothing that
    the known kinds of tokenizers do looks across it:

    * normalizers: Unicode forms compose a character with marks that follow it, and here a space does;
    * pre-tokenizers: those that split at spaces (the published regular expressions, Metaspace) split there;
    * BPE without such a one: no merge crosses it where no entry of the vocabulary holds a space behind another
      character, and merges on its two sides do not depend on each other;
    * added tokens: none holds a space behind another character, and none takes in the spaces beside it.

    Where any of this is not known of a tokenizer it has no splitter, and every text is tokenized whole: a wrong split
    would give other tokens than the model was trained on, and nobody would see it. In languages that write no spaces
    (Japanese, Chinese) there is nothing to split either. It is worth the care: a prompt that thousands of items share
    is tokenized once, and of each string only what its answer can change.

    Attributes:
        barred: what no text on the right of a split may hold: added tokens, where the tokenizer puts a space before a
            text and before what follows such a token.
    """

    barred: re.Pattern[str] | None

    def around(self, head: str, answers: Sequence[str], rest: str) -> tuple[int, int]:
        """The splits nearest to the answers in `head + answer + rest`: characters of head before the one, and of rest
        before the other."""
        before, behind = _before(head, answers), _behind(rest)
        near = head[before:]
        if self.barred is not None and self.barred.search("\n".join(f"{near}{own}{rest}" for own in answers)):
            return 0, len(rest)
        return before, behind

    def words(self, text: str) -> list[str]:
        """The text split wherever it can be."""
        if self.barred is not None and self.barred.search(text):
            return [text]
        return _SPLIT.split(text)


def _before(head: str, answers: Sequence[str]) -> int:
    """The last split before all answers; 0 where there is none."""
    if not head:
        return 0
    opens = [answer[:2] for answer in answers]
    if head[-1] == " ":
        if _plain(head[-2:-1]) and all(map(_plain, {text[0] for text in opens})):
            return len(head) - 1
    elif _plain(head[-1]) and all(text[0] == " " and _plain(text[1:]) for text in set(opens)):
        return len(head)
    at = head.rfind(" ")
    while at > 0:
        if _plain(head[at - 1]) and _plain(head[at + 1 : at + 2]):
            return at
        at = head.rfind(" ", 0, at)
    return 0


def _behind(rest: str) -> int:
    """The first split inside `rest`; its length where there is none."""
    found = _SPLIT.search(rest)
    return found.start() if found else len(rest)


def _plain(character: str) -> bool:
    """Whether it may stand beside a split, as in `_SPLIT`."""
    return character.isalnum() or character in _PUNCTUATION and character != ""


def splitter_of(tokenizer: Any) -> Splitter | None:
    """The splitter of a fast tokenizer of transformers; None where it is not known to allow splits."""
    if tokenizer not in _SPLITTERS:
        _SPLITTERS[tokenizer] = _make(tokenizer)
    return _SPLITTERS[tokenizer]


_SPLITTERS: WeakKeyDictionary = WeakKeyDictionary()


def _make(tokenizer: Any) -> Splitter | None:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    added = state["added_tokens"]
    if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added):
        return None
    if any(_SPACE_BEHIND.search(token["content"]) for token in added):
        return None
    parts = list(_parts(state["pre_tokenizer"], "pretokenizers"))
    if any(part.get("add_prefix_space") or part.get("prepend_scheme") == "always" for part in parts[1:]):
        return None  # a space before each piece of those before it
    splits = [_splits(part) for part in parts]
    steps = list(_parts(state["normalizer"], "normalizers"))
    if any(step["type"] == "Replace" and step["pattern"] == {"String": " "} for step in steps) and any(
        own and part["type"] != "Metaspace" for own, part in zip(splits, parts, strict=True)
    ):
        return None  # expressions find no spaces any more
    if not all(map(_harmless, steps)) or None in splits:
        return None
    if not any(splits) and not _merges_stay_apart(state["model"], state["pre_tokenizer"]):
        return None
    continuing = _continuing(tokenizer)
    if _opens_with_space(continuing, "a") or _lost_space(continuing):
        return None  # it is not known how to take the dummy space away, or how to keep one that is there
    dummy = _opens_with_space(tokenizer.backend_tokenizer, "a")
    rewrites = any(step["type"] not in ("Prepend", "Replace", "Strip") for step in steps)
    if dummy and rewrites and any(token["normalized"] for token in added):
        return None  # they are found in texts that spell them in other ways
    contents = "|".join(re.escape(token["content"]) for token in added)
    return Splitter(re.compile(contents) if contents and dummy else None)


def _parts(part: Any, key: str) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, out of their sequences."""
    if part is not None:
        if part["type"] == "Sequence":
            for inner in part[key]:
                yield from _parts(inner, key)
        else:
            yield part


def _harmless(normalizer: dict[str, Any]) -> bool:
    if normalizer["type"] == "Replace":
        pattern, content = normalizer["pattern"], normalizer["content"]
        return (
            pattern == {"String": " "} and content == "▁" or pattern == {"Regex": " {2,}"} and content in " ▁"
        )
    return normalizer["type"] in _NORMALIZERS


def _splits(part: dict[str, Any]) -> bool | None:
    """Whether a pre-tokenizer splits at all such places; None for one that is not known."""
    if part["type"] == "Metaspace":
        return part.get("split", True)
    if part["type"] == "ByteLevel":
        return part["use_regex"]
    if part["type"] in ("Digits", "Punctuation"):
        return False
    if part["type"] == "Split" and part["pattern"].get("Regex") in SPLITS_WORDS and not part["invert"]:
        return part["behavior"] == "Isolated" or None
    if part["type"] == "Split" and part["pattern"] == {"String": " "}:
        return False  # its spaces are "▁" by then
    return None


def _merges_stay_apart(model: dict[str, Any], pre_tokenizer: Any) -> bool:
    if model["type"] != "BPE" or model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        return False
    if model.get("ignore_merges"):  # a part may be an entry of the vocabulary, which the whole text is not
        return False
    space = "Ġ" if any(p["type"] == "ByteLevel" for p in _parts(pre_tokenizer, "pretokenizers")) else "▁"
    return space in model["vocab"] and not any(map(_SPACE_BEHIND.search, model["vocab"]))
