"""What is asked of all items at once, and takes none of their texts: in which languages they are, with how many
candidates, which is right, and keys of what they say. Items that lie on disk (`stored_items.py`) know it; of others it
is told from the items themselves."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from consistency_jax.data.items import DataError, Items, ItemSequence, ParallelItem, open_prompt, pick

KEY = 16  # bytes of an item's key
MANY = 50_000  # items, from which on their key is made of each one's


def known_languages(items: Sequence[ParallelItem]) -> tuple[str, ...]:
    """The L languages that facts are about; some may be of items that were left out."""
    return getattr(items, "known", None) or Items(items).languages


def _there(items: Sequence[ParallelItem]) -> np.ndarray:
    languages = known_languages(items)
    return np.array([[l in item.prompts for l in languages] for item in items], bool).reshape(
        len(items), len(languages)
    )


def _prompts(items: Sequence[ParallelItem]) -> np.ndarray:
    def key(text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    languages = known_languages(items)
    keys = [[key(open_prompt(item, l)) if l in item.prompts else 0 for l in languages] for item in items]
    return np.array(keys, np.uint64).reshape(len(items), len(languages))


def _one_right(item: ParallelItem) -> ParallelItem:
    kept = sorted({*item.wrong, *item.right[:1]})
    return item if len(kept) == item.num_candidates else pick(item, kept)


def all_said(item: ParallelItem) -> bytes:
    """All that an item says, but for where it was read."""
    # Without fields of later versions where they are empty, so that items keep the key that they had.
    fields = {k: value for k, value in vars(item).items() if k != "where" and value not in ((), {})}
    return json.dumps(fields, sort_keys=True).encode()


def _keys(items: Sequence[ParallelItem]) -> np.ndarray:
    keys = b"".join(hashlib.blake2b(all_said(item), digest_size=KEY).digest() for item in items)
    return np.frombuffer(keys, np.uint8).reshape(-1, KEY)


# Of n items in the L `known_languages`.
FACTS: dict[str, Callable[[Sequence[ParallelItem]], np.ndarray]] = {
    "there": _there,  # bool[n, L], the languages that each has
    "candidates": lambda items: np.array([item.num_candidates for item in items], np.int32),
    "gold": lambda items: np.array([-1 if item.gold is None else item.gold for item in items], np.int32),
    "settled": lambda items: np.array([_one_right(item) is item for item in items], bool),
    "prompts": _prompts,  # u64[n, L], a key of each prompt behind its context; 0 where there is none
    "keys": _keys,  # u8[n, 16], of all that an item says
}


def fact(items: Sequence[ParallelItem], name: str) -> np.ndarray:
    """One of `FACTS`."""
    known: dict[str, np.ndarray] | None = getattr(items, "facts", None)
    return FACTS[name](items) if known is None else known[name]


def by_language(items: Sequence[ParallelItem], name: str, languages: Sequence[str]) -> np.ndarray:
    """One of `FACTS` [n, L'] for these languages; 0 for one that no item has."""
    values, known = fact(items, name), known_languages(items)
    found = np.zeros((len(items), len(languages)), values.dtype)
    for column, language in enumerate(languages):
        if language in known:
            found[:, column] = values[:, known.index(language)]
    return found


def item_arrays(items: Sequence[ParallelItem], languages: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The mask bool[n, L, K] and gold i32[n] (-1 unknown) of items in L languages."""
    count = fact(items, "candidates")
    mask = by_language(items, "there", languages)[:, :, None] & (
        np.arange(count.max(initial=0)) < count[:, None, None]
    )
    return mask, fact(items, "gold")


def require_answers(items: Sequence[ParallelItem], where: str) -> None:
    """Refuses items without candidates, which nothing can be scored or trained by.

    Raises:
        DataError: naming the place and the first such item.
    """
    if len(bare := np.flatnonzero(fact(items, "candidates") == 0)):
        raise DataError.at(
            where,
            f"item {items[bare[0]].id!r} is a bare prompt: there is no answer to score",
            "Take a source with candidates; or have it answered in words: consistency-jax ask",
        )


def with_one_right(items: ItemSequence) -> ItemSequence:
    """The items with their gold candidate and the wrong ones alone, for what tells a right answer from a wrong one;
    themselves where none has more."""
    return items if fact(items, "settled").all() else items.only(map(_one_right, items))


def items_digest(parts: Iterable[tuple[Sequence[ParallelItem], Sequence[str]]], fast: bool = False) -> str:
    """A key of items, all that they say and their order, and of the languages taken of them; of several such parts.

    Args:
        fast: another key of many items, made of theirs, which are known where they lie on disk.
    """
    digest = hashlib.sha256()
    for items, languages in parts:
        digest.update(json.dumps(list(languages)).encode())
        for part in [fact(items, "keys").tobytes()] if fast and len(items) >= MANY else map(all_said, items):
            digest.update(part)
    return digest.hexdigest()[:32]
