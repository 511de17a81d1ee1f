"""Blocks list for every token the keys that the mask lets it see, no more and no fewer."""

import numpy as np
import pytest

from consistency_jax.data.packing import attention_blocks
from consistency_jax.data.packing.attention_blocks import BlockSizes, choose_sizes, make_blocks, needed
from consistency_jax.data.packing.plan import batch_plan
from consistency_jax.data.packing.rows import Batch, Shape, pack, tree_sizes
from consistency_jax.data.trees.forest import Forest, Tree
from consistency_jax.models.attention import tree_mask


def tree(rng: np.random.Generator, trunk: int, branches: list[int]) -> Tree:
    segments = [rng.integers(1, 50, size) for size in (trunk, *branches)]
    return Tree.of_tokens(segments[0], segments[1:])


def forest(seed: int, count: int = 40) -> Forest:
    """Trees of all sizes, some missing; branches of one token feed none."""
    rng = np.random.default_rng(seed)
    return Forest.of(
        [
            None
            if rng.random() < 0.1
            else tree(rng, int(rng.integers(1, 40)), rng.integers(1, 30, rng.integers(1, 8)).tolist())
            for _ in range(count)
        ]
    )


def packed(trees: Forest, length: int) -> tuple[Batch, Shape]:
    sizes = tree_sizes(trees)
    rows = int(sizes[:, 0].sum() // length) + 8
    shape = Shape(rows, length, int(sizes[:, 1].sum()), int(sizes[:, 2].sum()))
    return pack(trees, shape, candidates=10), shape


@pytest.mark.parametrize("queries", [3, 8, 64])
@pytest.mark.parametrize("seed", range(3))
def test_blocks_list_what_the_mask_shows(seed: int, queries: int) -> None:
    trees = forest(seed)
    batch, _ = packed(trees, 300)
    blocks = make_blocks(batch.tree, batch.branch, needed(trees, [np.arange(len(trees))], queries))
    seen = np.asarray(tree_mask(batch.positions, batch.tree, batch.branch))
    assert (batch.tree.max(1) > 1).any()  # several trees in a row
    assert len(blocks.keys) > 1

    first, found = 0, {}
    for keys in blocks.keys:
        for own, listed in zip(blocks.queries[first : first + len(keys)], keys, strict=True):
            for query in own[own >= 0].tolist():
                assert query not in found  # in one block only
                found[query] = sorted(key for key in listed.tolist() if 0 <= key <= query)
        first += len(keys)
    real = np.flatnonzero(batch.tree)
    assert sorted(found) == real.tolist()
    for place in real.tolist():
        row, column = divmod(place, batch.tree.shape[1])
        assert found[place] == (row * batch.tree.shape[1] + np.flatnonzero(seen[row, column])).tolist()
    np.testing.assert_array_equal(blocks.queries.reshape(-1)[blocks.home[real]], real)


def test_sizes_hold_every_batch_of_a_plan() -> None:
    trees = forest(5, 300)
    plan = batch_plan(tree_sizes(trees), mask_cost=1 / 1400, tokens=1500)
    assert len(plan) > 4
    for shape in {batch.shape for batch in plan}:
        parts = [batch.trees for batch in plan if batch.shape == shape]
        for queries in (8, 32):
            sizes = needed(trees, parts, queries)
            for part in parts:
                batch = pack(trees.take(part), shape, candidates=10)
                blocks = make_blocks(batch.tree, batch.branch, sizes)
                assert [keys.shape for keys in blocks.keys] == list(sizes.widths)


def test_a_row_of_branches_gets_blocks_and_one_long_sequence_is_not() -> None:
    rng = np.random.default_rng(0)
    branches = Forest.of([tree(rng, 30, [20] * 10)] * 4)
    parts, shape = [np.arange(4)] * 100, Shape(4, 240, 800, 800)
    chosen = choose_sizes(branches, parts, shape)
    assert chosen is not None
    assert chosen.cost < 0.5 * 4 * 240**2
    assert choose_sizes(branches, parts[:20], shape) is None  # not worth compiling

    alone = Forest.of([tree(rng, 200, [2])] * 4)
    assert choose_sizes(alone, parts, Shape(4, 208, 8, 8)) is None


def test_sizes_that_are_too_small_are_an_error() -> None:
    trees = forest(1)
    batch, _ = packed(trees, 300)
    fitting = needed(trees, [np.arange(len(trees))], 16)
    (count, keys), *others = fitting.widths
    for widths in (((count, keys - 8), *others), ((1, keys), *others[1:])):
        with pytest.raises(ValueError, match="do not fit"):
            make_blocks(batch.tree, batch.branch, BlockSizes(16, widths))


def test_rows_without_trees_have_no_blocks() -> None:
    empty = np.zeros((2, 8), np.int32)
    blocks = make_blocks(empty, empty, BlockSizes(8, ((2, 8),)))
    assert (blocks.queries == -1).all()
    assert (blocks.keys[0] == -1).all()


def test_widths_are_those_of_the_blocks() -> None:
    """A trunk of 16 is two blocks, a branch of 9 (its last token is not fed) one behind it."""
    rng = np.random.default_rng(0)
    sizes = needed(Forest.of([tree(rng, 16, [9])]), [np.arange(1)], 8)
    assert sizes == BlockSizes(8, ((1, 24), (1, 16), (1, 8)))
    assert sizes.cost == 8 * (24 + 16 + 8) + 3 * attention_blocks.BLOCK_COST
