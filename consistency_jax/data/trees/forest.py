"""Token trees: a trunk that all K candidates of a prompt share, and K branches.

A `Forest` holds N of them end to end in a few flat arrays, five bytes a token: trees are built, measured, taken and
packed without a Python object each. A `Tree` is a single one, made by hand or looked at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from consistency_jax.data.items import DataError
from consistency_jax.data.trees.tokenization import without_row
from consistency_jax.runtime.files import read_arrays, write_arrays

UNCOUNTED, PROMPT, ANSWER = 0, 1, 2
TREES = 65_536  # looked at at once, or segments, where that takes many bytes a token


@dataclass(frozen=True)
class Tree:
    """One item in one language, as tokens.

    Attributes:
        trunk: i32[P], P >= 1, BOS first where the tokenizer has one.
        branches: K arrays i32; an empty one's answer lies wholly in the trunk.
        trunk_kind: u8[P], UNCOUNTED (BOS), PROMPT or ANSWER.
        branch_kinds: K arrays u8, the same for the branches.
        bytes: i32[K], UTF-8 bytes of the answer, with the rest of the sentence after a mask.
        truncated: tokens cut from the left of the trunk.
    """

    trunk: np.ndarray
    branches: tuple[np.ndarray, ...]
    trunk_kind: np.ndarray
    branch_kinds: tuple[np.ndarray, ...]
    bytes: np.ndarray
    truncated: int = 0

    @classmethod
    def of_tokens(cls, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> "Tree":
        """A prompt and its answers that are tokens already; the prompt's first one (BOS) is not counted."""
        kind = np.full(len(prompt), PROMPT, np.uint8)
        kind[0] = UNCOUNTED
        return cls(
            np.array(prompt, np.int32),
            tuple(np.array(answer, np.int32) for answer in answers),
            kind,
            tuple(np.full(len(answer), ANSWER, np.uint8) for answer in answers),
            np.zeros(len(answers), np.int32),
        )


@dataclass(frozen=True, eq=False)
class Forest(Sequence[Tree | None]):
    """N trees (or gaps, where an item lacks a language) laid end to end: S segments, P tokens.

    The segments of a tree are its trunk, branch 0, branch 1, ...

    Attributes:
        segments: i64[N], segments of a tree, 1 + K; 0 for a gap.
        length: i64[S], tokens of a segment.
        token: i32[P]; kind: u8[P].
        bytes: i32[S], of a branch as in `Tree`; 0 of a trunk.
        truncated: i64[N].
    """

    segments: np.ndarray
    length: np.ndarray
    token: np.ndarray
    kind: np.ndarray
    bytes: np.ndarray
    truncated: np.ndarray

    @classmethod
    def of(cls, trees: Sequence[Tree | None]) -> "Forest":
        """These trees end to end; None leaves a gap."""
        present = [tree for tree in trees if tree is not None]
        segments = [segment for tree in present for segment in (tree.trunk, *tree.branches)]
        kinds = [kind for tree in present for kind in (tree.trunk_kind, *tree.branch_kinds)]
        sizes = [size for tree in present for size in ((0,), tree.bytes)]

        def joined(arrays: Sequence[Any], dtype: type) -> np.ndarray:
            return np.concatenate([np.zeros(0, dtype), *arrays], dtype=dtype)

        return cls(
            segments=np.array([0 if tree is None else 1 + len(tree.branches) for tree in trees], np.int64),
            length=np.array([len(segment) for segment in segments], np.int64),
            token=joined(segments, np.int32),
            kind=joined(kinds, np.uint8),
            bytes=joined(sizes, np.int32),
            truncated=np.array([0 if tree is None else tree.truncated for tree in trees], np.int64),
        )

    @classmethod
    def concatenate(cls, forests: Iterable["Forest"]) -> "Forest":
        """All trees of these forests, in order."""
        forests = list(forests) or [cls.of([])]
        if len(forests) == 1:
            return forests[0]
        parts = {f.name: [getattr(forest, f.name) for forest in forests] for f in fields(cls)}
        return cls(**{name: np.concatenate(arrays) for name, arrays in parts.items()})

    def save(self, path: Path) -> None:
        """Writes an .npz file, about seven bytes a token."""
        write_arrays(path, {f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "Forest":
        """What `save` wrote; its arrays stay on disk, and are brought where they are looked at.

        Raises:
            ValueError: for a file that is damaged, or holds something else.
        """
        arrays = read_arrays(path, mapped=True)
        if set(arrays) != {f.name for f in fields(cls)}:
            raise ValueError(f"{path} holds no trees")
        return cls(**arrays)

    @cached_property
    def first(self) -> np.ndarray:
        """i64[N], the first segment of each tree."""
        return np.cumsum(self.segments) - self.segments

    @cached_property
    def start(self) -> np.ndarray:
        """i64[S], the first token of each segment."""
        return np.cumsum(self.length) - self.length

    @cached_property
    def branch(self) -> np.ndarray:
        """i64[S], which segment of its tree each is: 0 = trunk, k + 1 = branch k."""
        return np.arange(len(self.length)) - np.repeat(self.first, self.segments)

    @cached_property
    def fed(self) -> np.ndarray:
        """i64[S], tokens of each segment that the model is fed: not a branch's last one, which predicts nothing."""
        return np.where(self.branch == 0, self.length, np.maximum(self.length - 1, 0))

    @property
    def longest(self) -> np.ndarray:
        """i64[N], the most tokens that the model is fed of a tree's text with one of its answers; 0 of a gap."""
        found, there = np.zeros(len(self), np.int64), np.flatnonzero(self.segments)
        if len(there):
            first = self.first[there]
            found[there] = self.length[first] + np.maximum.reduceat(np.where(self.branch, self.fed, 0), first)
        return found

    def beyond(self, positions: int) -> str:
        """A word about texts that a model of so many positions was not made for; empty where there are none."""
        count = int((self.longest > positions).sum())
        what = f"{count} of {len(self)} prompts, with their longest answers, take more than the {positions} positions"
        return f"{what} that the model was made for" if count else ""

    def alike(self) -> np.ndarray:
        """bool[N], whether two branches of a tree are the same tokens."""
        places = range(0, len(self), TREES)
        parts = [self.take(np.arange(n, min(n + TREES, len(self))))._alike() for n in places]
        return np.concatenate([np.zeros(0, bool), *parts])

    def _alike(self) -> np.ndarray:
        place = np.arange(len(self.token)) - np.repeat(self.start, self.length)
        mixed = (self.token.astype(np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> 29)) * (2 * place.astype(np.uint64) + 1)  # a hash of 64 bits a segment
        key = _sums(mixed.view(np.int64), self.start, self.length)
        tree, branches = np.repeat(np.arange(len(self)), self.segments), self.branch > 0
        tree, key, length = tree[branches], key[branches], self.length[branches]
        order = np.lexsort((length, key, tree))
        same = [values[order][1:] == values[order][:-1] for values in (tree, key, length)]
        found = np.zeros(len(self), bool)
        found[tree[order][1:][np.logical_and.reduce(same)]] = True
        for n in np.flatnonzero(found).tolist():  # what is no more than the same hash
            found[n] = len({branch.tobytes() for branch in self[n].branches}) < len(self[n].branches)
        return found

    def check_rows(self, rows: int, where: str) -> None:
        """That an embedding of so many rows has one for every token; DataError that names one that has none."""
        if told := without_row(self.token, rows):
            mend = "Is it another model's tokenizer, or one with tokens added?"
            raise DataError.at(where, f"its texts hold {told}", mend)

    def per_tree(self, values: np.ndarray) -> np.ndarray:
        """i64[N], the sum of i64[S] over the segments of each tree."""
        return _sums(values, self.first, self.segments)

    def per_segment(self, chosen: np.ndarray) -> np.ndarray:
        """i64[S], how many of the chosen tokens (bool[P]) each segment has."""
        return _sums(chosen, self.start, self.length)

    @property
    def there(self) -> np.ndarray:
        """bool[N, K], the branches that each tree has; K is the most of any. `per_branch` and `bytes` in this order."""
        count = np.maximum(self.segments - 1, 0)
        return np.arange(count.max(initial=0)) < count[:, None]

    def per_branch(self, chosen: np.ndarray) -> np.ndarray:
        """i64[all branches], how many of the chosen tokens (bool[P]) each has, with those of its trunk."""
        own, branch = self.per_segment(chosen), self.branch > 0
        return own[branch] + np.repeat(own[~branch], self.segments[self.segments > 0] - 1)

    def take(self, trees: np.ndarray, branches: np.ndarray | None = None) -> "Forest":
        """Some of the trees, whole or with some of their branches.

        Args:
            trees: i64[n], their numbers, in the order asked for; -1 leaves a gap.
            branches: i64[n, K], which branches each keeps, in that order; -1, or one that it lacks, is left out.
        """
        count = np.where(trees >= 0, self.segments[trees], 0)
        if branches is None:
            segments = ranges(self.first[trees], count)
        else:
            asked = np.pad(branches + 1, ((0, 0), (1, 0)))  # behind the trunk
            kept = (asked < count[:, None]) & (asked > 0)
            kept[:, 0] = count > 0
            segments, count = (self.first[trees][:, None] + asked)[kept], kept.sum(1)
        length = self.length[segments]
        token, kind, at = np.empty(length.sum(), self.token.dtype), np.empty(length.sum(), self.kind.dtype), 0
        for part in range(0, len(segments), TREES):  # places take five times the bytes of what lies there
            own = ranges(self.start[segments[part : part + TREES]], length[part : part + TREES])
            token[at : at + len(own)], kind[at : at + len(own)] = self.token[own], self.kind[own]
            at += len(own)
        return Forest(
            count,
            length,
            token,
            kind,
            self.bytes[segments],
            np.where(trees >= 0, self.truncated[trees], 0),
        )

    def ended(self, trees: np.ndarray, end: Sequence[int]) -> "Forest":
        """The trees, with these tokens behind every answer of some of them (bool[N]), which count as the answer's."""
        branches = (self.branch > 0) & np.repeat(trees, self.segments)
        ends = (self.start + self.length)[branches]
        places = np.repeat(ends, len(end))
        return replace(
            self,
            length=self.length + len(end) * branches,
            token=np.insert(self.token, places, np.tile(np.array(end, np.int32), len(ends))),
            kind=np.insert(self.kind, places, ANSWER),
        )

    def prompts(self) -> "Forest":
        """The trees without their answers: trunks up to the first token of one."""
        trunk = self.branch == 0
        kept = np.repeat(trunk, self.length) & (self.kind != ANSWER)
        return Forest(
            np.minimum(self.segments, 1),
            self.per_segment(kept)[trunk],
            self.token[kept],
            self.kind[kept],
            self.bytes[trunk],
            self.truncated,
        )

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, n: int) -> Tree | None:
        if not -len(self) <= n < len(self):
            raise IndexError(f"tree {n} of {len(self)}")
        if not self.segments[n]:
            return None
        own = slice(self.first[n], self.first[n] + self.segments[n])
        places = [slice(a, a + size) for a, size in zip(self.start[own].tolist(), self.length[own].tolist())]
        trunk, *branches = (self.token[place] for place in places)
        trunk_kind, *branch_kinds = (self.kind[place] for place in places)
        size, truncated = self.bytes[own][1:], int(self.truncated[n])
        return Tree(trunk, tuple(branches), trunk_kind, tuple(branch_kinds), size, truncated)


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers start, start + 1, ... of each range, end to end: i64[sum of lengths]."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def _sums(values: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """i64[n], the sum of values[first : first + count] of each; they lie end to end."""
    found, there = np.zeros(len(first), np.int64), np.flatnonzero(count)
    # A part at a time: numpy casts all values that it is given.
    for own in np.split(there, range(TREES, len(there), TREES)):
        if len(own):
            start, stop = first[own[0]], first[own[-1]] + count[own[-1]]
            found[own] = np.add.reduceat(values[start:stop], first[own] - start, dtype=np.int64)
    return found
