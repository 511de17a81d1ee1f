"""Scoring batch by batch: stopped and gone on, and what a model would write."""

import dataclasses

import numpy as np
import pytest
from scored_items import ITEMS, LANGUAGES, LENGTH

from consistency_jax.data.sources import load_items
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.forest import ANSWER, Forest
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.runtime.mesh import mesh_of
from consistency_jax.scoring import stored
from consistency_jax.scoring.scorer import Scorer


@pytest.fixture(scope="module")
def model(small_model):
    return load_pretrained(small_model)


def test_greedy_tells_what_the_model_would_write(model):
    trees = TreeBuilder(model.tokenizer).build(ITEMS, LANGUAGES)
    tree = next(tree for tree in trees if tree is not None)
    written = list(tree.trunk)
    for _ in range(3):
        logits = model.apply(np.array([written + [0] * (LENGTH - len(written))]))[0, len(written) - 1]
        written.append(int(logits.argmax()))
    best = np.array(written[len(tree.trunk) :], np.int32)
    other = best.copy()
    other[1] = (other[1] + 1) % model.config.vocab_size
    kinds = tuple(np.full(size, ANSWER, np.uint8) for size in (3, 3, 1))
    asked = dataclasses.replace(
        tree, branches=(best, other, best[:1]), branch_kinds=kinds, bytes=tree.bytes[:3]
    )
    scorer = Scorer(model.config, mesh_of(model.params))
    found = scorer(model.params, Forest.of([asked]), candidates=3, greedy=True)["greedy"]
    assert found.tolist() == [[True, False, True]]


class Stopped(Exception):
    pass


def test_a_pass_that_stops_goes_on_to_the_same_bits(model, questions, tmp_path, monkeypatch):
    """It stops after every few batches, and does none of them twice; a damaged file only costs its batches."""
    trees = TreeBuilder(model.tokenizer, boundary="joint").build(load_items("jsonl", path=questions))
    options = {"candidates": 3, "prompt": True, "tokens": 128}
    whole = Scorer(model.config, mesh_of(model.params))(model.params, trees, **options)
    monkeypatch.setattr(stored, "EVERY_S", 0.0)
    scorer = Scorer(model.config, mesh_of(model.params))
    run, calls = scorer.run, []

    def stopping(*args, **kwargs):
        if len(calls) % 5 == 4:
            calls.append(0)
            raise Stopped
        calls.append(1)
        return run(*args, **kwargs)

    scorer.run = stopping
    for stops in range(100):
        try:
            found = scorer(model.params, trees, resume=tmp_path, **options)
            break
        except Stopped:
            if stops == 1:
                last = max(tmp_path.rglob("*.npz"))
                last.write_bytes(last.read_bytes()[:50])
    assert stops > 2
    for name, values in whole.items():
        np.testing.assert_array_equal(found[name], values)
