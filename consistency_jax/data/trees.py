"""Tokenizer + items -> token trees: one trunk that all K candidates of a prompt share, and K branches.

Boundaries:
    separate  prompt and answer are tokenised apart (as in training); the trunk is the prompt. Whitespace
              before a mask goes with the answer, and no tokenizer's dummy space comes between prompt and
              answer.
    joint     each full string is tokenised (as in evaluation); the trunk is the longest common token
              prefix, so trunk + branch k is, token for token, full string k.

A token is an answer token when it covers any character from the answer's start on (of the answer, or of the
rest of the sentence after a mask), else a prompt token. One BOS stands in front where the tokenizer has one
(a chat template's own BOS is that one). Without one, nothing predicts the first token and it is not counted;
where that would leave an answer without a state to be predicted from (the answer opens the sentence), EOS,
which ends the document before, stands in for BOS.

Special tokens never come from an item's text: "</s>" in it is four characters. (Under a chat template, whose
own special tokens count, it is an error.)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from consistency_jax.data.chat import ChatTemplate
from consistency_jax.data.items import MASK, DataError, ParallelItem
from consistency_jax.data.tokenization import encode, encode_continuations, first_answer_token

BOUNDARIES = ("separate", "joint")
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

    @property
    def num_fed(self) -> int:
        """Row tokens that the tree takes: its trunk, and every branch but its last token."""
        return len(self.trunk) + sum(max(len(branch) - 1, 0) for branch in self.branches)

    @cached_property
    def flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(tokens, kinds, lengths) of trunk, branch 0, branch 1, ... laid end to end; for packing."""
        segments = (self.trunk, *self.branches)
        kinds = np.concatenate((self.trunk_kind, *self.branch_kinds))
        return np.concatenate(segments), kinds, np.array([len(s) for s in segments], np.int64)


def build_tree(
    tokenizer: Any,
    item: ParallelItem,
    language: str,
    *,
    boundary: str = "separate",
    max_length: int = 1024,
    row_length: int | None = None,
    candidates: Sequence[int] | None = None,
) -> Tree:
    """One item in one language as a tree; see `TreeBuilder`, which does many at once.

    Raises:
        DataError: the item has no such language, or does not fit.
    """
    if language not in item.prompts:
        raise DataError.at(
            f"item {item.id!r}", f"no language {language!r}", f"It has {', '.join(item.languages)}"
        )
    builder = TreeBuilder(tokenizer, boundary=boundary, max_length=max_length, row_length=row_length)
    tree = builder.build([item], [language], candidates=None if candidates is None else [candidates])[0]
    assert tree is not None
    return tree


class TreeBuilder:
    """Builds the trees of many items, tokenising each distinct text once, in one batched call.

    Args:
        tokenizer: a fast tokenizer of transformers (its offsets tell answers from prompts).
        boundary: "separate" or "joint".
        max_length: longest trunk + branch, tokens; longer ones lose tokens at the left of the trunk, after
            BOS.
        row_length: longest tree as it is fed to the model (trunk + all branches); None = any.
        chat: renders prompts as turns of a conversation; None = plain text. All before the answer is the
            prompt then, and a cut takes the template's first tokens too.
        cache: keep trees, so that an item met again is not tokenised again.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        boundary: str = "separate",
        max_length: int = 1024,
        row_length: int | None = None,
        chat: ChatTemplate | None = None,
        cache: bool = True,
    ):
        if boundary not in BOUNDARIES:
            raise ValueError(f"unknown boundary {boundary!r}; known: {', '.join(BOUNDARIES)}")
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ValueError(f"{type(tokenizer).__name__} is no fast tokenizer: load one with AutoTokenizer")
        self.tokenizer = tokenizer
        self.boundary = boundary
        self.max_length = max_length
        self.row_length = row_length
        self.chat = chat
        self.bos: int | None = tokenizer.bos_token_id
        added = tokenizer.added_tokens_decoder.items()
        self._special = {token.content: index for index, token in added if token.special}
        strings = sorted(self._special, key=len, reverse=True)
        self._special_text = re.compile("|".join(map(re.escape, strings)) if strings else r"(?!)")
        self._keep = cache
        self._trees: dict[tuple, Tree] = {}

    def build(
        self,
        items: Sequence[ParallelItem],
        languages: Sequence[str] | None = None,
        *,
        candidates: Sequence[Sequence[int]] | np.ndarray | None = None,
    ) -> list[Tree | None]:
        """The trees of B items in L languages, tree n = b * L + l.

        Args:
            items: B items.
            languages: L languages, None = all that appear; a language that an item lacks gives None in its
                place.
            candidates: for each item, which candidates to take and in what order, the same in all its
                languages ([B][k]); None = all.

        Raises:
            DataError: naming the item and language: it does not fit, or an answer has no token of its own.
        """
        if languages is None:
            languages = tuple(dict.fromkeys(language for item in items for language in item.prompts))
        keys = [
            _key(item, language) if language in item.prompts else None
            for item in items
            for language in languages
        ]
        todo = {}
        for n, key in enumerate(keys):
            if key is not None and key not in self._trees and key not in todo:
                todo[key] = (items[n // len(languages)].id, languages[n % len(languages)])
        whole = self._trees if self._keep else dict(self._trees)
        whole.update(zip(todo, self._whole(list(todo), list(todo.values()))))
        trees: list[Tree | None] = []
        for n, key in enumerate(keys):
            if key is None:
                trees.append(None)
                continue
            b, l = divmod(n, len(languages))
            tree = whole[key]
            if candidates is not None:
                tree = self._select(tree, candidates[b])
            trees.append(self._cut(tree, items[b].id, languages[l]))
        return trees

    def _whole(self, keys: list[tuple], names: list[tuple[str, str]]) -> list[Tree]:
        """Trees with every candidate, before any cut."""
        if not keys:
            return []
        suspects = {}  # tree -> the special token that its text spells
        for n, (context, prompt, candidates) in enumerate(keys):
            found = self._special_text.search("\n".join((context, prompt.replace(MASK, "\n"), *candidates)))
            if found:
                suspects[n] = found[0]
        if self.chat is None:
            parts = [_parts(*key) for key in keys]
        else:
            for n, token in suspects.items():
                raise _special_in_text(names[n], token, "and the chat template would make it one")
            heads = self.chat.render([_after(context, prompt) for context, prompt, _ in keys])
            space = self.chat.separator
            parts = [_chat_parts(head, space, candidates) for head, (_, _, candidates) in zip(heads, keys)]
        trees = (self._separate if self.boundary == "separate" else self._joint)(parts, names)
        # Some vocabularies hold their special tokens as pieces of text too, and there is no way around them.
        special = [index for index in self._special.values() if index != self.tokenizer.unk_token_id]
        for n, token in suspects.items():
            tokens = trees[n].flat[0]
            if np.isin(tokens[int(self._is_start(int(tokens[0]))) :], special).any():
                raise _special_in_text(names[n], token, "and the tokenizer cannot read it as text")
        return trees

    def _own_bos(self, ids: list[int]) -> int:
        """1 where the chat template wrote BOS, which every tree is given anyway; else 0."""
        return int(self.chat is not None and self.bos is not None and ids[:1] == [self.bos])

    def _separate(self, parts: list["Parts"], names: list[tuple[str, str]]) -> list[Tree]:
        texts = dict.fromkeys(part.prompt for part in parts)
        special = self.chat is not None
        encodings = encode(self.tokenizer, list(texts), special=special, offsets=False)
        prompts = {text: e.ids[self._own_bos(e.ids) :] for text, e in zip(texts, encodings)}
        # An answer that opens the text is tokenised as such, every other one as the continuation of a prompt.
        opening = dict.fromkeys(chain.from_iterable(part.answers for part in parts if not part.prompt))
        following = dict.fromkeys(chain.from_iterable(part.answers for part in parts if part.prompt))
        first, after = {}, {}
        if opening:
            encodings = encode(self.tokenizer, list(opening), offsets=False)
            first = {text: np.array(e.ids, np.int32) for text, e in zip(opening, encodings)}
        if following:
            encodings = encode_continuations(self.tokenizer, list(following))
            after = {text: np.array(e.ids, np.int32) for text, e in zip(following, encodings)}
        trees = []
        for part, name in zip(parts, names):
            branches = tuple((after if part.prompt else first)[answer] for answer in part.answers)
            for branch in branches:
                if not len(branch):
                    raise _no_token(name)
            trunk = prompts[part.prompt]
            kind = np.full(len(trunk), PROMPT, np.uint8)
            if self.bos is not None or not trunk:
                trunk = [self._start(name), *trunk]
                kind = np.full(len(trunk), PROMPT, np.uint8)
            kind[0] = UNCOUNTED
            trees.append(
                Tree(
                    trunk=np.array(trunk, np.int32),
                    branches=branches,
                    trunk_kind=kind,
                    branch_kinds=tuple(_answers(len(branch)) for branch in branches),
                    bytes=part.bytes,
                )
            )
        return trees

    def _joint(self, parts: list["Parts"], names: list[tuple[str, str]]) -> list[Tree]:
        full = [(part.head + answer, len(part.head)) for part in parts for answer in part.tails]
        distinct = dict.fromkeys(full)
        encodings = encode(self.tokenizer, [text for text, _ in distinct], special=self.chat is not None)
        encoded = {}
        for key, encoding in zip(distinct, encodings):
            ids, first = encoding.ids, first_answer_token(encoding, key[1])
            bos = self._own_bos(ids)
            encoded[key] = (ids[bos:], first - bos)
        trees, at = [], 0
        for part, name in zip(parts, names):
            sequences, firsts = zip(*(encoded[key] for key in full[at : at + len(part.tails)]))
            at += len(part.tails)
            if any(first >= len(ids) for ids, first in zip(sequences, firsts)):
                raise _no_token(name)
            trees.append(self._from_sequences(sequences, firsts, part.bytes, name))
        return trees

    def _from_sequences(
        self, sequences: Sequence[list[int]], firsts: Sequence[int], size: np.ndarray, name: tuple[str, str]
    ) -> Tree:
        """The tree of K full token sequences, of which candidate k's answer starts at token firsts[k]."""
        common = min(_common_prefix(sequences), _alone(firsts))
        first = min(firsts)
        start = self.bos is not None or first == 0 or common == 0
        trunk = np.array(
            [self._start(name), *sequences[0][:common]] if start else sequences[0][:common], np.int32
        )
        kind = np.full(len(trunk), PROMPT, np.uint8)
        kind[0] = UNCOUNTED
        kind[first + start :] = ANSWER
        branches = tuple(np.array(ids[common:], np.int32) for ids in sequences)
        kinds = tuple(_answers(len(branch), own - common) for branch, own in zip(branches, firsts))
        return Tree(trunk, branches, kind, kinds, size)

    def _start(self, name: tuple[str, str]) -> int:
        if self.bos is not None:
            return self.bos
        if self.tokenizer.eos_token_id is None:
            raise DataError.at(
                f"item {name[0]!r}, language {name[1]!r}",
                "the answer opens the text, and the tokenizer has neither BOS nor EOS to predict it from",
                "Give the item a context, or set tokenizer.bos_token",
            )
        return self.tokenizer.eos_token_id

    def _select(self, tree: Tree, indices: Sequence[int]) -> Tree:
        """The tree of some of its candidates, in the order given; a joint trunk takes in what they share."""
        branches = tuple(tree.branches[k] for k in indices)
        kinds = tuple(tree.branch_kinds[k] for k in indices)
        tree = replace(tree, branches=branches, branch_kinds=kinds, bytes=tree.bytes[np.asarray(indices)])
        if self.boundary == "separate":
            return tree
        if len(branches) == 1:
            # As in `_alone`: one candidate's answer is its branch, so that the trunk ends with the prompt.
            sequence = np.concatenate([tree.trunk, branches[0]])
            kind = np.concatenate([tree.trunk_kind, kinds[0]])
            shared = int(np.argmax(kind == ANSWER))
            return replace(
                tree,
                trunk=sequence[:shared],
                trunk_kind=kind[:shared],
                branches=(sequence[shared:],),
                branch_kinds=(kind[shared:],),
            )
        shared = _common_prefix([branch.tolist() for branch in branches])
        if shared == 0:
            return tree
        return replace(
            tree,
            trunk=np.concatenate([tree.trunk, branches[0][:shared]]),
            trunk_kind=np.concatenate([tree.trunk_kind, kinds[0][:shared]]),
            branches=tuple(branch[shared:] for branch in branches),
            branch_kinds=tuple(kind[shared:] for kind in kinds),
        )

    def _cut(self, tree: Tree, item: str, language: str) -> Tree:
        """The tree with its trunk cut from the left to the lengths allowed."""
        room = self.max_length - max((len(branch) for branch in tree.branches), default=0)
        if self.row_length is not None:
            room = min(room, self.row_length - (tree.num_fed - len(tree.trunk)))
        excess = len(tree.trunk) - room
        if excess <= 0:
            return tree
        # BOS stays; without one a token must stay that the first counted one is predicted from.
        front = int(tree.trunk_kind[0] == UNCOUNTED and self._is_start(int(tree.trunk[0])))
        answers = int(np.count_nonzero(tree.trunk_kind == ANSWER))
        if len(tree.trunk) - excess < answers + 1:
            raise DataError.at(
                f"item {item!r}, language {language!r}",
                f"its answers alone take more than max_length {self.max_length}"
                + ("" if self.row_length is None else f" or row_length {self.row_length}")
                + " tokens, even with the prompt cut away",
                f"Allow at least {excess - (len(tree.trunk) - answers - 1)} more, or drop the item",
            )
        kept = np.r_[0:front, front + excess : len(tree.trunk)]
        kind = tree.trunk_kind[kept]
        kind[0] = UNCOUNTED
        return replace(tree, trunk=tree.trunk[kept], trunk_kind=kind, truncated=excess)

    def _is_start(self, token: int) -> bool:
        return token == (self.bos if self.bos is not None else self.tokenizer.eos_token_id)


@dataclass(frozen=True)
class Parts:
    """The texts of one item in one language.

    Attributes:
        head, tails: joint: head + tails[k] is full string k, and the answer starts at len(head).
        prompt, answers: separate: the same strings, with whitespace before a mask moved to the answers.
        bytes: i32[K], UTF-8 bytes of each tail.
    """

    head: str
    tails: tuple[str, ...]
    prompt: str
    answers: tuple[str, ...]
    bytes: np.ndarray


def _key(item: ParallelItem, language: str) -> tuple[str, str, tuple[str, ...]]:
    return (item.context or {}).get(language, ""), item.prompts[language], item.candidates[language]


def _parts(context: str, prompt: str, candidates: tuple[str, ...]) -> Parts:
    head, mask, rest = prompt.partition(MASK)
    head = _after(context, head)
    tails = tuple(candidate + rest for candidate in candidates)
    size = np.array([len(tail.encode()) for tail in tails], np.int32)
    start = head.rstrip() if mask else head
    space = head[len(start) :]
    return Parts(head, tails, start, tuple(space + tail for tail in tails) if space else tails, size)


def _after(context: str, prompt: str) -> str:
    """The prompt behind its context."""
    return f"{context}\n\n{prompt}" if context else prompt


def _chat_parts(head: str, separator: str, candidates: tuple[str, ...]) -> Parts:
    tails = tuple(separator + candidate.lstrip() for candidate in candidates)
    return Parts(head, tails, head, tails, np.array([len(tail.encode()) for tail in tails], np.int32))


def _special_in_text(name: tuple[str, str], token: str, reason: str) -> DataError:
    return DataError.at(
        f"item {name[0]!r}, language {name[1]!r}",
        f"its text holds {token!r}, a special token of the tokenizer, {reason}",
        "Write it in another way, or drop the item",
    )


def _no_token(name: tuple[str, str]) -> DataError:
    return DataError.at(
        f"item {name[0]!r}, language {name[1]!r}",
        "the tokenizer gives an answer no token of its own",
        "Drop the candidate, or use a tokenizer that knows its characters",
    )


_ANSWERS = np.full(1024, ANSWER, np.uint8)
_ANSWERS.setflags(write=False)


def _answers(length: int, prompt: int = 0) -> np.ndarray:
    """Kinds of a branch whose first `prompt` tokens are prompt tokens. Most are a slice of one array."""
    if prompt <= 0 and length <= len(_ANSWERS):
        return _ANSWERS[:length]
    kind = np.full(length, ANSWER, np.uint8)
    kind[: max(prompt, 0)] = PROMPT
    return kind


def _common_prefix(sequences: Sequence[list[int]]) -> int:
    """Length of the longest common prefix: that of the least and the greatest in dictionary order."""
    low, high = min(sequences), max(sequences)
    for i, (a, b) in enumerate(zip(low, high)):
        if a != b:
            return i
    return len(low)


def _alone(firsts: Sequence[int]) -> int:
    """With one candidate all is common: its trunk ends where the answer starts, with a prompt's state."""
    return firsts[0] if len(firsts) == 1 else max(firsts) + 1_000_000_000
