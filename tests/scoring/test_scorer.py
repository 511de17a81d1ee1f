"""Scoring batch by batch: stopped and gone on, and what a model would write."""

import dataclasses
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import numpy as np
import pytest
from etils import epath
from scored_items import ITEMS, LANGUAGES, LENGTH
from sharing_worker import TOKENS

import consistency_jax
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees.builder import TreeBuilder
from consistency_jax.data.trees.forest import ANSWER, Forest
from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.runtime.mesh import mesh_of
from consistency_jax.scoring import scorer as scorer_module
from consistency_jax.scoring import stored
from consistency_jax.scoring.scorer import Scorer

WORKER = Path(__file__).with_name("sharing_worker.py")


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


def test_states_in_bfloat16_are_kept(model, trees, tmp_path, monkeypatch):
    """A file knows no bfloat16: what was kept of a pass was taken for damaged."""
    config = dataclasses.replace(model.config, dtype="bfloat16")
    options = {"candidates": 3, "state": True, "tokens": 128}
    whole = Scorer(config, mesh_of(model.params))(model.params, trees, **options)
    assert whole["state"].dtype == np.float32
    monkeypatch.setattr(stored, "EVERY_S", 0.0)
    scorer = Scorer(config, mesh_of(model.params))
    run, calls = scorer.run, []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            raise Stopped
        return run(*args, **kwargs)

    scorer.run = counted
    with pytest.raises(Stopped):
        scorer(model.params, trees, resume=tmp_path, **options)
    found = scorer(model.params, trees, resume=tmp_path, **options)
    # What was begun when it stopped is lost, the four before it are kept.
    assert len(calls) <= len(scorer._plan(trees, False, 128)[0]) + scorer._ahead
    for name, values in whole.items():
        np.testing.assert_array_equal(found[name], values)


def test_a_pass_whose_folder_is_in_a_bucket_is_kept_nowhere(model, trees, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scorer = Scorer(model.config, mesh_of(model.params))
    found = scorer(
        model.params, trees, candidates=3, resume=epath.Path("gs://bucket/run/reference/key.batches")
    )
    np.testing.assert_array_equal(found["logp"], scorer(model.params, trees, candidates=3)["logp"])
    assert list(tmp_path.iterdir()) == []


def test_processes_that_score_the_same_share_it(model, small_model, questions, tmp_path):
    """Four at once, one of which is killed: each batch is computed once, and all have the same bits as one alone."""
    package = str(Path(consistency_jax.__file__).parents[1])
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": package}
    killed_after, count = 2, 4
    started = [
        subprocess.Popen(
            [sys.executable, WORKER, small_model, questions, tmp_path, str(n), str(count), str(stop)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n, stop in enumerate([killed_after] + [0] * (count - 1))
    ]
    try:
        told = [process.communicate(timeout=500)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [-signal.SIGKILL, 0, 0, 0], told
    items = load_items("jsonl", path=questions)
    trees = TreeBuilder(model.tokenizer, boundary="joint").build(items)
    scorer = Scorer(model.config, mesh_of(model.params))
    batches, _ = scorer._plan(trees, prompt=False, tokens=TOKENS)
    alone = scorer(model.params, trees, candidates=3, tokens=TOKENS)["logp"]
    found = [dict(np.load(tmp_path / f"{n}.npz")) for n in range(1, count)]
    for table in found:
        np.testing.assert_array_equal(table["logp"].reshape(alone.shape), alone)
    own = np.concatenate([table["own"] for table in found]).tolist()
    assert len(set(own)) == len(own) == len(batches) - killed_after
    assert sum(len(table["own"]) > 0 for table in found) > 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key.npz"]


def passed(model, trees, folder, **options):
    """A scorer's pass over the questions, in small batches."""
    scorer = Scorer(model.config, mesh_of(model.params))
    return scorer(model.params, trees, candidates=3, tokens=TOKENS, resume=folder, **options)["logp"]


@pytest.fixture(scope="module")
def trees(model, questions):
    return TreeBuilder(model.tokenizer, boundary="joint").build(load_items("jsonl", path=questions))


def test_a_pass_that_is_not_needed_any_more_ends(model, trees, tmp_path):
    """Whether another process was done before it began, or meanwhile; and then the table is read."""
    table, folder = tmp_path / "key.npz", tmp_path / "key.batches"
    table.touch()
    with pytest.raises(stored.Finished):
        passed(model, trees, folder / "answers", finished=table)
    scorer, calls = Scorer(model.config, mesh_of(model.params)), []
    run = scorer.run
    table.unlink()

    def other(*args, **kwargs):
        calls.append(1)
        if len(calls) == 9:
            table.touch()
            shutil.rmtree(folder)
        return run(*args, **kwargs)

    scorer.run = other
    with pytest.raises(stored.Finished):
        scorer(model.params, trees, candidates=3, tokens=TOKENS, resume=folder, finished=table)
    assert len(calls) < 20


def test_a_folder_that_somebody_clears_costs_work_and_no_more(model, trees, tmp_path, monkeypatch):
    alone = passed(model, trees, None)
    add = stored.PassResults.add

    def clearing(results, number, values):
        shutil.rmtree(tmp_path / "batches", ignore_errors=True)
        add(results, number, values)

    monkeypatch.setattr(stored.PassResults, "add", clearing)
    np.testing.assert_array_equal(passed(model, trees, tmp_path / "batches"), alone)


def test_what_a_process_that_stands_still_has_is_done_by_others(model, trees, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scorer_module, "PATIENCE_S", 0.2)
    monkeypatch.setattr(scorer_module, "WAIT_S", 0.05)
    alone = passed(model, trees, tmp_path)
    [folder] = tmp_path.iterdir()  # of this pass
    for path in folder.glob("*.npz"):
        path.unlink()
    with filelock.FileLock(folder / "0000000.lock"):
        np.testing.assert_array_equal(passed(model, trees, tmp_path, progress="scored"), alone)
    batches, _ = Scorer(model.config, mesh_of(model.params))._plan(trees, prompt=False, tokens=TOKENS)
    assert f"scored: {len(batches)}/{len(batches)}" in capsys.readouterr().err


def test_where_a_file_system_has_no_locks_a_pass_is_alone(model, trees, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    np.testing.assert_array_equal(passed(model, trees, tmp_path), passed(model, trees, None))
