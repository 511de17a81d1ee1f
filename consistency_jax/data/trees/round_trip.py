"""Which texts a tokenizer does not give back: what it drops or rewrites, a model can neither read nor be asked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consistency_jax.data.items import MASK, ParallelItem, open_prompt
from consistency_jax.data.trees.tokenization import encode

SAMPLE = 2000  # texts
AROUND = 12  # characters shown on each side of the first difference


@dataclass(frozen=True)
class RoundTrip:
    """What came of encoding and decoding texts.

    Attributes:
        checked: number of texts.
        changed: language -> how many of its texts did not come back as they were (languages with none left out).
        first: the first of those in each language: (item id, the text around the change, what came back).
    """

    checked: int
    changed: dict[str, int]
    first: dict[str, tuple[str, str, str]]

    def __str__(self) -> str:
        """One line for the terminal."""
        language, (item, text, read) = next(iter(self.first.items()))
        counts = ", ".join(f"{language} {count}" for language, count in self.changed.items())
        return (
            f"{sum(self.changed.values())} of {self.checked:,} sampled texts do not read back from their tokens "
            f"as written ({counts}); the first: item {item!r} in {language!r}, {text!r} reads {read!r}"
        )


def round_trip(
    tokenizer: Any, items: Sequence[ParallelItem], languages: Sequence[str], sample: int = SAMPLE
) -> RoundTrip:
    """Encodes and decodes prompts, each with its context and its first candidate, and compares.

    Args:
        tokenizer: a fast tokenizer of transformers.
        items: of which about `sample` / L, evenly spaced, are looked at in each of the languages.
        languages: L languages.
        sample: most texts to look at (one item's at least).
    """
    step = -(-len(items) * len(languages) // sample) or 1
    named = [
        (item.id, language, _text(item, language))
        for item in items[::step]
        for language in languages
        if language in item.prompts
    ]
    ids = [e.ids for e in encode(tokenizer, [text for _, _, text in named], offsets=False)]
    decoded = tokenizer.backend_tokenizer.decode_batch(ids, skip_special_tokens=False)
    changed: Counter[str] = Counter()
    first: dict[str, tuple[str, str, str]] = {}
    for (item, language, text), read in zip(named, decoded):
        if read != text:
            changed[language] += 1
            first.setdefault(language, (item, *_difference(text, read)))
    return RoundTrip(len(named), dict(changed), first)


def _text(item: ParallelItem, language: str) -> str:
    prompt, first = item.prompts[language], "".join(item.candidates[language][:1])
    filled = prompt if MASK in prompt else prompt + MASK
    return open_prompt(item, language, filled.replace(MASK, first))


def _difference(text: str, read: str) -> tuple[str, str]:
    """Both texts around the first character that differs."""
    pairs = enumerate(zip(text, read))
    at = next((i for i, (a, b) in pairs if a != b), min(len(text), len(read)))
    around = slice(max(at - AROUND, 0), at + AROUND)
    return text[around], read[around]
