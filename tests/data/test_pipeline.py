"""Batches are a function of seed and step, whatever was drawn before."""

import numpy as np
import pytest

from consistency_jax.data.pipeline import Pipeline, TrainingSet
from consistency_jax.data.trees import ANSWER, PROMPT, Tree


def long_tailed(count: int) -> TrainingSet:
    """Items of one language pair whose prompts are short, but for a few."""
    rng = np.random.default_rng(0)
    trees = []
    for _ in range(count):
        size = int(np.clip(rng.pareto(1.2) * 10 + 5, 5, 1500))
        trunk = rng.integers(3, 50, size).astype(np.int32)
        tree = Tree(
            trunk=trunk,
            branches=(np.array([5, 6], np.int32), np.array([7], np.int32)),
            trunk_kind=np.full(size, PROMPT, np.uint8),
            branch_kinds=(np.full(2, ANSWER, np.uint8), np.full(1, ANSWER, np.uint8)),
            bytes=np.array([2, 1], np.int32),
        )
        trees.append([tree, tree])
    shape = (count, 2, 2)
    return TrainingSet(trees, np.ones(shape, bool), np.ones(shape, np.int32), np.zeros(count, np.int32))


@pytest.mark.parametrize("shapes", [1, 3])
def test_a_resumed_pipeline_packs_as_an_unbroken_one(shapes: int):
    """More steps than planning looks at, so that some batches are longer than anything it saw."""
    data, steps = long_tailed(1500), 700

    def make() -> Pipeline:
        return Pipeline(data, seed=1, items=2, shapes=shapes, total_steps=steps)

    unbroken = make()
    seen = [unbroken(step).batch.tokens.shape for step in range(steps)]
    planned = {(shape.rows, shape.length) for shape in unbroken.shapes}
    unplanned = [step for step, shape in enumerate(seen) if shape not in planned]
    assert unplanned  # else nothing is tested
    assert len(set(seen)) <= shapes + 8  # few compilations, all the same
    resumed = make()
    assert [resumed(step).batch.tokens.shape for step in range(unplanned[0] + 1, steps)] == seen[
        unplanned[0] + 1 :
    ]


def test_no_items_is_an_error():
    with pytest.raises(ValueError, match="no training items"):
        Pipeline(TrainingSet([], *(np.zeros((0, 2, 2)),) * 2, np.zeros(0)), seed=0, items=1)
