"""Token trees -> rows of fixed shape.

Rows [R, T] hold many trees. A token sees a key iff same tree, not later, and the key is in the trunk or in
its own branch. What is predicted are triples (source, token, slot): the hidden state, the token, the cell
of the table:

    slot = (n * kinds + kind) * (K + 1) + j        kind 0 = answer, 1 = prompt; j = 0 trunk, k + 1 = branch k
    logp[n, k] = cells[n, 0, 0] + cells[n, 0, k + 1]

The trunk's last state predicts the first token of all branches; the last token of a branch predicts nothing
and is seen by nothing, so it is not fed. Shapes are static: each new one costs a compilation (see
`plan`).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from consistency_jax.data.trees.forest import ANSWER, PROMPT, UNCOUNTED, Forest


@dataclass(frozen=True)
class Shape:
    """The static sizes of a batch.

    Attributes:
        rows: R, over all groups; a multiple of groups.
        length: T, tokens a row.
        sources: U, hidden states that predict something, per group.
        targets: M, predicted tokens, per group.
        groups: G, parts of the batch that never refer to each other's rows (one a data shard).
    """

    rows: int
    length: int
    sources: int
    targets: int
    groups: int = 1

    def holds(self, other: "Shape") -> bool:
        """Whether a batch whose tight shape is `other` can be packed in this one."""
        return (
            self.length == other.length
            and self.groups == other.groups
            and self.rows >= other.rows
            and self.sources >= other.sources
            and self.targets >= other.targets
        )


class Batch(NamedTuple):
    """Packed trees: a pytree of arrays, all of static shape (N = number of trees given, G groups).

    Attributes:
        tokens: i32[R, T], 0 where padding.
        positions: i32[R, T], in every branch they go on from the trunk.
        tree: i32[R, T], number of the tree within its row, from 1; 0 = padding.
        branch: i32[R, T], 0 = trunk, k + 1 = branch k.
        sources: i32[G, U], places in the group's flattened rows of the states that predict; each once;
            padding 0.
        target_source: i32[G, M], index into axis U.
        target_token: i32[G, M].
        target_slot: i32[G, M], cell; padding = number of cells (dropped by segment_sum).
        prompt_end: i32[N], place (row * T + column) of each tree's last prompt token in its trunk (BOS where it has
            none): in joint trees answer tokens may follow it there. 0 for a gap.
        blocks: how attention is cut, `data/packing/attention_blocks.py`; None: it is not.
    """

    tokens: Any
    positions: Any
    tree: Any
    branch: Any
    sources: Any
    target_source: Any
    target_token: Any
    target_slot: Any
    prompt_end: Any
    blocks: Any = None


def _counted(forest: Forest, prompt: bool) -> np.ndarray:
    """bool[P]: the tokens that are predicted."""
    return forest.kind != UNCOUNTED if prompt else forest.kind == ANSWER


def tree_sizes(trees: Forest, *, prompt: bool = False) -> np.ndarray:
    """What each tree takes: i64[N, 3] = (row tokens, sources, targets); zeros for a gap.

    Args:
        trees: N trees.
        prompt: whether prompt tokens are predicted too.
    """
    counted = _counted(trees, prompt)
    targets = trees.per_tree(trees.per_segment(counted))
    # The first tokens of a tree's branches share one source, the trunk's last state.
    first = np.zeros(len(trees.length), bool)
    branches = np.flatnonzero((trees.branch > 0) & (trees.length > 0))
    first[branches] = counted[trees.start[branches]]
    opens = trees.per_tree(first)
    return np.stack([trees.per_tree(trees.fed), targets - opens + (opens > 0), targets], axis=1)


class Layout(NamedTuple):
    """Where trees go: row i32[N] (-1 where none), column i32[N], rows of each group, and the tight shape."""

    row: np.ndarray
    column: np.ndarray
    group: np.ndarray  # i64[rows used]: the group of each row
    shape: Shape


def lay_out(sizes: np.ndarray, length: int, groups: int = 1) -> Layout:
    """Best-fit decreasing: the longest tree first, each into the fullest row that still has room.

    Args:
        sizes: i64[N, 3] of `tree_sizes`.
        length: T.
        groups: G; rows are dealt to groups so that their sources are balanced.

    Raises:
        ValueError: a tree longer than a row.
    """
    tokens = sizes[:, 0]
    if len(tokens) and tokens.max() > length:
        n = int(tokens.argmax())
        raise ValueError(
            f"tree {n} takes {tokens[n]} tokens, rows have {length}: use longer rows, or shorter prompts and answers"
        )
    row = np.full(len(tokens), -1, np.int64)
    column = np.zeros(len(tokens), np.int64)
    free: list[list[int]] = [[] for _ in range(length)]  # room left -> rows
    rooms = 0  # bit r: there is a row with room r
    used = 0
    order = np.argsort(-tokens, kind="stable")
    for n, size in zip(order.tolist(), tokens[order].tolist()):
        if size == 0:
            break
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            r = free[room].pop()
            if not free[room]:
                rooms ^= 1 << room
        else:
            room, r = length, used
            used += 1
        row[n], column[n] = r, length - room
        if room > size:
            free[room - size].append(r)
            rooms |= 1 << (room - size)
    group = _deal(row, sizes, used, groups)
    per_group = np.zeros((groups, 2), np.int64)
    np.add.at(per_group, group[row[row >= 0]], sizes[row >= 0, 1:])
    rows = max(-(-used // groups), 1) * groups
    shape = Shape(rows, length, *(max(int(x), 1) for x in per_group.max(0)), groups)
    return Layout(row, column, group, shape)


def _deal(row: np.ndarray, sizes: np.ndarray, used: int, groups: int) -> np.ndarray:
    """The group of each row: most sources first, to the group with the fewest so far that has room."""
    if groups == 1:
        return np.zeros(used, np.int64)
    per_row = np.bincount(row[row >= 0], weights=sizes[row >= 0, 1:].sum(1), minlength=used)
    capacity = -(-used // groups)
    load, rows_in, group = [0.0] * groups, [0] * groups, np.zeros(used, np.int64)
    for r in np.argsort(-per_row, kind="stable").tolist():
        g = min((g for g in range(groups) if rows_in[g] < capacity), key=lambda g: (load[g], g))
        group[r] = g
        load[g] += per_row[r]
        rows_in[g] += 1
    return group


def pack(trees: Forest, shape: Shape, *, candidates: int, prompt: bool = False) -> Batch:
    """Packs trees into a batch of that shape.

    Args:
        trees: N trees; a gap leaves its cells empty.
        shape: at least the one that `lay_out` finds for these trees.
        candidates: K of the table, at least the branches of any tree.
        prompt: True adds the cells of prompt tokens (kinds = 2).

    Raises:
        ValueError: the trees do not fit, or a tree has more branches than K.
    """
    kinds = 2 if prompt else 1
    n_cells = len(trees) * kinds * (candidates + 1)
    layout = lay_out(tree_sizes(trees, prompt=prompt), shape.length, shape.groups)
    if not shape.holds(layout.shape) or shape.rows % shape.groups:
        raise ValueError(f"these trees need {layout.shape}, the batch is {shape}")
    R, T, G, U, M = shape.rows, shape.length, shape.groups, shape.sources, shape.targets
    rows = {name: np.zeros((R, T), np.int32) for name in ("tokens", "positions", "tree", "branch")}
    sources = np.zeros((G, U), np.int32)
    target_source, target_token = np.zeros((G, M), np.int32), np.zeros((G, M), np.int32)
    target_slot = np.full((G, M), n_cells, np.int32)
    prompt_end = np.zeros(len(trees), np.int32)
    if len(trees.token):
        if trees.segments.max() > candidates + 1:
            raise ValueError(
                f"a tree has {trees.segments.max() - 1} branches, the table {candidates} candidates"
            )
        # Rows in use, renumbered so that each group's lie together.
        per_group = R // G
        by_group = np.argsort(layout.group, kind="stable")
        sorted_group = layout.group[by_group]
        first = np.searchsorted(sorted_group, np.arange(G))
        renumbered = np.empty(len(by_group), np.int64)
        renumbered[by_group] = sorted_group * per_group + np.arange(len(by_group)) - first[sorted_group]
        row = renumbered[layout.row]  # of absent trees too (row -1): unused

        # Per tree: where it starts, and how long its trunk is.
        base, present, is_trunk = row * T + layout.column, trees.segments > 0, trees.branch == 0
        trunk_length, answers = np.zeros((2, len(trees)), np.int64)
        trunk_length[present] = trees.length[is_trunk]
        answers[present] = trees.per_segment(trees.kind == ANSWER)[is_trunk]
        trunk_end = base + trunk_length - 1
        prompt_end[present] = (trunk_end - answers)[present]

        # Per segment: its tree, and where its first fed token lies.
        tree_of = np.repeat(np.arange(len(trees)), trees.segments)
        fed_before = np.cumsum(trees.fed) - trees.fed
        place_of_segment = base[tree_of] + fed_before - fed_before[trees.first[tree_of]]

        # Per token.
        token, segment = trees.token, np.repeat(np.arange(len(trees.length)), trees.length)
        offset = np.arange(len(segment)) - trees.start[segment]
        owner, branch = tree_of[segment], trees.branch[segment]
        place, fed = place_of_segment[segment] + offset, offset < trees.fed[segment]
        at = place[fed]
        rows["tokens"].reshape(-1)[at] = token[fed]
        rows["positions"].reshape(-1)[at] = (offset + np.where(branch > 0, trunk_length[owner], 0))[fed]
        rows["tree"].reshape(-1)[at] = _number_in_row(row, layout.column, present)[owner[fed]]
        rows["branch"].reshape(-1)[at] = branch[fed]

        # Targets, grouped.
        counted = _counted(trees, prompt)
        if np.any(counted & (offset == 0) & (branch == 0)):
            raise ValueError(
                "the first token of a trunk is counted, but nothing predicts it: its kind must be 0"
            )
        owner, branch, kind = owner[counted], branch[counted], trees.kind[counted]
        source = np.where(offset[counted] > 0, place[counted] - 1, trunk_end[owner])
        slot = (owner * kinds + (kind == PROMPT)) * (candidates + 1) + branch
        is_source = np.zeros(R * T, bool)
        is_source[source] = True
        listed = np.flatnonzero(is_source)
        group_of_listed = listed // (per_group * T)
        first = np.searchsorted(group_of_listed, np.arange(G))
        rank = np.zeros(R * T, np.int32)
        rank[listed] = np.arange(len(listed)) - first[group_of_listed]
        sources[group_of_listed, rank[listed]] = listed - group_of_listed * (per_group * T)

        group_of_target = source // (per_group * T)
        order = np.argsort(group_of_target, kind="stable")
        group_of_target = group_of_target[order]
        column = np.arange(len(order)) - np.searchsorted(group_of_target, np.arange(G))[group_of_target]
        target_source[group_of_target, column] = rank[source[order]]
        target_token[group_of_target, column] = token[counted][order]
        target_slot[group_of_target, column] = slot[order]
    return Batch(**rows, sources=sources, target_source=target_source, target_token=target_token,
                 target_slot=target_slot, prompt_end=prompt_end)  # fmt: skip


def _number_in_row(row: np.ndarray, column: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Each tree's number within its row, from 1, in the order of columns."""
    number = np.zeros(len(row), np.int64)
    trees = np.flatnonzero(present)
    order = trees[np.lexsort((column[trees], row[trees]))]
    first = np.searchsorted(row[order], row[order])
    number[order] = np.arange(len(order)) - first + 1
    return number
