"""Tokenizer + items -> token trees: one trunk that all K candidates of a prompt share, and K branches.

Boundaries:
    separate  prompt and answer are tokenized apart (as in training); the trunk is the prompt. Whitespace
              before a mask goes with the answer, and no tokenizer's dummy space comes between prompt and
              answer.
    joint     each full string is tokenized (as in evaluation); the trunk is the longest common token
              prefix, so trunk + branch k is, token for token, full string k.

A token is an answer token when it covers any character from the answer's start on (of the answer, or of the
rest of the sentence after a mask), or stands where candidates have parted already; else a prompt token. One BOS
stands in front where the tokenizer itself puts one (`bos_of`; a chat template's own BOS is that one). Without one,
nothing predicts the first token and it is not counted; where that would leave an answer without a state to be
predicted from (the answer opens the sentence), EOS, which ends the document before, stands in for BOS.

Behind an answer stands nothing where answers are ranked. Where written ones are trained on, `end` puts the end of the
chat template's turn behind each, EOS without a template or where it has none; both are answer tokens, of no bytes.

Special tokens never come from an item's text: "</s>" in it is four characters. (Under a chat template, whose
own special tokens count, it is an error.)
"""

import hashlib
import itertools
import marshal
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from consistency_jax.data import items as items_module
from consistency_jax.data.facts import fact
from consistency_jax.data.items import MASK, DataError, ParallelItem, no_collection, open_prompt
from consistency_jax.data.stored_items import StoredItems
from consistency_jax.data.trees.chat import SWITCH_OFF, ChatTemplate
from consistency_jax.data.trees.forest import ANSWER, PROMPT, UNCOUNTED, Forest, ranges
from consistency_jax.data.trees.texts import NOWHERE, Texts, Tokenized
from consistency_jax.data.trees.tokenization import (
    bos_of,
    encode,
    encode_continuations,
    puts_space,
    splitter_of,
    tokenizer_key,
)
from consistency_jax.runtime.cache import cache_folder, found_or_made
from consistency_jax.runtime.files import read_arrays, write_arrays

BOUNDARIES = ("separate", "joint")
ENDS = ("written", "always", "never")
CHUNK = 16384  # trees built at once: what is held beside the forest does not grow with it
FAR = 2**31  # more than the tokens of any text
Cell = tuple[ParallelItem, str] | None  # an item in one of its languages; None leaves a gap


class TreeBuilder:
    """Builds the trees of many items: each distinct text is tokenized once, and of a text only what is its own.

    Args:
        tokenizer: a fast tokenizer of transformers (its offsets tell answers from prompts).
        boundary: "separate" or "joint".
        max_length: longest trunk + branch, tokens; longer ones lose tokens at the left of the trunk, after
            BOS.
        chat: renders prompts as turns of a conversation; None = plain text. All before the answer is the
            prompt then, and a cut takes the template's first tokens too.
        end: which answers an end is put behind: those of items that are `written`, "always" or "never".
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        boundary: str = "separate",
        max_length: int = 1024,
        chat: ChatTemplate | None = None,
        end: str = "never",
    ):
        if boundary not in BOUNDARIES:
            raise ValueError(f"unknown boundary {boundary!r}; known: {', '.join(BOUNDARIES)}")
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ValueError(f"{type(tokenizer).__name__} is no fast tokenizer: load one with AutoTokenizer")
        self.tokenizer = tokenizer
        self.boundary = boundary
        self.max_length = max_length
        self.chat = chat
        self.end = end
        self.bos = bos_of(tokenizer)
        self.puts_space = chat is None and puts_space(tokenizer)
        self._start = self.bos if self.bos is not None else tokenizer.eos_token_id
        ends = [e.ids for e in encode(tokenizer, ["a", "a "])]
        self._drops_last_space = ends[0] == ends[1]
        self._splitter = splitter_of(tokenizer) if boundary == "joint" else None
        added = tokenizer.added_tokens_decoder.items()
        self._special = {token.content: index for index, token in added if token.special}
        strings = sorted(self._special, key=len, reverse=True)
        self._special_text = re.compile("|".join(map(re.escape, strings)) if strings else r"(?!)")

    def key(self) -> str:
        """A key of all that trees depend on beside their texts."""
        settings = (self.boundary, self.max_length, self.end, tokenizer_key(self.tokenizer))
        return repr((*settings, self.chat and self.chat.key()))

    def build(self, items: Sequence[ParallelItem], languages: Sequence[str] | None = None) -> Forest:
        """The trees of B items in L languages, tree n = b * L + l.

        Args:
            items: B items.
            languages: L languages, None = all that appear; a language that an item lacks leaves a gap (None).

        Raises:
            BadCells: a DataError that names the first item and language that does not fit, or has an answer without a
                token of its own; it holds all of them.
        """
        if languages is None:
            languages = tuple(dict.fromkeys(language for item in items for language in item.prompts))
        return self.of_cells((item, l) if l in item.prompts else None for item in items for l in languages)

    def of_cells(self, cells: Iterable[Cell]) -> Forest:
        """The trees of single languages of items. Errors are those of `build`."""
        problems: dict[int, str] = {}

        def made(chunk: list[Cell], start: int) -> Forest:
            while True:
                try:
                    return self._chunk(chunk)
                except BadCells as error:  # on, to tell them all at once
                    for n, told in error.problems.items():
                        problems[start + n], chunk[n] = told, None

        left = iter(cells)
        chunks = iter(lambda: list(itertools.islice(left, CHUNK)), [])
        with no_collection():
            forest = Forest.concatenate(made(chunk, n * CHUNK) for n, chunk in enumerate(chunks))
        if problems:
            raise BadCells(problems)
        return forest

    def _chunk(self, cells: Sequence[Cell]) -> Forest:
        places = [n for n, cell in enumerate(cells) if cell is not None]
        try:
            return self._forest_of(cells)
        except BadCells as error:
            raise BadCells({places[n]: told for n, told in error.problems.items()}) from None

    def _forest_of(self, cells: Sequence[Cell]) -> Forest:
        """Errors count the cells that are there."""
        present = [cell for cell in cells if cell is not None]
        texts = Texts()
        if self.chat is None:
            for cell in present:
                self._add(texts, cell)
            suspects = self._suspects(present) if texts.find(self._special_text) else {}
        else:
            suspects = self._suspects(present)
            refuse(_special_in_text(present, suspects, "and the chat template would make it one"))
            prompts = [open_prompt(*cell) for cell in present]
            renderings = self.chat.render(prompts) if prompts else []
            reason = "the chat template leaves a part of the prompt out"
            refuse(
                {
                    n: _told(present[n], reason, SWITCH_OFF)
                    for n, own in enumerate(zip(prompts, renderings))
                    if self.chat.leaves_out(*own)
                }
            )
            for cell, rendered in zip(present, renderings):
                self._add(texts, cell, rendered)
        if not present:
            return Forest.of([None] * len(cells))
        chat = self.chat is not None
        tokenized = texts.encode(self.tokenizer, chat, self.bos if chat else None)
        forest = self._forest(tokenized, present)
        self._check_special(forest, present, suspects)
        ended = np.array(
            [self.end == "always" or self.end == "written" and item.written for item, _ in present]
        )
        if ended.any():
            forest = forest.ended(ended, self._ending())
        forest = self._truncated(forest, present)
        there = np.array([cell is not None for cell in cells])
        segments, truncated = np.zeros((2, len(cells)), np.int64)
        segments[there], truncated[there] = forest.segments, forest.truncated
        return replace(forest, segments=segments, truncated=truncated)

    def _ending(self) -> list[int]:
        """The tokens that end a written answer."""
        if self.chat is not None and self.chat.end:
            return next(encode_continuations(self.tokenizer, [self.chat.end], special=True)).ids
        if self.tokenizer.eos_token_id is None:
            raise DataError.at(
                "data.train.end",
                "the tokenizer names no EOS to put behind written answers",
                "Set tokenizer.eos_token (eos_token in tokenizer_config.json), or --config.data.train.end=never",
            )
        return [self.tokenizer.eos_token_id]

    def _check_special(
        self, forest: Forest, cells: Sequence[tuple[ParallelItem, str]], suspects: dict[int, str]
    ) -> None:
        """Some vocabularies hold their special tokens as pieces of text too, and there is no way around them."""
        special = [index for index in self._special.values() if index != self.tokenizer.unk_token_id]
        bad = {}
        for n, token in suspects.items():
            tokens = forest.take(np.array([n])).token
            if np.isin(tokens[int(tokens[0] == self._start) :], special).any():
                bad[n] = token
        refuse(_special_in_text(cells, bad, "and the tokenizer cannot read it as text"))

    def _suspects(self, cells: Sequence[tuple[ParallelItem, str]]) -> dict[int, str]:
        """cell -> the special token that its text spells."""
        texts = (
            "\n".join(
                (open_prompt(item, name, item.prompts[name].replace(MASK, "\n")), *item.candidates[name])
            )
            for item, name in cells
        )
        found = ((n, self._special_text.search(text)) for n, text in enumerate(texts))
        return {n: match[0] for n, match in found if match}

    def _add(self, texts: Texts, cell: tuple[ParallelItem, str], rendered: str | None = None) -> None:
        """A cell's texts, split; `rendered`: all before the answer, in a chat."""
        item, language = cell
        answers: Sequence[str] = item.candidates[language]
        head, mask, rest = item.prompts[language].partition(MASK)
        if rendered is None:
            head = open_prompt(item, language, head)
        else:
            head, mask, rest = rendered, "", ""
            answers = [self.chat.separator + answer.lstrip() for answer in answers]
        if not answers:  # a bare prompt: a trunk alone
            texts.add(head, (), "", NOWHERE, 0)
            return
        if self.boundary == "separate":
            prefix = head.rstrip() if mask or self._drops_last_space else head
            space = head[len(prefix) :]
            middles = [f"{space}{answer}{rest}" for answer in answers]
            texts.add(prefix, middles, "", NOWHERE, -len(space.encode()))
            return
        # What lies beyond a split gives the same tokens alone, and does so once for all candidates, and for all items
        # that share it: only what lies between the splits is tokenized for each.
        before, behind = 0, len(rest)
        if self._splitter is not None:
            before, behind = self._splitter.around(head, answers, rest)
        near, middle_rest, suffix = head[before:], rest[:behind], rest[behind:]
        middles = [f"{near}{answer}{middle_rest}" for answer in answers]
        shift = len(suffix.encode()) - len(near.encode())
        texts.add(head[:before], middles, suffix, len(near), shift)

    def _forest(self, texts: Tokenized, cells: Sequence[tuple[ParallelItem, str]]) -> Forest:
        """Trees before any cut of their trunks: all of a step for all trees at once.

        A trunk is the start token, the prefix, and what the texts of all candidates have in common after it; a branch
        is the rest of its middle, and the suffix.
        """
        joint, n, branches = self.boundary == "joint", len(texts.branches), texts.branches
        tree = np.repeat(np.arange(n), branches)
        prefix, suffix = texts.length[texts.prefix], texts.length[texts.suffix][tree]
        middle, first = texts.length[texts.middle], texts.first[texts.middle]
        # The first branch of each tree; a bare prompt has none, and takes nothing of the one that is there instead.
        opener = np.cumsum(branches) - branches
        opening, opening_length = np.append(texts.middle, 0), np.append(middle, 0)
        bad = tree[np.flatnonzero(first >= middle + suffix if joint else middle == 0)]
        reason = "the tokenizer gives an answer no token of its own"
        mend = "Drop the candidate, or use a tokenizer that knows its characters"
        refuse({n: _told(cells[n], reason, mend) for n in bad.tolist()})
        common, answer = np.zeros(n, np.int64), np.minimum.reduceat(np.append(first, FAR), opener)
        if joint:
            # With one candidate all is common: its trunk ends where the answer starts, with a prompt's state.
            common = np.where(branches == 1, answer, texts.common())
        started = (prefix + np.minimum(answer, common)) == 0
        if self.bos is not None:
            started[:] = True
        elif self._start is None and started.any():
            reason = "the answer opens the text, and the tokenizer has neither BOS nor EOS to predict it from"
            mend = "Give the item a context, or set tokenizer.bos_token"
            refuse({n: _told(cells[n], reason, mend) for n in np.flatnonzero(started).tolist()})

        # Every segment as runs of texts' tokens: a trunk is four runs (start, prefix, what is common of the middle, and
        # of the suffix), a branch two.
        shared = np.minimum(common, opening_length[opener])
        own = np.minimum(common[tree], middle)
        begin, size = np.zeros((2, 4 * n + 2 * len(tree)), np.int64)
        trunk_at = 4 * np.arange(n) + 2 * opener
        branch_at = 4 * (tree + 1) + 2 * np.arange(len(tree))
        begin[trunk_at], size[trunk_at] = 0, started
        begin[trunk_at + 1], size[trunk_at + 1] = texts.begin[texts.prefix], prefix
        begin[trunk_at + 2], size[trunk_at + 2] = texts.begin[opening[opener]], shared
        begin[trunk_at + 3], size[trunk_at + 3] = texts.begin[texts.suffix], common - shared
        begin[branch_at], size[branch_at] = texts.begin[texts.middle] + own, middle - own
        over = common[tree] - own
        begin[branch_at + 1], size[branch_at + 1] = texts.begin[texts.suffix][tree] + over, suffix - over
        texts.token[0] = self._start or 0

        trunks = np.arange(n) + opener
        is_branch = np.ones(n + len(tree), bool)
        is_branch[trunks] = False
        length, answers, sizes = np.zeros((3, len(is_branch)), np.int64)  # tokens, those of a prompt, bytes
        length[trunks], answers[trunks] = started + prefix + common, started + prefix + answer
        length[is_branch] = middle + suffix - common[tree]
        sizes[is_branch] = texts.size[texts.middle] + texts.shift[tree]
        offset = ranges(np.zeros_like(length), length)
        kind = np.where(offset < np.repeat(answers, length), np.uint8(PROMPT), np.uint8(ANSWER))
        kind[(np.cumsum(length) - length)[trunks]] = UNCOUNTED
        return Forest(
            segments=branches + 1,
            length=length,
            token=texts.token[ranges(begin, size)],
            kind=kind,
            bytes=sizes.astype(np.int32),
            truncated=np.zeros(n, np.int64),
        )

    def _truncated(self, forest: Forest, cells: Sequence[tuple[ParallelItem, str]]) -> Forest:
        """The trees with their trunks cut from the left to the lengths allowed."""
        trunk = forest.length[forest.first]
        longest = np.maximum.reduceat(np.where(forest.branch > 0, forest.length, 0), forest.first)
        excess = np.maximum(trunk + longest - self.max_length, 0)
        if not excess.any():
            return forest
        kept, kind, length = np.ones(len(forest.token), bool), forest.kind.copy(), forest.length.copy()
        bad: dict[int, str] = {}
        for n in np.flatnonzero(excess).tolist():
            first, size, cut = int(forest.start[forest.first[n]]), int(trunk[n]), int(excess[n])
            # BOS stays, be it a template's; without one a token must stay that the first counted one is predicted from.
            front = int(forest.token[first] in (self._start, self.tokenizer.bos_token_id))
            answers = int(np.count_nonzero(forest.kind[first : first + size] == ANSWER))
            if size - cut < answers + 1:
                reason = f"its answers alone take more than max_length {self.max_length} tokens, even with the prompt "
                mend = f"Allow at least {cut - (size - answers - 1)} more, or drop the item"
                bad[n] = _told(cells[n], f"{reason}cut away", mend)
                continue
            kept[first + front : first + front + cut] = False
            kind[first + (0 if front else cut)] = UNCOUNTED
            length[forest.first[n]] -= cut
        refuse(bad)
        return replace(forest, token=forest.token[kept], kind=kind[kept], length=length, truncated=excess)


class BadCells(DataError):
    """Single languages of items that no tree can be made of: number of the cell -> what is wrong with it."""

    def __init__(self, problems: Mapping[int, str]) -> None:
        first, *others = (problems[n] for n in sorted(problems))
        super().__init__(f"{first}." + (f" And {len(others)} more." if others else ""))
        self.problems = problems


def refuse(problems: Mapping[int, str]) -> None:
    """`BadCells` of these; nothing where there are none."""
    if problems:
        raise BadCells(problems)


def _told(cell: tuple[ParallelItem, str], reason: str, mend: str) -> str:
    item, language = cell
    where = f"{item.where}: " if item.where else ""
    return f"{where}item {item.id!r}, language {language!r}: {reason}. {mend}"


def _special_in_text(
    cells: Sequence[tuple[ParallelItem, str]], tokens: Mapping[int, str], reason: str
) -> dict[int, str]:
    what, mend = "a special token of the tokenizer", "Write it in another way, or drop the item"
    return {
        n: _told(cells[n], f"its text holds {token!r}, {what}, {reason}", mend) for n, token in tokens.items()
    }


# ----------------------------------------------------------------------------------------------------- cached on disk
# Bytes of text from which on trees are cached. A core tokenizes 3 to 8 MB of BMLAMA-17 a second (benchmarks/scoring.py
# --build), so this is about a second of work. To find it again takes up to 0.2 s of that, most of it for the key of a
# large vocabulary, and its file takes disk for good: smaller sets are not worth either.
LEAST = 4_000_000
BAD = "bad_cells"  # of a file that says which cells have no tree


def cached_trees(builder: TreeBuilder, items: Sequence[ParallelItem], languages: Sequence[str]) -> Forest:
    """`builder.build(items, languages)`: from the user's cache folder, or made now, and stored if that takes long.

    A run that starts again, or another one on the same data, does not tokenize. Trees are found again by a key of all
    that they depend on: the texts, the languages, the tokenizer (what it is, not where it lies), the settings of the
    builder, and the code that makes them, so that a change of it makes them anew. Of a set with cells that fit no
    tree, their numbers are kept instead.

    Raises:
        DataError: see `TreeBuilder.build`.
        ConfigError: where processes have tokenizers or packages that differ.
    """
    digest, size = hashlib.sha256(), 0
    if isinstance(items, StoredItems):  # they know their keys
        digest.update(fact(items, "keys").tobytes())
        size = items.size
    else:
        for text in _texts(items, languages):
            digest.update(text)
            size += len(text)
    if size < LEAST:
        return builder.build(items, languages)
    digest.update(builder.key().encode())
    digest.update(f"{tokenizers.__version__} {tuple(languages)}".encode())
    for file in (*sorted(Path(__file__).parent.glob("*.py")), Path(items_module.__file__)):
        digest.update(file.read_bytes())
    fresh: list[BadCells] = []

    def made() -> Forest | np.ndarray:
        try:
            return builder.build(items, languages)
        except BadCells as error:
            fresh.append(error)
            return np.array(sorted(error.problems))

    found = found_or_made(
        cache_folder() / "trees" / f"{digest.hexdigest()[:32]}.npz",
        made,
        _load,
        lambda path, own: own.save(path) if isinstance(own, Forest) else write_arrays(path, {BAD: own}),
        "tokenizer, or texts of the data",
    )
    if isinstance(found, Forest):
        return found
    for error in fresh:
        raise error
    places, many = found.tolist(), len(languages)
    cells = (
        (item, languages[n % many])
        for number, own in itertools.groupby(places, key=lambda n: n // many)
        for item in [items[number]]
        for n in own
    )
    try:  # only these again: a message names its item's `where`, which is no part of the key
        builder.of_cells(cells)
    except BadCells as error:
        raise BadCells({places[n]: told for n, told in error.problems.items()}) from None
    return builder.build(items, languages)


def _load(path: Path) -> Forest | np.ndarray:
    """Trees, or the numbers of the cells that none can be made of.

    Raises:
        ValueError: for a file that is damaged, or holds neither.
    """
    try:
        return Forest.load(path)
    except ValueError:
        arrays = read_arrays(path, mapped=True)
        if set(arrays) != {BAD}:
            raise
        return arrays[BAD]


def _texts(items: Sequence[ParallelItem], languages: Sequence[str]) -> Iterator[bytes]:
    """What trees are made of, each item in bytes that no other has."""
    for item in items:
        context = item.context or {}
        texts = [
            (item.prompts.get(language), item.candidates.get(language), context.get(language))
            for language in languages
        ]
        yield marshal.dumps(
            [item.id, item.written, texts], 2
        )  # twice as fast as JSON; 2: equal values, equal bytes
