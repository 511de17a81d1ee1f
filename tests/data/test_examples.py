"""What a step is given: which items can teach a preference, and which prompts stand beside them."""

import numpy as np
import pytest

from consistency_jax.data.examples import AuxiliaryPrompts, preferable
from consistency_jax.data.trees.forest import Forest, Tree


def test_a_preference_needs_the_gold_answer_and_another_one():
    mask = np.array([[[1, 1, 0], [1, 0, 0], [0, 1, 1]]] * 3, bool)
    found = preferable(mask, np.array([0, -1, 2]))
    assert found.tolist() == [[True, False, False], [False] * 3, [False, False, True]]


@pytest.fixture
def prompts() -> AuxiliaryPrompts:
    """20 prompts in two languages; every fifth lacks the second."""
    trees = [Tree.of_tokens([1, n], []) if n % 10 != 9 else None for n in range(40)]
    return AuxiliaryPrompts(Forest.of(trees), languages=2, items=4, every=3)


def test_prompts_are_drawn_whole_on_every_nth_step(prompts):
    drawn = [prompts.draw(7, step) for step in range(90)]
    for step, trees in enumerate(drawn):
        assert trees.shape == (4, 2)
        if step % 3:
            assert (trees == -1).all()
        else:
            numbers = trees[:, 0] // 2
            assert len(set(numbers)) == 4  # none twice in a step
            lacking = 2 * numbers % 10 == 8
            assert trees.tolist() == np.c_[2 * numbers, np.where(lacking, -1, 2 * numbers + 1)].tolist()
    assert {n for trees in drawn for n in trees[:, 0]} == {-1, *range(0, 40, 2)}


def test_a_draw_is_a_function_of_seed_and_step(prompts):
    np.testing.assert_array_equal(prompts.draw(7, 6), prompts.draw(7, 6))
    assert (prompts.draw(7, 6) != prompts.draw(8, 6)).any()
    assert (prompts.draw(7, 6) != prompts.draw(7, 3)).any()
    assert prompts.next_steps(np.arange(7)).tolist() == [0, 3, 3, 3, 6, 6, 6]
