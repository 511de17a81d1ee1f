"""Training batches as a pure function: batch = f(seed, step). Nothing else is remembered, so resuming is exact.

An example is an item in all its languages, in a few drawn ones, or in a single one; of its candidates it has all, one
drawn pair (index-aligned: the same two in every language), or the gold answer and a wrong one. An epoch holds every
example once, in an order of its own; a step takes the next ones, and packs their trees into one of a handful of planned
shapes.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from consistency_jax.data.examples import Examples, StepInput, TrainingSet, preferable
from consistency_jax.data.packing.plan import choose_shape, plan
from consistency_jax.data.packing.rows import Shape, pack, tree_sizes
from consistency_jax.data.trees.forest import Forest

T = TypeVar("T")
U = TypeVar("U")
PLANNED_STEPS = 256  # steps whose lengths are looked at, spread over the run, to plan shapes


class Draw(NamedTuple):
    """What was drawn for one step: B examples of L languages (1 where they are apart) with K candidates."""

    items: np.ndarray  # i64[B], indices of items
    columns: np.ndarray  # i64[B, L], which of the data's languages each is
    languages: np.ndarray  # bool[B, L], those that take part; none in rows left over at the end
    candidates: np.ndarray  # i64[B, L, K], indices of candidates; -1 where the item has fewer
    partners: np.ndarray  # i32[B, L], a partner for each language that takes part, else -1
    seed: np.ndarray  # u32[B], a random number for each


class Epoch(NamedTuple):
    """The E examples of an epoch in their order, and what is drawn for each of the data's n items."""

    items: np.ndarray  # i64[E]
    columns: np.ndarray  # i64[E, L]
    scores: np.ndarray  # f64[n, K]: the wrong candidate is the one that scores highest


def without_gold(data: TrainingSet) -> TrainingSet:
    """The items without their gold candidates, where they are labelled; no item is labelled then."""
    gold, candidates = data.gold[:, None], np.arange(data.mask.shape[2])
    order = np.argsort(candidates == gold, axis=1, kind="stable")  # the gold one last
    kept = candidates.size - int((data.gold >= 0).all())

    def cells(table: np.ndarray) -> np.ndarray:
        return np.take_along_axis(table, order[:, None, :], axis=2)[:, :, :kept]

    wrong = data.mask & (candidates != gold[:, :, None])
    branches = np.repeat(np.where(candidates == gold, -1, candidates), data.mask.shape[1], axis=0)
    return data._replace(
        trees=data.trees.take(np.arange(len(data.trees)), branches),
        mask=cells(wrong),
        length=cells(data.length),
        gold=np.full_like(data.gold, -1),
        reference=None if data.reference is None else cells(data.reference),
    )


class Pipeline:
    """batch(step) for any step, in any order.

    Args:
      data: the items.
      seed: all randomness comes from it.
      items: whole items of one step.
      apart: True makes an example of each language of an item; a step then takes as many as `items` items have on
        average, so that epochs are as long. False keeps an item's languages together.
      languages: drawn per item (apart: for an epoch); 0 for all that it has.
      pairs: True draws one pair of candidates per item instead of taking all.
      rejected: instead of those: for each language (gold, wrong), and only languages that have both. The wrong one is
        "random", of an item the same in all languages that have it, or "hardest", the one of the largest reference
        log-probability. Empty: none.
      gold_alone: True takes the gold candidate and no other: the loss reads no more, so no more is fed.
      accumulate: micro-batches of a step, each B / accumulate examples.
      groups: row groups of a batch, one per data shard.
      mask_cost: of the model that is trained, by which shapes are planned: `models.flops.mask_cost`.
      shapes: how many batch shapes may be planned.
      row_length: tokens of a row; 0 plans it.
      total_steps: the run's length, to spread the planning over.

    Raises:
      ValueError: where no item can be used, or a setting does not fit them. (A step of more items than there are has
        some more than once.)
    """

    on_policy = False  # a batch does not depend on the parameters

    def __init__(
        self,
        data: TrainingSet,
        *,
        seed: int,
        items: int,
        mask_cost: float,
        apart: bool = False,
        languages: int = 0,
        pairs: bool = False,
        rejected: str = "",
        gold_alone: bool = False,
        accumulate: int = 1,
        groups: int = 1,
        shapes: int = 4,
        row_length: int = 0,
        total_steps: int = 1,
    ):
        count, known, candidates = data.mask.shape
        if not count:
            raise ValueError("there are no training items")
        if languages > known:
            raise ValueError(f"batching.languages={languages}, but the data has {known}")
        if rejected == "hardest" and data.reference is None:
            raise ValueError("the hardest wrong candidate is told by the reference, and these data have none")
        self._data, self._seed, self._rejected = data, seed, rejected
        self.items, self._apart, self._languages = items, apart, languages or known
        self._gold_alone, self._some = gold_alone, pairs or bool(rejected) or gold_alone
        self._candidates = 1 if gold_alone else 2 if self._some else candidates
        self._accumulate, self._groups, self._mask_cost = accumulate, groups, mask_cost
        self._usable = preferable(data.mask, data.gold) if rejected else data.mask.any(-1)  # bool[n, L]
        counts = np.minimum(self._usable.sum(1), self._languages)
        self._examples = int(counts.sum()) if apart else count  # E, of an epoch
        if not self._examples:
            raise ValueError("no training item has an example")
        size = -(-items * self._examples // count)
        self._size = -(-size // accumulate) * accumulate  # B: as many rows as the largest step needs
        self._epochs: dict[int, Epoch] = {}
        steps = np.unique(np.linspace(0, total_steps - 1, min(total_steps, PLANNED_STEPS)).astype(int))
        if data.prompts:  # those without prompts do not tell how large those with them are
            steps = np.union1d(steps, data.prompts.next_steps(steps))
            steps = steps[steps < total_steps]
        sizes = [
            tree_sizes(trees)
            for step in steps
            for trees in self._micro_trees(self.draw(int(step)), self._prompts(int(step)))
        ]
        self.shapes: tuple[Shape, ...] = plan(
            sizes, mask_cost=mask_cost, limit=shapes, groups=groups, row_length=row_length
        )

    def draw(self, step: int) -> Draw:
        """What step number `step` trains on."""
        rng = np.random.default_rng((self._seed, 1, step))
        # Step by step as many as come to `items` items; where examples are whole items, exactly so many.
        first, last = (s * self.items * self._examples // len(self._data.mask) for s in (step, step + 1))
        numbers = np.arange(first, last)
        items, columns, scores = self._examples_of(numbers)
        mask = self._data.mask[items[:, None], columns]
        usable = self._usable[items[:, None], columns] & (np.arange(self._size) < len(numbers))[:, None]
        languages, ranked = _drawn(usable, self._languages, rng, -1 if self._apart else self._data.anchor)
        partners = _partners(languages, ranked)
        shared = np.where(languages[:, :, None], mask, True).all(1)
        seed = np.random.default_rng((self._seed, 4, step)).integers(0, 2**32, self._size, dtype=np.uint32)
        if self._rejected:
            wrong = self._gold_and_wrong(items, columns, scores)
            return Draw(items, columns, languages, np.where(languages[:, :, None], wrong, -1), partners, seed)
        if self._gold_alone:
            gold = np.where(languages, self._data.gold[items][:, None], -1)
            return Draw(items, columns, languages, gold[:, :, None], partners, seed)
        if self._some:
            order = np.argsort(np.where(shared, rng.random(shared.shape), 2.0), axis=1)[:, :2]
            candidates = np.where(np.take_along_axis(shared, order, 1), order, -1)
        else:
            candidates = np.where(shared | mask.any(1), np.arange(shared.shape[1]), -1)
        candidates = np.broadcast_to(candidates[:, None, :], (*languages.shape, candidates.shape[1]))
        return Draw(items, columns, languages, candidates, partners, seed)

    def drawn(self, steps: int) -> np.ndarray:
        """bool[n, L, K]: the cells of the data that the first `steps` steps take."""
        cells = np.zeros(self._data.mask.shape, bool)
        for step in range(steps):
            draw = self.draw(step)
            example, place = np.nonzero(draw.languages)
            chosen = draw.candidates[example, place]  # i64[m, K]
            row, which = np.nonzero(chosen >= 0)
            item, column = draw.items[example][row], draw.columns[example, place][row]
            cells[item, column, chosen[row, which]] = True
        return cells & self._data.mask

    def with_reference(self, logp: np.ndarray) -> "Pipeline":
        """This pipeline, with what the reference says: f32[n, L, K], of the cells that are drawn."""
        pipeline = copy.copy(self)
        pipeline._data = self._data._replace(reference=logp)
        return pipeline

    def _examples_of(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Items i64[B], columns i64[B, L] and scores f64[B, K] of these examples, counted over all epochs; the first of
        them again in the rows that are left."""
        padded = np.resize(numbers, self._size)
        rows = [
            (self._epoch(number // self._examples), number % self._examples) for number in padded.tolist()
        ]
        items = np.array([epoch.items[place] for epoch, place in rows])
        columns = np.stack([epoch.columns[place] for epoch, place in rows])
        scores = np.stack([epoch.scores[epoch.items[place]] for epoch, place in rows])
        return items, columns, scores

    def _epoch(self, number: int) -> Epoch:
        """The examples of an epoch; it and the one before are kept."""
        if number not in self._epochs:
            count, known, candidates = self._data.mask.shape
            rng = np.random.default_rng((self._seed, 0, number))
            draws = np.random.default_rng((self._seed, 2, number))
            scores = draws.random((count, candidates))
            if self._apart:
                taken, _ = _drawn(self._usable, self._languages, draws)
                items, columns = np.split(rng.permutation(np.argwhere(taken)), 2, axis=1)
                items = items[:, 0]
            else:
                items = rng.permutation(count)
                columns = np.broadcast_to(np.arange(known), (count, known))
            before = {n: epoch for n, epoch in self._epochs.items() if n == number - 1}
            self._epochs = before | {number: Epoch(items, columns, scores)}
        return self._epochs[number]

    def _gold_and_wrong(self, items: np.ndarray, columns: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """i64[B, L, 2]: the gold candidate and a wrong one, where both are there."""
        mask = self._data.mask[items[:, None], columns]
        gold = np.broadcast_to(self._data.gold[items][:, None], mask.shape[:2])
        wrong = mask & (np.arange(mask.shape[2]) != gold[:, :, None])
        score = scores[:, None]
        if self._rejected == "hardest":
            score = self._data.reference[items[:, None], columns]
        return np.stack([gold, np.where(wrong, score, -np.inf).argmax(2)], axis=2)

    def __call__(self, step: int) -> StepInput:
        """The packed batch of step number `step`, as numpy arrays."""
        draw, prompts = self.draw(step), self._prompts(step)
        parts = self._micro_trees(draw, prompts)
        shape = choose_shape(
            self.shapes, [tree_sizes(part) for part in parts], mask_cost=self._mask_cost, groups=self._groups
        )
        return step_input(parts, self._all_examples(draw, prompts), shape, self._candidates)

    def _prompts(self, step: int) -> np.ndarray:
        """i64[P, L'], the trees of the prompts beside the items; -1 where there is none."""
        return self._data.prompts.draw(self._seed, step) if self._data.prompts else np.zeros((0, 0), int)

    def _micro_trees(self, draw: Draw, prompts: np.ndarray) -> list[Forest]:
        """The trees of each micro-batch, in the order item * L + language, then those of its prompts."""
        trees, wide = self._data.trees, self._data.mask.shape[1]
        numbers = np.where(draw.languages, draw.items[:, None] * wide + draw.columns, -1)
        branches = draw.candidates.reshape(numbers.size, -1) if self._some else None
        taken = [trees.take(numbers.reshape(-1), branches)]
        if self._data.prompts:
            taken.append(self._data.prompts.trees.take(prompts.reshape(-1)))
        parts = zip(*(split_trees(own, self._accumulate) for own in taken), strict=True)
        return [Forest.concatenate(part) for part in parts]

    def _all_examples(self, draw: Draw, prompts: np.ndarray) -> Examples:
        data, places = self._data, (draw.items[:, None], draw.columns)
        index = np.maximum(draw.candidates, 0)

        def cells(table: np.ndarray, fill: float) -> np.ndarray:
            taken = np.take_along_axis(table[places], index, axis=2)
            return np.where(mask, taken, np.array(fill, table.dtype))

        mask = np.take_along_axis(data.mask[places], index, axis=2)
        mask &= draw.languages[:, :, None] & (draw.candidates >= 0)
        gold, rejected = data.gold[draw.items], np.full(draw.languages.shape, -1, np.int32)
        if self._some:
            found = ((draw.candidates == gold[:, None, None]) & mask).any(1)
            gold = np.where(found.any(1), found.argmax(1), -1)
        if self._rejected:
            rejected[mask[:, :, 1]] = 1
        return Examples(
            mask=mask,
            length=cells(data.length, 0),
            gold=gold.astype(np.int32),
            partners=draw.partners,
            rejected=rejected,
            reference=cells(data.reference, 0.0)
            if data.reference is not None
            else np.full(mask.shape, np.nan, np.float32),  # no objective trains on one that was not scored
            state=data.state[draw.items] if data.state is not None else np.zeros((len(mask), 0), np.float32),
            prompts=prompts >= 0,
            seed=draw.seed,
        )


def step_input(parts: Sequence[Forest], examples: Examples, shape: Shape, candidates: int) -> StepInput:
    """The trees of each micro-batch, packed, with its share of the examples; several of them on a leading axis."""
    shares = zip(*(np.split(values, len(parts)) for values in examples))
    inputs = [
        StepInput(pack(part, shape, candidates=candidates), Examples(*own))
        for part, own in zip(parts, shares, strict=True)
    ]
    return inputs[0] if len(inputs) == 1 else jax.tree.map(lambda *arrays: np.stack(arrays), *inputs)


def split_trees(trees: Forest, parts: int) -> list[Forest]:
    """The trees of each micro-batch, in order."""
    return [trees.take(own) for own in np.split(np.arange(len(trees)), parts)]


def _drawn(
    there: np.ndarray, count: int, rng: np.random.Generator, always: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` of the languages that each row of `there` bool[B, L] has, bool[B, L], and each one's rank.

    Args:
      always: a language that is drawn wherever it is there; -1: none.
    """
    # A random score per cell, and the best ones win: a draw without replacement from what is there.
    score = rng.random(there.shape)
    if always >= 0:
        score[:, always] = -1.0
    ranked = np.argsort(np.argsort(np.where(there, score, 2.0), axis=1), axis=1)
    return there & (ranked < count), ranked


def _partners(languages: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """i32[B, L]: each language's partner is the next one in the drawn order, round and round (two: each other's)."""
    partners = np.full(languages.shape, -1, np.int32)
    for b, (present, ranks) in enumerate(zip(languages, ranked, strict=True)):
        drawn = np.flatnonzero(present)
        if len(drawn) >= 2:
            drawn = drawn[np.argsort(ranks[drawn])]
            partners[b, drawn] = np.roll(drawn, -1)
    return partners


def prefetched(
    function: Callable[[U], T], values: Iterable[U], ahead: int = 2, threads: int = 1
) -> Iterator[T]:
    """function(value) of each, in their order, computed in threads a few calls ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        for value in values:
            done = [waiting.popleft().result()] if len(waiting) == ahead else []
            waiting.append(pool.submit(function, value))
            yield from done
        while waiting:
            yield waiting.popleft().result()
