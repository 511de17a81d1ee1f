"""Batches are a function of seed and step, whatever was drawn before."""

from collections import Counter

import jax
import numpy as np
import pytest

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.data.examples import TrainingSet, preferable
from consistency_jax.data.pipeline import Pipeline, without_gold
from consistency_jax.data.trees.forest import ANSWER, PROMPT, Forest, Tree
from consistency_jax.errors import ConfigError
from consistency_jax.objectives import usable

COST = 1 / 1400  # of the mask: a model of 58 million parameters


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
        trees += [tree, tree]
    shape = (count, 2, 2)
    return TrainingSet(
        Forest.of(trees), np.ones(shape, bool), np.ones(shape, np.int32), np.zeros(count, np.int32)
    )


@pytest.mark.parametrize("shapes", [1, 3])
def test_a_resumed_pipeline_packs_as_an_unbroken_one(shapes: int):
    """More steps than planning looks at, so that some batches are longer than anything it saw."""
    data, steps = long_tailed(1500), 700

    def make() -> Pipeline:
        return Pipeline(data, mask_cost=COST, seed=1, items=2, shapes=shapes, total_steps=steps)

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


@pytest.mark.parametrize(
    "options", [{}, {"pairs": True, "languages": 1}, {"apart": True, "rejected": "random"}, {"items": 3}]
)
def test_the_cells_that_are_drawn_are_those_of_the_batches(options: dict):
    data = long_tailed(30)
    data.mask[3, 1], data.mask[4, 0, 1] = False, False
    steps, whole = 5, np.arange(1.0, 1 + data.mask.size, dtype=np.float32).reshape(data.mask.shape)
    pipeline = Pipeline(data, mask_cost=COST, seed=0, total_steps=steps, **{"items": 2} | options)
    drawn = pipeline.drawn(steps)
    told = pipeline.with_reference(np.where(drawn, whole, np.float32(0)))
    known = pipeline.with_reference(whole)
    seen: set[float] = set()
    for step in range(steps):
        own = known(step).examples
        np.testing.assert_array_equal(told(step).examples.reference, own.reference)
        seen |= set(own.reference[own.mask].tolist())
    assert seen == set(whole[drawn].tolist())
    assert 0 < drawn.sum() < data.mask.sum()


def test_no_items_is_an_error():
    with pytest.raises(ValueError, match="no training items"):
        Pipeline(
            TrainingSet(Forest.of([]), *(np.zeros((0, 2, 2)),) * 2, np.zeros(0)),
            mask_cost=COST,
            seed=0,
            items=1,
        )


def labelled(items: int = 12, languages: int = 3, candidates: int = 5) -> TrainingSet:
    """Items whose candidates have 1, 2, ... answer tokens: the length tells which one was drawn."""
    rng = np.random.default_rng(1)
    shape = (items, languages, candidates)
    length = np.broadcast_to(np.arange(1, candidates + 1, dtype=np.int32), shape)
    mask = np.ones(shape, bool)
    gold = rng.integers(0, candidates, items).astype(np.int32)
    gold[0] = -1
    mask[1, 0] = False  # without one language
    mask[2, 1, gold[2]] = False  # without the gold answer in one language
    mask[3, 2] = np.arange(candidates) == gold[3]  # without another answer in one language
    tree = Tree(
        trunk=np.array([3, 4], np.int32),
        branches=tuple(np.full(n, 5 + n, np.int32) for n in length[0, 0]),
        trunk_kind=np.full(2, PROMPT, np.uint8),
        branch_kinds=tuple(np.full(n, ANSWER, np.uint8) for n in length[0, 0]),
        bytes=length[0, 0],
    )
    return TrainingSet(
        Forest.of([tree] * (items * languages)), mask, length, gold, rng.normal(size=shape).astype(np.float32)
    )


@pytest.mark.parametrize("rejected", ["random", "hardest"])
def test_preferences_are_the_gold_answer_and_a_wrong_one_in_each_language_that_has_both(rejected: str):
    data = labelled()
    items, languages, _ = data.mask.shape

    def make() -> Pipeline:
        return Pipeline(data, mask_cost=COST, seed=3, items=items, shapes=1, total_steps=4, rejected=rejected)

    pipeline, seen = make(), set()
    for step in range(30):
        examples, order = pipeline(step).examples, pipeline.draw(step).items
        assert examples.mask.shape == (items, languages, 2)
        for b, item in enumerate(order):
            drawn = []
            for language in range(languages):
                cells = data.mask[item, language]
                wrong = [k for k in range(5) if cells[k] and k != data.gold[item]]
                there = data.gold[item] >= 0 and cells[data.gold[item]] and wrong
                assert examples.mask[b, language].tolist() == [bool(there)] * 2
                assert examples.rejected[b, language] == (1 if there else -1)
                if there:
                    chosen, other = examples.length[b, language] - 1
                    assert chosen == data.gold[item]
                    assert other in wrong
                    scores = data.reference[item, language]
                    np.testing.assert_array_equal(examples.reference[b, language], scores[[chosen, other]])
                    assert rejected == "random" or other == max(wrong, key=scores.__getitem__)
                    drawn.append(other)
                    seen.add((item, language, other))
            assert examples.gold[b] == (0 if drawn else -1)
            if rejected == "random":
                assert len(set(drawn)) <= 1  # aligned by index
    # Items 0 to 3 have 0, 2, 2 and 2 such languages, the other 8 have 3; four wrong answers each.
    assert len(seen) == 30 * (4 if rejected == "random" else 1)
    again = make()(29).examples
    for a, b in zip(again, examples, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_anchor_language_is_always_drawn():
    data = labelled()._replace(anchor=1, state=np.arange(24, dtype=np.float32).reshape(12, 2))
    pipeline = Pipeline(
        data, mask_cost=COST, seed=0, items=6, shapes=1, languages=2, rejected="random", total_steps=9
    )
    for step in range(9):
        draw, examples = pipeline.draw(step), pipeline(step).examples
        there = np.array([preferable(data.mask[[i]], data.gold[[i]])[0] for i in draw.items])
        assert (draw.languages[:, 1] == there[:, 1]).all()
        assert (draw.languages.sum(1) == np.minimum(there.sum(1), 2)).all()
        np.testing.assert_array_equal(examples.state, data.state[draw.items])


@pytest.mark.parametrize("pairs", [True, False])
def test_false_examples_are_all_candidates_but_the_gold_one(pairs: bool):
    data = labelled()
    wrong = without_gold(data)
    seen = set()
    for step in range(30):
        pipeline = Pipeline(wrong, mask_cost=COST, seed=0, items=12, shapes=1, pairs=pairs, total_steps=1)
        examples, order = pipeline(step).examples, pipeline.draw(step).items
        assert (examples.gold == -1).all()
        for b, item in enumerate(order):
            for language in range(3):
                cells = examples.mask[b, language]
                drawn = (examples.length[b, language][cells] - 1).tolist()  # the length tells which one it is
                there = [k for k in range(5) if data.mask[item, language, k] and k != data.gold[item]]
                assert set(drawn) <= set(there)
                if not pairs:
                    assert drawn == there
                scores = data.reference[item, language]
                np.testing.assert_array_equal(examples.reference[b, language][cells], scores[drawn])
                seen |= {(item, k) for k in drawn}
    assert len(seen) == 5 + 11 * 4  # item 0 has no label
    labels = data._replace(gold=np.maximum(data.gold, 0))
    assert without_gold(labels).mask.shape[2] == 4  # and no room for the fifth
    for n, answer in enumerate(data.gold):
        expected = [k + 1 for k in range(5) if k != answer]
        assert [len(branch) for branch in wrong.trees[3 * n].branches] == expected


def test_an_item_must_keep_two_candidates():
    options = default().objective
    options.false_examples = True
    mask, gold = np.ones((3, 2, 3), bool), np.array([1, -1, 0], np.int32)
    mask[:2, :, 2] = False  # item 0 keeps one candidate, the others two
    assert usable(options, mask, gold, ("en", "de"))[0].tolist() == [False, True, True]
    assert "the gold one aside" in usable(options, mask, gold, ("en", "de"))[1]
    options.false_examples = False
    assert usable(options, mask, gold, ("en", "de"))[0].all()
    config = default()
    config.model.path, config.objective.name, config.objective.false_examples = "somewhere", "sft_all", True
    with pytest.raises(
        ConfigError, match="sft_all takes no false_examples; .*false_examples is for dco, pco_exact"
    ):
        validate(config)


def test_the_hardest_candidate_needs_a_reference():
    with pytest.raises(ValueError, match="told by the reference"):
        Pipeline(labelled()._replace(reference=None), mask_cost=COST, seed=0, items=2, rejected="hardest")


def examples_of(pipeline: Pipeline, mask: np.ndarray, steps: int) -> list[Counter]:
    """What each step trains on: how often each (item, language, its candidates that are there)."""
    seen = []
    for step in range(steps):
        draw = pipeline.draw(step)
        seen.append(
            Counter(
                (item, column, tuple(k for k in candidates if k >= 0 and mask[item, column, k]))
                for item, *row in zip(*(part.tolist() for part in draw[:4]), strict=True)
                for column, taken, candidates in zip(*row, strict=True)
                if taken
            )
        )
    return seen


def whole(steps: list[Counter], languages: int = 3) -> int:
    """How many items have all their languages in one step."""
    return sum(n == languages for step in steps for n in Counter(item for item, *_ in step).values())


@pytest.mark.parametrize("rejected", ["", "random", "hardest"])
@pytest.mark.parametrize(("items", "accumulate"), [(4, 1), (5, 1), (6, 3)])
def test_random_and_grouped_batches_hold_the_same_examples(rejected: str, items: int, accumulate: int):
    data, epochs = labelled(), items
    steps = epochs * len(data.gold) // items

    def make(apart: bool) -> Pipeline:
        options = {"rejected": rejected, "accumulate": accumulate, "total_steps": steps}
        return Pipeline(data, mask_cost=COST, seed=5, items=items, apart=apart, **options)

    grouped, apart = (examples_of(make(apart), data.mask, steps) for apart in (False, True))
    assert sum(grouped, Counter()) == sum(apart, Counter())
    # In grouped steps items are whole, in random ones few are.
    assert whole(apart) < 0.5 * whole(grouped)
    # Every step of the random order is as large as the others, but for one example.
    assert max(step.total() for step in apart) - min(step.total() for step in apart) <= 1
    # An epoch holds every example once, wherever its steps begin and end.
    if len(data.gold) % items == 0:
        for start in range(0, steps, len(data.gold) // items):
            epoch = sum(apart[start : start + len(data.gold) // items], Counter())
            assert set(epoch.values()) == {1}


def test_rows_without_an_example_are_empty():
    """30 examples of 12 items, 5 items a step: 12 or 13 rows, always packed as 13."""
    pipeline = Pipeline(
        labelled(), mask_cost=COST, seed=0, items=5, apart=True, rejected="random", total_steps=12
    )
    sizes = set()
    for step in range(12):
        value, draw = pipeline(step), pipeline.draw(step)
        there = draw.languages[:, 0]
        sizes.add(there.sum())
        assert value.examples.mask.shape == (13, 1, 2)
        np.testing.assert_array_equal(value.examples.mask.all((1, 2)), there)
        assert (value.examples.gold[~there] == -1).all()
        assert value.batch.tree.max(1).sum() == there.sum()  # trees are numbered row by row
    assert sizes == {12, 13}


def drawn_pairs(items: int = 4) -> Pipeline:
    """Two languages and two candidates of each item."""
    options = {"seed": 0, "items": items, "shapes": 1, "total_steps": 8, "languages": 2, "pairs": True}
    return Pipeline(labelled(), mask_cost=COST, **options)


def test_a_batch_depends_on_seed_and_step_alone():
    one, other = drawn_pairs(), drawn_pairs()
    one(0), one(5)  # what was asked before does not matter
    for a, b in zip(jax.tree.leaves(one(3)), jax.tree.leaves(other(3)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_item_comes_once_an_epoch():
    pipeline = Pipeline(long_tailed(40), mask_cost=COST, seed=0, items=4, shapes=1, total_steps=10)
    assert sorted(np.concatenate([pipeline.draw(step).items for step in range(10)])) == list(range(40))


def test_drawn_languages_are_each_others_partners():
    draw = drawn_pairs(12).draw(1)
    assert (draw.languages.sum(1) == 2).all()
    for present, partners in zip(draw.languages, draw.partners, strict=True):
        i, j = np.flatnonzero(present)
        assert partners[i] == j
        assert partners[j] == i
        assert (partners[~present] == -1).all()


def test_single_languages_depend_on_seed_and_step_alone():
    def make(seed: int = 1) -> Pipeline:
        return Pipeline(
            labelled(), mask_cost=COST, seed=seed, items=5, apart=True, rejected="random", total_steps=20
        )

    one, other = make(), make()
    for step in range(20):
        one.draw(step)
    for a, b in zip(one(17).examples, other(17).examples, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.draw(3).items != make(2).draw(3).items).any()


def test_drawn_single_languages_are_so_many_of_each_item():
    data = labelled()
    pipeline = Pipeline(data, mask_cost=COST, seed=0, items=12, apart=True, languages=2, total_steps=3)
    per_epoch = examples_of(pipeline, data.mask, 3)
    for seen in per_epoch:
        drawn = Counter(item for item, *_ in seen)
        assert drawn == {i: min(2, n) for i, n in enumerate(data.mask.any(-1).sum(1).tolist())}
    assert per_epoch[0] != per_epoch[1]  # other languages in another epoch
