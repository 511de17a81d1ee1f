"""Token trees, one by one and many at once.

A `Tree` is one item in one language: a trunk that all K candidates of a prompt share, and K branches. A `Forest` holds
N of them end to end in a few flat arrays, five bytes a token: it is built, measured and packed without a Python object
a tree, and makes a `Tree` where one is asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Union, overload

import numpy as np

from consistency_jax.runtime.files import read_arrays, write_arrays

UNCOUNTED, PROMPT, ANSWER = 0, 1, 2


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

    @property
    def num_fed(self) -> int:
        """Row tokens that the tree takes: its trunk, and every branch but its last token."""
        return len(self.trunk) + sum(max(len(branch) - 1, 0) for branch in self.branches)


@dataclass(frozen=True, eq=False)
class Forest(Sequence[Tree | None]):
    """N trees (or gaps, where an item lacks a language) laid end to end: S segments, P tokens.

    The segments of a tree are its trunk, branch 0, branch 1, ...

    Attributes:
        segments: i64[N], segments of a tree, 1 + K; 0 where there is none.
        length: i64[S], tokens of a segment.
        token: i32[P]; kind: u8[P].
        bytes: i32[sum of K].
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
        """These trees as a forest; itself where they are one."""
        if isinstance(trees, Forest):
            return trees
        present = [tree for tree in trees if tree is not None]
        segments = [segment for tree in present for segment in (tree.trunk, *tree.branches)]
        kinds = [kind for tree in present for kind in (tree.trunk_kind, *tree.branch_kinds)]
        return cls(
            segments=np.array([0 if tree is None else 1 + len(tree.branches) for tree in trees], np.int64),
            length=np.array([len(segment) for segment in segments], np.int64),
            token=_joined(segments, np.int32),
            kind=_joined(kinds, np.uint8),
            bytes=_joined([tree.bytes for tree in present], np.int32),
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
        """What `save` wrote.

        Raises:
            ValueError: for a file that is damaged, or holds something else.
        """
        arrays = read_arrays(path)
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

    def per_tree(self, values: np.ndarray) -> np.ndarray:
        """i64[N], the sum of i64[S] over the segments of each tree."""
        return _differences(values, self.first, self.segments)

    def per_segment(self, chosen: np.ndarray) -> np.ndarray:
        """i64[S], how many of the chosen tokens (bool[P]) each segment has."""
        return _differences(chosen, self.start, self.length)

    def take(self, trees: np.ndarray) -> "Forest":
        """The trees with these numbers i64[n], in that order."""
        segments = ranges(self.first[trees], self.segments[trees])
        tokens = ranges(self.start[segments], self.length[segments])
        cells = ranges(self._cells[trees], np.maximum(self.segments[trees] - 1, 0))
        return Forest(
            self.segments[trees],
            self.length[segments],
            self.token[tokens],
            self.kind[tokens],
            self.bytes[cells],
            self.truncated[trees],
        )

    def padded(self, trees: int) -> "Forest":
        """The same with gaps behind, so many trees in all."""
        gaps = np.zeros(trees - len(self), np.int64)
        count, truncated = (np.concatenate([values, gaps]) for values in (self.segments, self.truncated))
        return replace(self, segments=count, truncated=truncated)

    def __len__(self) -> int:
        return len(self.segments)

    @overload
    def __getitem__(self, n: int) -> Tree | None: ...

    @overload
    def __getitem__(self, n: slice) -> "Forest": ...

    def __getitem__(self, n: int | slice) -> Union[Tree, None, "Forest"]:
        if isinstance(n, slice):
            return self.take(np.arange(len(self))[n])
        if not -len(self) <= n < len(self):
            raise IndexError(f"tree {n} of {len(self)}")
        n %= len(self)
        if not self.segments[n]:
            return None
        own = slice(self.first[n], self.first[n] + self.segments[n])
        places = [slice(a, a + size) for a, size in zip(self.start[own].tolist(), self.length[own].tolist())]
        trunk, *branches = (self.token[place] for place in places)
        trunk_kind, *branch_kinds = (self.kind[place] for place in places)
        cells = self._cells[n]
        size = self.bytes[cells : cells + self.segments[n] - 1]
        return Tree(trunk, tuple(branches), trunk_kind, tuple(branch_kinds), size, int(self.truncated[n]))

    @cached_property
    def _cells(self) -> np.ndarray:
        """i64[N], the first branch of each tree, counted over all trees."""
        sizes = np.maximum(self.segments - 1, 0)
        return np.cumsum(sizes) - sizes


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers start, start + 1, ... of each range, end to end: i64[sum of lengths]."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def _joined(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(arrays).astype(dtype, copy=False) if len(arrays) else np.zeros(0, dtype)


def _differences(values: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """i64[n], the sum of values[first : first + count] of each."""
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(values, dtype=np.int64)])
    return total[first + count] - total[first]
