"""What scoring stores: found again under a key of all that it depends on."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scored_items import ITEMS, LANGUAGES
from simulated import simulated

from consistency_jax.data.packing.plan import batch_plan
from consistency_jax.data.packing.rows import tree_sizes
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.forest import Forest
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.scoring import stored as storing
from consistency_jax.scoring.stored import PassResults, bit_sums, fingerprint, stored, table_key
from consistency_jax.table import Table


@pytest.fixture(scope="module")
def model(small_model):
    return load_pretrained(small_model)


@pytest.fixture
def table() -> Table:
    shape = (3, 2, 4)
    ones = np.ones(shape, np.int32)
    logp = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    gold = np.zeros(3, np.int32)
    return Table(("a", "b", "c"), ("en", "sw"), logp, ones, ones, ones.astype(bool), gold)


def test_a_stored_table_is_made_once_and_again_where_it_is_damaged(table, tmp_path):
    made = []

    def make(batches: Path) -> Table:
        batches.mkdir(exist_ok=True)  # what is finished is kept there, until all is
        made.append(batches)
        return table

    for _ in range(2):
        np.testing.assert_array_equal(stored("key", tmp_path, make).logp, table.logp)
    assert len(made) == 1
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    for _ in range(2):
        np.testing.assert_array_equal(stored("key", tmp_path, make).logp, table.logp)
    assert len(made) == 2


def test_keys_tell_parameters_trees_and_options_apart(model):
    params = model.params
    key = fingerprint(params)
    few = np.arange(6, dtype=np.float32)
    place = np.arange(6, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(
        1
    )  # checkpoints hold these sums
    sums = [
        int((few.view(np.uint32) * place).sum(dtype=np.uint32)),
        int((few.view(np.uint32) ^ place).sum(dtype=np.uint32)),
    ]
    assert bit_sums({"a": jnp.asarray(few.reshape(2, 3))})[0][1] == sums
    assert fingerprint(jax.tree.map(jnp.copy, params)) == key
    leaf = params["embedding"]["weight"]
    last_bit = jnp.nextafter(leaf[3, 4], jnp.inf)
    assert fingerprint(params | {"embedding": {"weight": leaf.at[3, 4].set(last_bit)}}) != key
    swapped = leaf.at[0].set(leaf[1]).at[1].set(leaf[0])
    assert fingerprint(params | {"embedding": {"weight": swapped}}) != key
    trees = TreeBuilder(model.tokenizer).build(ITEMS, LANGUAGES)
    tree = trees[0]
    shifted = dataclasses.replace(  # the same tokens, with the trunk one token longer
        tree,
        trunk=np.r_[tree.trunk, tree.branches[0][:1]],
        trunk_kind=np.r_[tree.trunk_kind, tree.branch_kinds[0][:1]],
        branches=(tree.branches[0][1:], *tree.branches[1:]),
        branch_kinds=(tree.branch_kinds[0][1:], *tree.branch_kinds[1:]),
    )
    keys = {
        table_key(model.config, key, trees),
        table_key(model.config, key, Forest.of([shifted, *list(trees)[1:]])),
        table_key(model.config, key, trees.take(np.arange(len(trees))[::-1])),
        table_key(model.config, "other", trees),
        table_key(model.config, key, trees, ids=["a"]),
        table_key(dataclasses.replace(model.config, dtype="bfloat16"), key, trees),
    }
    assert len(keys) == 6
    assert table_key(model.config, key, TreeBuilder(model.tokenizer).build(ITEMS, LANGUAGES)) in keys
    # A run that goes on may change it.
    assert table_key(dataclasses.replace(model.config, remat="full"), key, trees) in keys


def test_what_another_plan_stored_does_not_count(model, questions, tmp_path, monkeypatch):
    sizes = tree_sizes(TreeBuilder(model.tokenizer).build(load_items("jsonl", path=questions)))
    monkeypatch.setattr(storing, "EVERY_S", 0.0)
    plan, other = (batch_plan(sizes, mask_cost=1 / 1400, tokens=tokens) for tokens in (256, 512))
    first = PassResults(["logp"], len(sizes), plan, tmp_path)
    for number, batch in enumerate(plan[:2]):
        first.add(number, {"logp": batch.padded[:, None].astype(np.float32)})
    again = PassResults(["logp"], len(sizes), plan, tmp_path)
    assert again.done == 2
    trees = np.concatenate([batch.trees for batch in plan[:2]])
    np.testing.assert_array_equal(again.arrays["logp"][trees, 0], trees)
    assert PassResults(["logp"], len(sizes), other, tmp_path).done == 0


def test_a_table_that_another_process_made_meanwhile_is_read(table, tmp_path):
    """Unless it is damaged: then it is made again."""
    made = []

    def make(batches: Path) -> Table:
        made.append(batches)
        if len(made) == 1:
            table.save(tmp_path / "key.npz")
            raise storing.Finished
        if len(made) == 2:
            (tmp_path / "key.npz").write_bytes(b"PK")
            raise storing.Finished
        return table

    np.testing.assert_array_equal(stored("key", tmp_path, make).logp, table.logp)
    assert len(made) == 1
    (tmp_path / "key.npz").unlink()
    np.testing.assert_array_equal(stored("key", tmp_path, make).logp, table.logp)
    assert len(made) == 3


def test_a_table_that_was_kept_is_told(table, tmp_path, capsys):
    for told in ("", "base test: kept from before\n"):
        stored("key", tmp_path, lambda batches: table, "base test")
        assert capsys.readouterr().err == told


def test_sums_of_arrays_that_lie_on_a_mesh_are_the_same_and_copy_none():
    code = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from consistency_jax.scoring.stored import _bit_sums, bit_sums
given = {"kernel": jax.random.normal(jax.random.key(0), (3, 64, 256))}
mesh = jax.make_mesh((4,), ("fsdp",))
for axes in ((None, "fsdp"), (None, None, "fsdp")):
    placed = jax.device_put(given, NamedSharding(mesh, PartitionSpec(*axes)))
    assert bit_sums(placed) == bit_sums(given)
    assert _bit_sums.lower(placed).compile().memory_analysis().temp_size_in_bytes < 1000  # bytes; each has 49,152
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | simulated(4), check=True)
