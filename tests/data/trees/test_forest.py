"""Trees laid end to end: one by one they are what was laid, and what is taken of them is what was asked for."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from consistency_jax.data.items import DataError
from consistency_jax.data.trees import forest as forest_module
from consistency_jax.data.trees.forest import ANSWER, PROMPT, UNCOUNTED, Forest, Tree, ranges

ONE = Tree.of_tokens([1, 5, 6], [[7, 8, 9], [7]])
NO_BRANCH = Tree.of_tokens([1, 4], [])
# A joint tree: its trunk ends with a token that all answers have, and the second answer is that token alone.
SHARED = Tree(
    trunk=np.array([1, 3, 2], np.int32),
    branches=(np.array([6, 6], np.int32), np.zeros(0, np.int32), np.array([9], np.int32)),
    trunk_kind=np.array([UNCOUNTED, PROMPT, ANSWER], np.uint8),
    branch_kinds=(np.full(2, ANSWER, np.uint8), np.zeros(0, np.uint8), np.full(1, ANSWER, np.uint8)),
    bytes=np.array([4, 2, 3], np.int32),
    truncated=11,
)
TREES = [ONE, None, SHARED, NO_BRANCH]


def told(tree: Tree | None) -> list | None:
    """A tree as plain lists."""
    if tree is None:
        return None
    values = [getattr(tree, field.name) for field in dataclasses.fields(tree)]
    return [[part.tolist() for part in v] if isinstance(v, tuple) else np.asarray(v).tolist() for v in values]


def same(forest: Forest, trees: list[Tree | None]) -> bool:
    return list(map(told, forest)) == list(map(told, trees))


def test_trees_come_back_as_they_were_laid(tmp_path):
    forest = Forest.of(TREES)
    assert same(forest, TREES)
    assert same(Forest.concatenate([Forest.of(TREES[:1]), Forest.of([]), Forest.of(TREES[1:])]), TREES)
    forest.save(tmp_path / "trees.npz")
    assert same(Forest.load(tmp_path / "trees.npz"), TREES)
    assert told(forest[-2]) == told(SHARED)
    for place in (4, -5):
        with pytest.raises(IndexError):
            forest[place]


def test_the_last_token_of_a_branch_is_not_fed():
    forest = Forest.of(TREES)
    assert forest.length.tolist() == [3, 3, 1, 3, 2, 0, 1, 2]
    assert forest.branch.tolist() == [0, 1, 2, 0, 1, 2, 3, 0]
    assert forest.fed.tolist() == [3, 2, 0, 3, 1, 0, 0, 2]
    assert forest.per_tree(forest.fed).tolist() == [5, 0, 4, 2]
    assert forest.per_segment(forest.kind == ANSWER).tolist() == [0, 3, 1, 1, 2, 0, 1, 0]


def test_what_is_taken_is_in_the_order_asked_for():
    forest = Forest.of(TREES)
    assert same(forest.take(np.array([2, 1, 0, -1, 2])), [SHARED, None, ONE, None, SHARED])
    # branches 2 and 0 of one tree, none but a missing one of the other
    taken = forest.take(np.array([2, 0]), np.array([[2, 0], [-1, 7]]))
    turned = dataclasses.replace(
        SHARED,
        branches=SHARED.branches[2::-2],
        branch_kinds=SHARED.branch_kinds[2::-2],
        bytes=SHARED.bytes[2::-2],
    )
    assert same(taken, [turned, dataclasses.replace(ONE, branches=(), branch_kinds=(), bytes=ONE.bytes[:0])])


def test_many_trees_are_taken_in_parts(monkeypatch):
    many = Forest.of([SHARED, None, ONE] * 3000)
    places = np.random.default_rng(0).permutation(len(many))
    whole = many.take(places)
    monkeypatch.setattr(forest_module, "TREES", 64)
    many.first, many.start  # noqa: B018 (made once, and kept)
    tracemalloc.start()
    taken = many.take(places)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for one, other in zip(dataclasses.astuple(taken), dataclasses.astuple(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    held = sum(array.nbytes for array in dataclasses.astuple(taken))
    assert (
        peak < 2.5 * held
    )  # numbers of segments, beside the tokens; their places would be three times the tokens'


def test_prompts_are_trunks_up_to_the_first_answer_token():
    prompts = Forest.of(TREES).prompts()
    assert [None if tree is None else tree.trunk.tolist() for tree in prompts] == [
        [1, 5, 6],
        None,
        [1, 3],
        [1, 4],
    ]
    assert all(tree is None or not tree.branches for tree in prompts)
    assert prompts.truncated.tolist() == [0, 0, 11, 0]


def test_ranges_lie_end_to_end():
    assert ranges(np.array([5, 0, 9]), np.array([3, 0, 2])).tolist() == [5, 6, 7, 9, 10]
    assert ranges(np.zeros(0, int), np.zeros(0, int)).tolist() == []


def test_an_end_stands_behind_every_answer_of_the_trees_asked_for():
    chosen = np.array([False, False, True, True])
    ended = Forest.of(TREES).ended(chosen, [4, 2])
    branches = tuple(np.append(branch, [4, 2]).astype(np.int32) for branch in SHARED.branches)
    kinds = tuple(np.append(kind, [ANSWER] * 2).astype(np.uint8) for kind in SHARED.branch_kinds)
    expected = dataclasses.replace(SHARED, branches=branches, branch_kinds=kinds)
    assert same(ended, [ONE, None, expected, NO_BRANCH])
    assert same(Forest.of(TREES).ended(~chosen, []), TREES)
    assert (ended.token.dtype, ended.kind.dtype, ended.length.dtype) == (np.int32, np.uint8, np.int64)


def test_a_token_beyond_the_rows_of_an_embedding_is_refused():
    forest = Forest.of(TREES)
    most = int(forest.token.max())
    forest.check_rows(most + 1, "here")
    with pytest.raises(
        DataError, match=f"^here: its texts hold the token {most}, and the model's embedding has rows 0 to"
    ):
        forest.check_rows(most, "here")


def test_the_longest_text_of_a_tree_is_its_trunk_with_its_longest_branch():
    forest = Forest.of(TREES)
    fed = [
        0 if tree is None else len(tree.trunk) + max([max(len(b) - 1, 0) for b in tree.branches], default=0)
        for tree in TREES
    ]
    assert forest.longest.tolist() == fed
    most = max(fed)
    assert forest.beyond(most) == ""
    told = (
        f"{fed.count(most)} of 4 prompts, with their longest answers, take more than the {most - 1} positions"
    )
    assert forest.beyond(most - 1).startswith(told)
    assert Forest.of([]).longest.tolist() == []


@pytest.mark.parametrize("at_once", [7, 65_536])
def test_branches_of_the_same_tokens_are_found(monkeypatch, at_once):
    monkeypatch.setattr(forest_module, "TREES", at_once)
    draw = np.random.default_rng(5)
    trees: list[Tree | None] = [None]
    for _ in range(400):
        count = int(draw.integers(0, 5))
        trees.append(
            Tree.of_tokens([1], [draw.integers(0, 3, draw.integers(0, 6)).tolist() for _ in range(count)])
        )
    trees.append(Tree.of_tokens([1], [[5, 3, 3, 5], [3, 5, 5, 3]]))  # of one hash
    expected = [
        tree is not None and len({tuple(b.tolist()) for b in tree.branches}) < len(tree.branches)
        for tree in trees
    ]
    assert 0 < sum(expected) < len(expected)
    assert Forest.of(trees).alike().tolist() == expected
    assert Forest.of([]).alike().tolist() == []
    forest = Forest.of(trees)
    chosen = forest.token == 1
    own = np.split(chosen, np.cumsum(forest.length)[:-1])
    assert forest.per_segment(chosen).tolist() == [part.sum() for part in own]
