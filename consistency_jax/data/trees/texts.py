"""The texts that trees are made of, each distinct one (and, where it can be split, each word) tokenized once."""

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from consistency_jax.data.trees.forest import ranges
from consistency_jax.data.trees.tokenization import (
    encode,
    encode_continuations,
    first_answer_token,
    splitter_of,
)

NOWHERE = -1  # a text in which no answer starts


@dataclass(frozen=True)
class Tokenized:
    """Tokens of distinct texts, and which of them make up n trees with S branches.

    Attributes:
        token: i32[P], the tokens of all texts; token[0] is left free for one that starts a trunk.
        begin, length: i64[texts], where a text's tokens lie.
        first: i64[texts], the first of them that covers a character of the answer.
        size: i64[texts], UTF-8 bytes.
        prefix, suffix: i64[n], texts; branches: i64[n], K of each tree; shift: i64[n], as in `Texts.add`.
        middle: i64[S], texts.
    """

    token: np.ndarray
    begin: np.ndarray
    length: np.ndarray
    first: np.ndarray
    size: np.ndarray
    prefix: np.ndarray
    suffix: np.ndarray
    branches: np.ndarray
    shift: np.ndarray
    middle: np.ndarray

    def common(self) -> np.ndarray:
        """i64[n]: how many tokens the K sequences middle + suffix of a tree have in common."""
        common, alive = np.zeros(len(self.branches), np.int64), np.arange(len(self.branches))
        opener = np.cumsum(self.branches) - self.branches
        middle, suffix = self.middle, np.repeat(self.suffix, self.branches)
        count, j = self.branches, 0
        single = opener[count == 1]
        common[count == 1] = self.length[middle[single]] + self.length[suffix[single]]
        going = count > 1
        while going.any():
            kept = np.repeat(going, count)
            alive, count, middle, suffix = alive[going], count[going], middle[kept], suffix[kept]
            opener = np.cumsum(count) - count
            size = self.length[middle]
            at = np.where(j < size, self.begin[middle] + j, self.begin[suffix] + j - size)
            token = np.where(
                j < size + self.length[suffix], self.token[np.minimum(at, len(self.token) - 1)], -1
            )
            least = np.minimum.reduceat(token, opener)
            going = (least == np.maximum.reduceat(token, opener)) & (least >= 0)
            common[alive[going]] += 1
            j += 1
        return common


class Texts:
    """Collects the texts of trees, so that each distinct one is tokenized once.

    A text that opens a string, one that goes on from another, and one in which an answer starts at some character are
    different texts to a tokenizer: each kind has its own pool, text -> its number there.
    """

    def __init__(self) -> None:
        self._opening: dict[str, int] = {}
        self._following: dict[str, int] = {}
        self._pools = {(True, NOWHERE): self._opening, (False, NOWHERE): self._following}
        self._order = {kind: n for n, kind in enumerate(self._pools)}
        self._trees: list[tuple[int, int, int, int, int]] = []
        self._middles = array("q")

    def add(self, prefix: str, middles: Sequence[str], suffix: str, start: int, shift: int) -> None:
        """One item in one language, split: its text k is prefix + middles[k] + suffix.

        Args:
            prefix: what stands before all that depends on the candidate.
            middles: K texts, each with its candidate.
            suffix: what stands behind.
            start: characters of a middle before the answer; NOWHERE: all of the middle is the answer.
            shift: UTF-8 bytes of an answer with the rest of its sentence, less those of its middle.
        """
        kind = (not prefix, start)
        if kind not in self._pools:
            self._pools[kind], self._order[kind] = {}, len(self._order)
        pool, opening, following = self._pools[kind], self._opening, self._following
        self._middles.extend([pool.setdefault(text, len(pool)) for text in middles])
        before = opening.setdefault(prefix, len(opening))
        behind = following.setdefault(suffix, len(following))
        self._trees.append((self._order[kind], before, behind, len(middles), shift))

    def find(self, pattern: re.Pattern[str]) -> bool:
        """Whether a pattern that spans no lines is in any of the texts. (Their seams lie before a space.)"""
        return any(pattern.search("\n".join(pool)) for pool in self._pools.values())

    def encode(self, tokenizer: Any, special: bool, own_bos: int | None) -> Tokenized:
        """Tokenizes every text once.

        Args:
            tokenizer: a fast tokenizer of transformers.
            special: whether special tokens in a text are such (in a rendered chat) or ordinary characters.
            own_bos: a BOS that texts may open with, to be left out; None for none.
        """
        tokens, lengths, firsts, sizes = [np.zeros(1, np.int32)], [], [], []
        for (opening, start), pool in self._pools.items():
            texts = list(pool)
            if start == NOWHERE:
                token, length = _encode_words(tokenizer, texts, opening, special)
                first = np.zeros(len(texts), np.int64)
            else:
                token, length, first = _encode_whole(tokenizer, texts, opening, special, start)
            if opening and own_bos is not None:
                begin = np.cumsum(length) - length
                owned = np.flatnonzero(length)
                owned = owned[token[begin[owned]] == own_bos]
                token = np.delete(token, begin[owned])
                length[owned] -= 1
                first[owned] = np.maximum(first[owned] - 1, 0)
            tokens.append(token)
            lengths.append(length)
            firsts.append(first)
            sizes.append(np.fromiter((len(text.encode()) for text in texts), np.int64, len(texts)))
        counts = np.array([len(pool) for pool in self._pools.values()])
        base = np.cumsum(counts) - counts
        pool, prefix, suffix, branches, shift = np.array(self._trees, np.int64).reshape(-1, 5).T
        length = np.concatenate(lengths)
        return Tokenized(
            token=np.concatenate(tokens),
            begin=1 + np.cumsum(length) - length,
            length=length,
            first=np.concatenate(firsts),
            size=np.concatenate(sizes),
            prefix=prefix + base[0],
            suffix=suffix + base[1],
            branches=branches,
            shift=shift,
            middle=np.array(self._middles, np.int64) + np.repeat(base[pool], branches),
        )


def _encode_whole(
    tokenizer: Any, texts: list[str], opening: bool, special: bool, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens of texts, end to end, i32[P]; how many each has, and the first from character `start` on, i64[texts]."""
    call = encode if opening else encode_continuations
    token, length, first = array("i"), array("q"), array("q")
    for encoding in call(tokenizer, texts, special=special, offsets=True):
        ids = encoding.ids
        token.extend(ids)
        length.append(len(ids))
        first.append(first_answer_token(encoding, start))
    return np.array(token, np.int32), np.array(length, np.int64), np.array(first, np.int64)


def _encode_words(
    tokenizer: Any, texts: list[str], opening: bool, special: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of texts, end to end, i32[P], and how many each has, i64[texts]: each distinct word is tokenized once."""
    splitter = splitter_of(tokenizer)
    heads: dict[str, int] = {}  # the first words of texts that open a string
    others: dict[str, int] = {}
    words, counts = array("q"), array("q")  # ~n stands for the n-th head
    for text in texts:
        own = splitter.words(text) if splitter is not None else [text]
        at = 0
        if opening:
            words.append(~heads.setdefault(own[0], len(heads)))
            at = 1
        words.extend([others.setdefault(word, len(others)) for word in own[at:]])
        counts.append(len(own))
    token, length = array("i"), array("q")
    for call, known in ((encode_continuations, others), (encode, heads)):
        for encoding in call(tokenizer, list(known), special=special, offsets=False):
            ids = encoding.ids
            token.extend(ids)
            length.append(len(ids))
    sizes, number, count = (np.array(values, np.int64) for values in (length, words, counts))
    number = np.where(number < 0, len(others) + ~number, number)
    tokens = np.array(token, np.int32)[ranges((np.cumsum(sizes) - sizes)[number], sizes[number])]
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[number])])
    ends = np.cumsum(count)
    return tokens, total[ends] - total[ends - count]
