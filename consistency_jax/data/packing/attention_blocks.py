"""Blocks of queries, each with the keys that it sees: attention without the parts of a row that nobody sees.

Under a dense mask every token of a row is held against every other. But a token sees its trunk and its own branch, a
small part of a row that holds ten branches. So each segment of a row (trunk or branch) is divided into blocks of W
queries, and a block's keys are listed: those of its tree's trunk, and those of its own segment up to the block's end.
Most see far fewer than the widest does: sorted by how many, they are dealt to a few widths. Rows stay as they are
packed: blocks are places in them, gathered for attention alone (models/attention.py).

Why not one query at a time: gathering its keys would cost more than it saves, and the queries of one segment see almost
the same keys. Why not one width: every block would pay for the widest. Why few widths, and the same for all batches of
a shape: sizes are compiled into the program.

Letters: R rows of T tokens, P = R * T; B blocks, W queries of a block, S keys of one, by width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from consistency_jax.data.packing.rows import Shape
from consistency_jax.data.trees.forest import Forest, ranges

QUERIES = (8, 16, 24, 32, 48, 64)  # W to choose among
WIDTHS = 5  # at most: each is a few more operations to compile
MULTIPLE = 8  # of S
BLOCK_COST = 200  # what a block costs beside its scores, in scores; measured on CPU, heads of 8
FEWEST = 10_000_000  # scores that must be saved: a program with blocks takes a second longer to compile
SAMPLE = 32  # batches at which W is chosen
WORTH = 0.7  # of what a dense mask costs: blocks that cost more are not taken


class BlockSizes(NamedTuple):
    """The static sizes of a batch's blocks.

    Attributes:
        queries: W.
        widths: (blocks, S) of each width, the widest first.
    """

    queries: int
    widths: tuple[tuple[int, int], ...]

    @property
    def cost(self) -> int:
        """In scores of a query and a key."""
        return sum(count * (self.queries * keys + BLOCK_COST) for count, keys in self.widths)


class QueryBlocks(NamedTuple):
    """Places in the flattened rows [P]; -1 where there is none.

    Attributes:
        queries: i32[B, W], the blocks of all widths, the widest first.
        keys: i32[blocks, S] of each width.
        home: i32[P], where in [B * W] each token is a query; 0 for padding, which nobody sees.
    """

    queries: Any
    keys: tuple[Any, ...]
    home: Any


def choose_sizes(forest: Forest, parts: Sequence[np.ndarray], shape: Shape) -> BlockSizes | None:
    """The cheapest sizes for the batches of one shape; None where they save little beside a dense mask.

    Args:
        forest: the trees.
        parts: the numbers of each batch's trees.
        shape: of their rows.
    """
    dense = shape.rows * shape.length**2
    if dense * len(parts) < FEWEST:
        return None
    sample = parts[:: -(-len(parts) // SAMPLE)]
    queries = min(QUERIES, key=lambda queries: needed(forest, sample, queries).cost)
    sizes = needed(forest, parts, queries)
    worth = sizes.cost < WORTH * dense and (dense - sizes.cost) * len(parts) > FEWEST
    return sizes if worth else None


def needed(forest: Forest, parts: Sequence[np.ndarray], queries: int) -> BlockSizes:
    """Sizes that hold the blocks of each of some batches; arguments as for `choose_sizes`, `queries` is W.

    Of all choices of at most `WIDTHS` widths the one with the fewest scores, by dynamic programming over the levels
    (multiples of `MULTIPLE` keys) that some block needs.
    """
    trees = forest.take(np.concatenate(parts))
    number, keys = _keys_seen(trees, queries)
    batch = np.repeat(np.repeat(np.arange(len(parts)), [len(part) for part in parts]), trees.per_tree(number))
    level = -(-keys // MULTIPLE)
    count = np.zeros((len(parts), level.max() + 1), np.int64)
    np.add.at(count, (batch, level), 1)
    # Blocks that see more than a level: of the batch with the most, since one program serves them all.
    beyond = (count.sum(1, keepdims=True) - count.cumsum(1)).max(0)
    levels = np.flatnonzero(np.diff(beyond, prepend=beyond[0])).tolist()
    # best[top]: the fewest scores of the blocks up to that level, and the widths for them.
    best: dict[int, tuple[int, list[int]]] = {0: (0, [])}
    for _ in range(WIDTHS):
        further = {
            top: min(
                (scores + top * int(beyond[low] - beyond[top]), [*tops, top])
                for low, (scores, tops) in best.items()
                if low < top
            )
            for top in levels
        }
        best = {top: min(best.get(top, found), found) for top, found in further.items()} | {0: (0, [])}
    tops = best[levels[-1]][1]
    widths = [(int(beyond[low] - beyond[top]), top * MULTIPLE) for low, top in zip([0, *tops], tops)]
    return BlockSizes(queries, tuple(reversed(widths)))


def _keys_seen(forest: Forest, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """i64: the blocks of each segment of these trees, and how many keys each block sees."""
    fed, present = forest.fed, forest.segments > 0
    trunk = np.repeat(fed[forest.first[present]], forest.segments[present])
    number, segment, first = _divide(fed, queries)
    return number, np.where(forest.branch == 0, 0, trunk)[segment] + np.minimum(first + queries, fed[segment])


def make_blocks(tree: np.ndarray, branch: np.ndarray, sizes: BlockSizes) -> QueryBlocks:
    """The blocks of packed rows.

    Args:
        tree, branch: i32[R, T] of a `Batch`; the segments of a tree lie end to end, its trunk first.
        sizes: at least what the rows need.

    Raises:
        ValueError: the sizes hold fewer blocks, or fewer keys of one.
    """
    counts, widths = (np.array(numbers) for numbers in zip(*sizes.widths))
    # Segments: runs of one branch of one tree of one row.
    place = np.flatnonzero(tree)
    run = np.stack([place // tree.shape[1], tree.reshape(-1)[place], branch.reshape(-1)[place]])
    opens = np.flatnonzero(np.any(np.diff(run, axis=1, prepend=-1) != 0, axis=0))
    start, length = place[opens], np.diff(opens, append=len(place))
    is_trunk = run[2, opens] == 0
    trunk = np.maximum.accumulate(np.where(is_trunk, np.arange(len(start)), 0))
    trunk_length = np.where(is_trunk, 0, length[trunk])

    # Blocks: W queries of a segment, its last ones perhaps fewer. From the one that sees most, so that block n takes
    # the n-th place of the widths, which are sorted in the same way: if any deal fits, this one does.
    _, segment, first = _divide(length, sizes.queries)
    seen = trunk_length[segment] + np.minimum(first + sizes.queries, length[segment])
    order = np.argsort(-seen, kind="stable")
    segment, first, seen = segment[order], first[order], seen[order]
    width = np.repeat(np.arange(len(widths)), counts)[: len(segment)]
    if len(width) < len(segment) or np.any(seen > widths[width]):
        raise ValueError(f"{len(segment)} blocks that see up to {seen.max()} keys do not fit {sizes}")

    before, at, trunk_at = (values[segment][:, None] for values in (trunk_length, start, start[trunk]))
    inside = first[:, None] + np.arange(sizes.queries)
    real = inside < length[segment][:, None]
    queries = np.full((counts.sum(), sizes.queries), -1, np.int32)
    queries[: len(segment)] = np.where(real, at + inside, -1)
    home = np.zeros(tree.size, np.int32)
    home[queries[queries >= 0]] = np.flatnonzero(queries >= 0)
    keys = []
    for w, (count, most) in enumerate(sizes.widths):
        own, s = width == w, np.arange(most)
        places = np.where(s < before[own], trunk_at[own] + s, at[own] + s - before[own])
        listed = np.full((count, most), -1, np.int32)
        listed[: own.sum()] = np.where(s < seen[own][:, None], places, -1)
        keys.append(listed)
    return QueryBlocks(queries, tuple(keys), home)


def _divide(length: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """i64: the blocks of each segment of so many tokens; the segment of each block, and its first token there."""
    number = -(-length // queries)
    return number, np.repeat(np.arange(len(length)), number), queries * ranges(np.zeros_like(number), number)
