"""Where a text may be cut so that its parts, tokenised apart, give the tokens of the whole.

A cut lies before a single space between two letters, digits or common punctuation marks: "born| in". Nothing that the
known kinds of tokenizers do looks across it:

* normalizers: Unicode forms compose a character with marks that follow it, and here a space does;
* pre-tokenizers: those that split at spaces (the published regular expressions, Metaspace) split there;
* BPE without such a one: no merge crosses the cut where no piece of the vocabulary holds a space behind another
  character, and merges on its two sides do not depend on each other;
* added tokens: none holds a space behind another character, and none takes in the spaces beside it.

Where any of this is not known of a tokenizer, there are no cuts, and every text is tokenised whole. In languages that
write no spaces (Japanese, Chinese) there are none either.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from consistency_jax.data.trees.tokenization import dummy_space_stays, has_dummy_space

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
_CUT = re.compile(
    rf"(?<={_BESIDE})(?= {_BESIDE})"
)  # no normalizer makes a space of those, or joins one to them
_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend", "Precompiled", "Strip")
_SPACE_BEHIND = re.compile("[^ ▁Ġ][ ▁Ġ]")


@dataclass(frozen=True)
class Cutter:
    """Finds the cuts nearest to an answer.

    Attributes:
        barred: what no text on the right of a cut may hold: added tokens, where the tokenizer puts a space before a
            text and before what follows such a token.
    """

    barred: re.Pattern[str] | None

    def __call__(self, head: str, answers: Sequence[str], rest: str) -> tuple[int, int]:
        """Where to cut the texts `head + answer + rest`: characters of head, of rest, that stay out of the middle."""
        before, behind = _before(head, answers), _behind(rest)
        if self.barred is not None and self.barred.search("\n".join((head[before:], *answers, rest))):
            return 0, len(rest)
        return before, behind

    def words(self, text: str) -> list[str]:
        """The text cut wherever it can be."""
        if self.barred is not None and self.barred.search(text):
            return [text]
        return _CUT.split(text)


def _before(head: str, answers: Sequence[str]) -> int:
    """The last cut before all answers; 0 where there is none."""
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
    """The first cut inside `rest`; its length where there is none."""
    found = _CUT.search(rest)
    return found.start() if found else len(rest)


def _plain(character: str) -> bool:
    """Whether it may stand beside a cut, as in `_CUT`."""
    return character.isalnum() or character in _PUNCTUATION and character != ""


def cutter_of(tokenizer: Any) -> Cutter | None:
    """The cutter of a fast tokenizer of transformers; None where it is not known to allow cuts."""
    if tokenizer not in _CUTTERS:
        _CUTTERS[tokenizer] = _make(tokenizer)
    return _CUTTERS[tokenizer]


_CUTTERS: WeakKeyDictionary = WeakKeyDictionary()


def _make(tokenizer: Any) -> Cutter | None:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    added = state["added_tokens"]
    if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added):
        return None
    if any(_SPACE_BEHIND.search(token["content"]) for token in added):
        return None
    splits = [_splits(part) for part in _parts(state["pre_tokenizer"], "pretokenizers")]
    if not all(map(_harmless, _parts(state["normalizer"], "normalizers"))) or None in splits:
        return None
    if not any(splits) and not _merges_stay_apart(state["model"], state["pre_tokenizer"]):
        return None
    if dummy_space_stays(tokenizer):
        return None
    contents = "|".join(re.escape(token["content"]) for token in added)
    return Cutter(re.compile(contents) if contents and has_dummy_space(tokenizer) else None)


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
        return normalizer["pattern"] in ({"String": " "}, {"Regex": " {2,}"})
    return normalizer["type"] in _NORMALIZERS


def _splits(part: dict[str, Any]) -> bool | None:
    """Whether a pre-tokenizer splits at every cut; None for one that is not known."""
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
    space = "Ġ" if any(p["type"] == "ByteLevel" for p in _parts(pre_tokenizer, "pretokenizers")) else "▁"
    return space in model["vocab"] and not any(map(_SPACE_BEHIND.search, model["vocab"]))
