"""Laws of packing, with a fake model: a token's "log-probability" is an integer hash of the context it sees.

Integers, so that every comparison is exact; a context that differs in one token gives another number.
"""

import numpy as np
import pytest

from consistency_jax.data.packing.rows import Batch, Shape, lay_out, pack, tree_sizes
from consistency_jax.data.trees.forest import ANSWER, PROMPT, UNCOUNTED, Forest, Tree

K = 4


def random_tree(rng: np.random.Generator) -> Tree:
    trunk = rng.integers(1, 50, rng.integers(1, 9)).astype(np.int32)
    trunk_kind = np.full(len(trunk), PROMPT, np.uint8)
    trunk_kind[len(trunk) - rng.integers(0, 3) :] = ANSWER
    trunk_kind[0] = UNCOUNTED
    branches, kinds = [], []
    for _ in range(rng.integers(1, K + 1)):
        length = rng.choice([0, 1, 2, 5])
        branches.append(rng.integers(1, 50, length).astype(np.int32))
        kind = np.full(length, ANSWER, np.uint8)
        kind[: rng.integers(0, 2)] = PROMPT
        kinds.append(kind)
    return Tree(trunk, tuple(branches), trunk_kind, tuple(kinds), np.ones(len(branches), np.int32))


def random_trees(seed: int, count: int = 12) -> list[Tree | None]:
    rng = np.random.default_rng(seed)
    return [None if rng.random() < 0.15 else random_tree(rng) for _ in range(count)]


def num_fed(tree: Tree) -> int:
    """Its trunk, and every branch but its last token."""
    return len(tree.trunk) + sum(max(len(branch) - 1, 0) for branch in tree.branches)


def tight_shape(trees: list[Tree | None], length: int, prompt: bool = False, groups: int = 1) -> Shape:
    """The smallest that holds these trees in rows of that length."""
    return lay_out(tree_sizes(Forest.of(trees), prompt=prompt), length, groups).shape


def fake_logp(context: tuple[int, ...], token: int) -> int:
    return hash((context, token)) % 1009


def one_sequence_per_candidate(trees: list[Tree | None], prompt: bool) -> np.ndarray:
    """[N, kinds, K]: each trunk + branch scored alone."""
    scores = np.zeros((len(trees), 2, K), np.int64)
    for n, tree in enumerate(trees):
        for k, branch in enumerate(tree.branches if tree else ()):
            tokens = (*tree.trunk.tolist(), *branch.tolist())
            kinds = (*tree.trunk_kind.tolist(), *tree.branch_kinds[k].tolist())
            for i in range(1, len(tokens)):
                if kinds[i] != UNCOUNTED:
                    scores[n, int(kinds[i] == PROMPT), k] += fake_logp(tokens[:i], tokens[i])
    return scores if prompt else scores[:, :1]


def contexts(batch: Batch) -> dict[tuple[int, int], tuple[int, ...]]:
    """(row, column) -> the tokens seen there, by the rule of the mask, in the order of positions."""
    seen = {}
    for r, c in zip(*np.nonzero(batch.tree)):
        keys = [
            i
            for i in range(c + 1)
            if batch.tree[r, i] == batch.tree[r, c] and batch.branch[r, i] in (0, batch.branch[r, c])
        ]
        positions = [int(batch.positions[r, i]) for i in keys]
        assert sorted(positions) == list(range(len(keys)))
        assert batch.positions[r, c] == len(keys) - 1
        seen[int(r), int(c)] = tuple(int(batch.tokens[r, i]) for _, i in sorted(zip(positions, keys)))
    return seen


def from_batch(batch: Batch, trees: list[Tree | None], prompt: bool) -> np.ndarray:
    """[N, kinds, K], through sources, targets and slots."""
    kinds = 1 + prompt
    n_cells = len(trees) * kinds * (K + 1)
    cells = np.zeros(n_cells + 1, np.int64)
    seen = contexts(batch)
    groups, _ = batch.sources.shape
    length = batch.tokens.shape[1]
    rows = batch.tokens.shape[0] // groups
    for g in range(groups):
        for source, token, slot in zip(batch.target_source[g], batch.target_token[g], batch.target_slot[g]):
            if slot < n_cells:
                row, column = divmod(int(batch.sources[g, source]), length)
                cells[slot] += fake_logp(seen[g * rows + row, column], int(token))
            else:
                assert slot == n_cells
    cells = cells[:-1].reshape(len(trees), kinds, K + 1)
    return cells[:, :, :1] + cells[:, :, 1:]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("prompt", [False, True])
def test_packed_trees_score_as_one_sequence_per_candidate(prompt: bool, groups: int):
    for seed in range(10):
        trees = random_trees(seed)
        shape = tight_shape(trees, 32, prompt=prompt, groups=groups)
        got = from_batch(pack(Forest.of(trees), shape, candidates=K, prompt=prompt), trees, prompt)
        expected = one_sequence_per_candidate(trees, prompt)
        real = np.array([[tree is not None and k < len(tree.branches) for k in range(K)] for tree in trees])
        np.testing.assert_array_equal(np.where(real[:, None], got, 0), expected)


def test_every_source_is_listed_once_and_every_branch_is_fed_without_its_last_token():
    for seed in range(10):
        trees = random_trees(seed)
        shape = tight_shape(trees, 32, prompt=True, groups=2)
        batch = pack(Forest.of(trees), shape, candidates=K, prompt=True)
        sizes = tree_sizes(Forest.of(trees), prompt=True)
        assert (batch.tree > 0).sum() == sizes[:, 0].sum() == sum(map(num_fed, filter(None, trees)))
        n_cells = len(trees) * 2 * (K + 1)
        used = 0
        for g in range(2):
            real = batch.target_slot[g] < n_cells
            listed = np.unique(batch.target_source[g][real])
            places = batch.sources[g][listed]
            np.testing.assert_array_equal(listed, np.arange(len(listed)))
            assert len(np.unique(places)) == len(places)
            used += len(listed)
        assert used == sizes[:, 1].sum()
        assert (batch.target_slot < n_cells).sum() == sizes[:, 2].sum()


def test_prompt_end_is_the_last_state_before_any_answer():
    for seed in range(20):
        trees = random_trees(seed)
        batch = pack(Forest.of(trees), tight_shape(trees, 40), candidates=K)
        seen = contexts(batch)
        for tree, end in zip(trees, batch.prompt_end):
            if tree is None:
                assert end == 0
            else:
                prompt = tree.trunk[tree.trunk_kind != ANSWER]
                assert seen[divmod(int(end), 40)] == tuple(prompt.tolist())


def test_changing_one_tree_never_changes_a_neighbour():
    trees = random_trees(3)
    place = next(n for n, tree in enumerate(trees) if tree is not None)
    before = from_batch(pack(Forest.of(trees), tight_shape(trees, 32), candidates=K), trees, False)
    trees[place] = random_tree(np.random.default_rng(99))
    after = from_batch(pack(Forest.of(trees), tight_shape(trees, 32), candidates=K), trees, False)
    others = [n for n in range(len(trees)) if n != place]
    np.testing.assert_array_equal(before[others], after[others])


def test_order_of_trees_is_immaterial():
    trees = random_trees(5)
    order = np.random.default_rng(0).permutation(len(trees))
    scores = from_batch(pack(Forest.of(trees), tight_shape(trees, 32), candidates=K), trees, False)
    shuffled = [trees[n] for n in order]
    again = from_batch(pack(Forest.of(shuffled), tight_shape(shuffled, 32), candidates=K), shuffled, False)
    np.testing.assert_array_equal(again, scores[order])


def test_a_roomier_shape_gives_the_same_scores():
    trees = random_trees(7)
    tight = tight_shape(trees, 32, groups=2)
    roomy = Shape(tight.rows + 4, 32, tight.sources + 5, tight.targets + 9, 2)
    np.testing.assert_array_equal(
        from_batch(pack(Forest.of(trees), roomy, candidates=K), trees, False),
        from_batch(pack(Forest.of(trees), tight, candidates=K), trees, False),
    )


def test_batches_are_int32_and_padding_is_zero():
    trees = random_trees(1)
    batch = pack(Forest.of(trees), Shape(20, 64, 200, 300), candidates=K)
    assert batch.blocks is None
    assert all(array.dtype == np.int32 for array in batch[:-1])
    padding = batch.tree == 0
    assert not batch.tokens[padding].any()
    assert not batch.positions[padding].any()
    assert not batch.branch[padding].any()
    assert padding.any()
    assert not padding.all()


def test_no_trees_make_an_empty_batch():
    batch = pack(Forest.of([None, None]), tight_shape([None, None], 8), candidates=K)
    assert not batch.tree.any()
    assert (batch.target_slot == 2 * (K + 1)).all()


def test_what_does_not_fit_is_an_error():
    trees = [tree for tree in random_trees(2) if tree]
    tight = tight_shape(trees, 32)
    with pytest.raises(ValueError, match="these trees need"):
        pack(Forest.of(trees), Shape(tight.rows - 1, 32, tight.sources, tight.targets), candidates=K)
    long = next(tree for tree in trees if len(tree.trunk) > 3)
    with pytest.raises(ValueError, match="tree 0 takes .* rows have 3"):
        tight_shape([long], 3)
    with pytest.raises(ValueError, match="the table 0 candidates"):
        pack(Forest.of(trees), tight, candidates=0)
    first = trees[0]
    odd = Tree(
        first.trunk, first.branches, np.full_like(first.trunk_kind, ANSWER), first.branch_kinds, first.bytes
    )
    with pytest.raises(ValueError, match="nothing predicts it"):
        pack(Forest.of([odd]), tight_shape([odd], 64), candidates=K)
