"""Planned shapes hold what they were planned for, are few, and leave little padding."""

from pathlib import Path

import numpy as np
import pytest

from consistency_jax.data.packing.plan import PlannedBatch, batch_plan, choose_shape, plan
from consistency_jax.data.packing.rows import Shape, lay_out, pack, tree_sizes
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.models.tokenizers import load_tokenizer

COST = 1 / 1400  # of the mask: a model of 58 million parameters


def real_share(batches: list[PlannedBatch], sizes: np.ndarray) -> float:
    """Share of the row tokens that are no padding."""
    real = sum(int(sizes[batch.trees, 0].sum()) for batch in batches)
    return real / sum(batch.shape.rows * batch.shape.length for batch in batches)


def random_sizes(rng: np.random.Generator, count: int) -> np.ndarray:
    tokens = rng.integers(20, 120, count)
    return np.stack([tokens, tokens - 5, tokens + 4], axis=1)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("row_length", [0, 256])
def test_every_batch_fits_a_shape_of_the_ladder(groups: int, row_length: int):
    rng = np.random.default_rng(groups)
    batches = [random_sizes(rng, rng.integers(10, 30)) for _ in range(40)]
    shapes = plan(batches, mask_cost=COST, limit=4, groups=groups, row_length=row_length)
    assert 1 <= len(shapes) <= 4
    for sizes in batches:
        shape = choose_shape(shapes, [sizes], mask_cost=COST, groups=groups)
        assert shape in shapes
        assert shape.holds(lay_out(sizes, shape.length, groups).shape)
        assert shape.rows % groups == 0
        assert shape.length == row_length or not row_length


def test_a_ladder_costs_less_than_its_largest_shape():
    rng = np.random.default_rng(0)
    batches = [random_sizes(rng, count) for count in [8] * 30 + [40] * 10]
    one, four = (plan(batches, mask_cost=COST, limit=limit) for limit in (1, 4))
    assert len(one) == 1

    def tokens(shapes: tuple[Shape, ...]) -> int:
        chosen = [choose_shape(shapes, [sizes], mask_cost=COST) for sizes in batches]
        return sum(shape.rows * shape.length for shape in chosen)

    assert tokens(four) < 0.6 * tokens(one)


def test_micro_batches_share_a_shape_and_an_unseen_batch_gets_a_new_one():
    rng = np.random.default_rng(1)
    batches = [random_sizes(rng, 10) for _ in range(10)]
    shapes = plan(batches, mask_cost=COST)
    shape = choose_shape(shapes, batches[:3], mask_cost=COST)
    assert all(shape.holds(lay_out(sizes, shape.length).shape) for sizes in batches[:3])
    huge = random_sizes(rng, 100) * 3
    new = choose_shape(shapes, [huge], mask_cost=COST)
    assert new not in shapes
    assert new.holds(lay_out(huge, new.length).shape)


def test_a_whole_data_set_is_in_its_batches_once():
    rng = np.random.default_rng(2)
    sizes = random_sizes(rng, 500)
    sizes[::7] = 0
    for groups in (1, 2):
        batches = batch_plan(sizes, mask_cost=COST, tokens=2048, groups=groups)
        np.testing.assert_array_equal(
            np.sort(np.concatenate([batch.trees for batch in batches])), np.flatnonzero(sizes[:, 0])
        )
        assert len({(batch.shape, batch.places) for batch in batches}) <= 3
        for batch in batches:
            assert len(batch.trees) <= batch.places
            assert batch.shape.holds(lay_out(sizes[batch.trees], batch.shape.length, groups).shape)
        assert real_share(batches, sizes) > 0.85  # groups of a few rows each: the last row is often half full
    assert batch_plan(np.zeros((3, 3), int), mask_cost=COST) == []


def test_bad_calls_are_clear():
    with pytest.raises(ValueError, match="planning needs batches"):
        plan([], mask_cost=COST)
    with pytest.raises(ValueError, match="rows have 32"):
        plan([np.array([[50, 10, 10]])], mask_cost=COST, row_length=32)


@pytest.mark.parametrize("name", ["llama2", "qwen3_rebuilt"])
def test_rows_of_bmlama_are_real_tokens(data_folder: Path, name: str):
    items = load_items("bmlama17", path=data_folder / "bmlama17")[::30]
    trees = TreeBuilder(load_tokenizer(data_folder / "tokenizers" / name)).build(items)
    sizes = tree_sizes(trees)
    batches = batch_plan(sizes, mask_cost=COST, tokens=8192)
    share = real_share(batches, sizes)
    print(f"BMLAMA-17, {name}: {100 * share:.1f}% of row tokens are real")
    assert share >= 0.92
    first = batches[0]
    packed = pack(trees.take(first.padded), first.shape, candidates=10)
    assert (packed.tree > 0).mean() == pytest.approx(
        sizes[first.trees, 0].sum() / (first.shape.rows * first.shape.length)
    )
