"""What a step is given: batches of examples, multilingual prompts beside them, and the set they are from."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from consistency_jax.data.packing.rows import Batch
from consistency_jax.data.trees.forest import Forest

ANCHOR = "en"  # the language that others are held to, where an objective has one; as in the metrics


class Examples(NamedTuple):
    """What an objective may know about a batch beside the policy's table (B items, L languages, K candidates)."""

    mask: jax.Array  # bool[B, L, K], cells that exist and were drawn for this step
    length: jax.Array  # i32[B, L, K], answer tokens
    gold: jax.Array  # i32[B], -1 unknown
    partners: jax.Array  # i32[B, L], a language drawn as partner of each; -1 where absent
    rejected: jax.Array  # i32[B, L], a wrong candidate drawn for each language; -1 where there is none
    reference: jax.Array  # f32[B, L, K], nats; NaN for an objective that needs none
    state: jax.Array  # f32[B, D], the reference's state in ANCHOR; D = 0 for an objective that needs none
    prompts: jax.Array  # bool[P, L'], languages of the prompts fed beside the items; [0, 0] without such
    seed: jax.Array  # u32[B], a random number for each item, another in every step
    # f32[B, L, K], nats, where the K answers were drawn from the policy itself; [0, 0, 0] where they are candidates
    rewards: Any = np.zeros((0, 0, 0), np.float32)


def preferable(mask: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """bool[n, L]: where an item has its gold answer (gold i32[n]) and another candidate (mask bool[n, L, K])."""
    own = np.take_along_axis(mask, np.maximum(gold, 0)[:, None, None], axis=2)[:, :, 0]
    return own & (gold >= 0)[:, None] & (mask.sum(2) >= 2)


@dataclass(frozen=True)
class AuxiliaryPrompts:
    """n prompts in L languages, of which some are fed beside the items of a step.

    Attributes:
        trees: without answers, tree n = prompt * L + language; a gap where a prompt lacks the language.
        languages: L.
        items: P, prompts of one step.
        every: steps, from the first on; those between have none.
    """

    trees: Forest
    languages: int
    items: int
    every: int = 1

    def draw(self, seed: int, step: int) -> np.ndarray:
        """i64[P, L], the trees of step number `step`, from 0, -1 where there is none: a function of seed and step."""
        if step % self.every:
            return np.full((self.items, self.languages), -1)
        numbers = np.where(self.trees.segments > 0, np.arange(len(self.trees)), -1).reshape(
            -1, self.languages
        )
        rng = np.random.default_rng((seed, 3, step))
        return numbers[rng.choice(len(numbers), self.items, replace=False)]

    def next_steps(self, steps: np.ndarray) -> np.ndarray:
        """i64[S]: for each of these steps the first one from it on that has prompts."""
        return steps + -steps % self.every


class StepInput(NamedTuple):
    """What one step trains on. With A micro-batches every array has a leading axis [A]."""

    batch: Batch
    examples: Examples


class TrainingSet(NamedTuple):
    """n items as trees and arrays; K is the largest number of candidates."""

    trees: Forest  # tree n = item * L + language; a gap where the item lacks the language
    mask: np.ndarray  # bool[n, L, K]
    length: np.ndarray  # i32[n, L, K], answer tokens
    gold: np.ndarray  # i32[n], -1 unknown
    reference: np.ndarray | None = None  # f32[n, L, K]
    anchor: int = -1  # a language that is drawn always, where languages are together; -1: none
    state: np.ndarray | None = None  # f32[n, D], the reference's states in that language
    prompts: AuxiliaryPrompts | None = None  # fed beside the items
