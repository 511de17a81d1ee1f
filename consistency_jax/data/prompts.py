"""Multilingual prompts that are fed beside the items of a batch, for their hidden states alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from consistency_jax.data.forest import ANSWER, Tree


@dataclass(frozen=True)
class Prompts:
    """n prompts in L languages.

    Attributes:
        trees: [n][L] of `prompt_alone`, None where a prompt lacks the language.
        items: P, prompts of one step.
        every: steps; those between have none.
    """

    trees: Sequence[Sequence[Tree | None]]
    items: int
    every: int = 1

    def __call__(self, seed: int, step: int) -> list[Sequence[Tree | None]]:
        """The [P][L] trees of step number `step`, from 0: a function of seed and step."""
        if (step + 1) % self.every:
            return [[None] * len(self.trees[0])] * self.items
        drawn = np.random.default_rng((seed, 3, step)).choice(len(self.trees), self.items, replace=False)
        return [self.trees[n] for n in drawn]

    def next_steps(self, steps: np.ndarray) -> np.ndarray:
        """i64[S]: for each of these steps the first one from it on that has prompts."""
        return steps + -(steps + 1) % self.every


def prompt_alone(tree: Tree) -> Tree:
    """The tree without its answers."""
    end = np.count_nonzero(tree.trunk_kind != ANSWER)
    return replace(
        tree,
        trunk=tree.trunk[:end],
        trunk_kind=tree.trunk_kind[:end],
        branches=(),
        branch_kinds=(),
        bytes=tree.bytes[:0],
    )
