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
from dataclasses import replace
from typing import Any

import numpy as np

from consistency_jax.data.items import MASK, DataError, ParallelItem, no_collection
from consistency_jax.data.trees.chat import ChatTemplate
from consistency_jax.data.trees.cuts import cutter_of
from consistency_jax.data.trees.forest import ANSWER, PROMPT, UNCOUNTED, Forest, Tree, ranges
from consistency_jax.data.trees.texts import NOWHERE, Parts, Pieces, Texts
from consistency_jax.data.trees.tokenization import tokenizer_key

BOUNDARIES = ("separate", "joint")
BLOCK = 16384  # trees built at once: what is held beside the forest does not grow with it
Cell = tuple[ParallelItem, str] | None  # an item in one of its languages; None leaves a gap


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
    if candidates is not None:
        texts = item.candidates[language]
        item = replace(item, candidates={language: tuple(texts[k] for k in candidates)})
    builder = TreeBuilder(tokenizer, boundary=boundary, max_length=max_length, row_length=row_length)
    tree = builder.of_cells([(item, language)])[0]
    assert tree is not None
    return tree


class TreeBuilder:
    """Builds the trees of many items: each distinct text is tokenised once, and of a text only what is its own.

    Args:
        tokenizer: a fast tokenizer of transformers (its offsets tell answers from prompts).
        boundary: "separate" or "joint".
        max_length: longest trunk + branch, tokens; longer ones lose tokens at the left of the trunk, after
            BOS.
        row_length: longest tree as it is fed to the model (trunk + all branches); None = any.
        chat: renders prompts as turns of a conversation; None = plain text. All before the answer is the
            prompt then, and a cut takes the template's first tokens too.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        boundary: str = "separate",
        max_length: int = 1024,
        row_length: int | None = None,
        chat: ChatTemplate | None = None,
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
        self._start = self.bos if self.bos is not None else tokenizer.eos_token_id
        self._cutter = cutter_of(tokenizer) if boundary == "joint" else None
        added = tokenizer.added_tokens_decoder.items()
        self._special = {token.content: index for index, token in added if token.special}
        strings = sorted(self._special, key=len, reverse=True)
        self._special_text = re.compile("|".join(map(re.escape, strings)) if strings else r"(?!)")

    def key(self) -> str:
        """A key of all that trees depend on beside their texts."""
        settings = (self.boundary, self.max_length, self.row_length, tokenizer_key(self.tokenizer))
        return repr((*settings, self.chat and self.chat.key()))

    def build(self, items: Sequence[ParallelItem], languages: Sequence[str] | None = None) -> Forest:
        """The trees of B items in L languages, tree n = b * L + l.

        Args:
            items: B items.
            languages: L languages, None = all that appear; a language that an item lacks leaves a gap (None).

        Raises:
            DataError: naming the item and language: it does not fit, or an answer has no token of its own.
        """
        if languages is None:
            languages = tuple(dict.fromkeys(language for item in items for language in item.prompts))
        return self.of_cells(
            [
                (item, language) if language in item.prompts else None
                for item in items
                for language in languages
            ]
        )

    def of_cells(self, cells: Sequence[Cell]) -> Forest:
        """The trees of single languages of items. Errors are those of `build`."""
        blocks = [cells[start : start + BLOCK] for start in range(0, len(cells), BLOCK)]
        with no_collection():
            return Forest.concatenate(self._block(block) for block in blocks)

    def _block(self, cells: Sequence[Cell]) -> Forest:
        present = [cell for cell in cells if cell is not None]
        texts = Texts()
        if self.chat is None:
            for cell in present:
                texts.add(self._parts(cell))
            suspects = self._suspects(present) if texts.find(self._special_text) else {}
        else:
            suspects = self._suspects(present)
            for n, token in suspects.items():
                raise _special_in_text(present[n], token, "and the chat template would make it one")
            heads = [_after(_context(*cell), cell[0].prompts[cell[1]]) for cell in present]
            for cell, head in zip(present, self.chat.render(heads) if heads else ()):
                texts.add(self._parts(cell, head))
        if not present:
            return Forest.of([None] * len(cells))
        chat = self.chat is not None
        pieces = texts.encode(self.tokenizer, chat, self.bos if chat else None)
        forest = self._forest(pieces, present)
        self._check_special(forest, present, suspects)
        forest = self._cut(forest, present)
        there = np.array([cell is not None for cell in cells])
        segments, truncated = np.zeros((2, len(cells)), np.int64)
        segments[there], truncated[there] = forest.segments, forest.truncated
        return replace(forest, segments=segments, truncated=truncated)

    def _check_special(
        self, forest: Forest, cells: Sequence[tuple[ParallelItem, str]], suspects: dict[int, str]
    ) -> None:
        """Some vocabularies hold their special tokens as pieces of text too, and there is no way around them."""
        special = [index for index in self._special.values() if index != self.tokenizer.unk_token_id]
        for n, token in suspects.items():
            tokens = forest[n : n + 1].token
            if np.isin(tokens[int(tokens[0] == self._start) :], special).any():
                raise _special_in_text(cells[n], token, "and the tokenizer cannot read it as text")

    def _suspects(self, cells: Sequence[tuple[ParallelItem, str]]) -> dict[int, str]:
        """cell -> the special token that its text spells."""
        texts = (
            "\n".join((_context(item, name), item.prompts[name].replace(MASK, "\n"), *item.candidates[name]))
            for item, name in cells
        )
        found = ((n, self._special_text.search(text)) for n, text in enumerate(texts))
        return {n: match[0] for n, match in found if match}

    def _parts(self, cell: tuple[ParallelItem, str], chat: str | None = None) -> Parts:
        """A cell's texts cut apart; `chat`: its rendered prompt."""
        item, language = cell
        answers: Sequence[str] = item.candidates[language]
        head, mask, rest = item.prompts[language].partition(MASK)
        if chat is None:
            head = _after(_context(item, language), head)
        else:
            head, mask, rest = chat, "", ""
            answers = [self.chat.separator + answer.lstrip() for answer in answers]
        if self.boundary == "separate":
            left = head.rstrip() if mask else head
            space = head[len(left) :]
            return Parts(
                left, [f"{space}{answer}{rest}" for answer in answers], "", NOWHERE, -len(space.encode())
            )
        before, behind = 0, len(rest)
        if self._cutter is not None:
            before, behind = self._cutter(head, answers, rest)
        near, middle_rest, right = head[before:], rest[:behind], rest[behind:]
        return Parts(
            left=head[:before],
            middles=[f"{near}{answer}{middle_rest}" for answer in answers],
            right=right,
            start=len(near),
            shift=len(right.encode()) - len(near.encode()),
        )

    def _forest(self, pieces: Pieces, cells: Sequence[tuple[ParallelItem, str]]) -> Forest:
        """Trees before any cut of their trunks: all of a step for all trees at once.

        A trunk is the start token, left, and what the texts of all candidates have in common after it; a branch is
        the rest of its middle, and right.
        """
        joint, n, branches = self.boundary == "joint", len(pieces.branches), pieces.branches
        tree = np.repeat(np.arange(n), branches)
        opener = np.cumsum(branches) - branches  # the first branch of each tree
        left, right = pieces.length[pieces.left], pieces.length[pieces.right][tree]
        middle, first = pieces.length[pieces.middle], pieces.first[pieces.middle]
        for bad in np.flatnonzero(first >= middle + right if joint else middle == 0)[:1]:
            raise _no_token(cells[tree[bad]])
        common, answer = np.zeros(n, np.int64), np.minimum.reduceat(first, opener)
        if joint:
            # With one candidate all is common: its trunk ends where the answer starts, with a prompt's state.
            common = np.where(branches == 1, answer, pieces.common())
        started = (left + np.minimum(answer, common)) == 0
        if self.bos is not None:
            started[:] = True
        elif self._start is None and started.any():
            raise _no_start(cells[int(started.argmax())])

        shared = np.minimum(common, middle[opener])  # of the middle; what is more, of the right
        own = np.minimum(common[tree], middle)
        begin, size = np.zeros((2, 4 * n + 2 * len(tree)), np.int64)
        trunk_at = 4 * np.arange(n) + 2 * opener
        branch_at = 4 * (tree + 1) + 2 * np.arange(len(tree))
        begin[trunk_at], size[trunk_at] = 0, started
        begin[trunk_at + 1], size[trunk_at + 1] = pieces.begin[pieces.left], left
        begin[trunk_at + 2], size[trunk_at + 2] = pieces.begin[pieces.middle[opener]], shared
        begin[trunk_at + 3], size[trunk_at + 3] = pieces.begin[pieces.right], common - shared
        begin[branch_at], size[branch_at] = pieces.begin[pieces.middle] + own, middle - own
        over = common[tree] - own
        begin[branch_at + 1], size[branch_at + 1] = pieces.begin[pieces.right][tree] + over, right - over

        trunks = np.arange(n) + opener
        is_branch = np.ones(n + len(tree), bool)
        is_branch[trunks] = False
        length, answers = np.zeros((2, len(is_branch)), np.int64)  # tokens, and those that are prompt tokens
        length[trunks], answers[trunks] = started + left + common, started + left + answer
        length[is_branch] = middle + right - common[tree]
        answers[is_branch] = np.maximum(first - common[tree], 0)
        offset = ranges(np.zeros_like(length), length)
        kind = np.where(offset < np.repeat(answers, length), np.uint8(PROMPT), np.uint8(ANSWER))
        kind[(np.cumsum(length) - length)[trunks]] = UNCOUNTED
        return Forest(
            segments=branches + 1,
            length=length,
            token=pieces.gather(begin, size, self._start),
            kind=kind,
            bytes=(pieces.size[pieces.middle] + pieces.shift[tree]).astype(np.int32),
            truncated=np.zeros(n, np.int64),
        )

    def _cut(self, forest: Forest, cells: Sequence[tuple[ParallelItem, str]]) -> Forest:
        """The trees with their trunks cut from the left to the lengths allowed."""
        if not len(forest):
            return forest
        trunk, is_branch = forest.length[forest.first], forest.branch > 0
        longest = np.maximum.reduceat(np.where(is_branch, forest.length, 0), forest.first)
        room = self.max_length - longest
        if self.row_length is not None:
            fed = forest.per_tree(np.where(is_branch, np.maximum(forest.length - 1, 0), 0))
            room = np.minimum(room, self.row_length - fed)
        kept, kind, length = np.ones(len(forest.token), bool), forest.kind.copy(), forest.length.copy()
        excess = np.maximum(trunk - room, 0)
        for n in np.flatnonzero(excess).tolist():
            first, size, cut = int(forest.start[forest.first[n]]), int(trunk[n]), int(excess[n])
            # BOS stays; without one a token must stay that the first counted one is predicted from.
            front = int(forest.token[first] == self._start)
            answers = int(np.count_nonzero(forest.kind[first : first + size] == ANSWER))
            if size - cut < answers + 1:
                raise self._too_long(cells[n], cut - (size - answers - 1))
            kept[first + front : first + front + cut] = False
            kind[first + (0 if front else cut)] = UNCOUNTED
            length[forest.first[n]] -= cut
        if not excess.any():
            return forest
        token, kind = forest.token[kept], kind[kept]
        return replace(forest, token=token, kind=kind, length=length, truncated=excess)

    def _too_long(self, cell: tuple[ParallelItem, str], missing: int) -> DataError:
        return DataError.at(
            _named(cell),
            f"its answers alone take more than max_length {self.max_length}"
            + ("" if self.row_length is None else f" or row_length {self.row_length}")
            + " tokens, even with the prompt cut away",
            f"Allow at least {missing} more, or drop the item",
        )


def _context(item: ParallelItem, language: str) -> str:
    return item.context.get(language, "") if item.context else ""


def _after(context: str, prompt: str) -> str:
    """The prompt behind its context."""
    return f"{context}\n\n{prompt}" if context else prompt


def _named(cell: tuple[ParallelItem, str]) -> str:
    return f"item {cell[0].id!r}, language {cell[1]!r}"


def _special_in_text(cell: tuple[ParallelItem, str], token: str, reason: str) -> DataError:
    return DataError.at(
        _named(cell),
        f"its text holds {token!r}, a special token of the tokenizer, {reason}",
        "Write it in another way, or drop the item",
    )


def _no_token(cell: tuple[ParallelItem, str]) -> DataError:
    return DataError.at(
        _named(cell),
        "the tokenizer gives an answer no token of its own",
        "Drop the candidate, or use a tokenizer that knows its characters",
    )


def _no_start(cell: tuple[ParallelItem, str]) -> DataError:
    return DataError.at(
        _named(cell),
        "the answer opens the text, and the tokenizer has neither BOS nor EOS to predict it from",
        "Give the item a context, or set tokenizer.bos_token",
    )
