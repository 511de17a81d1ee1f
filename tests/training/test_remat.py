"""`model.remat=auto`: the compiler's account against what there is, and the same choice after a kill."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from consistency_jax.config.defaults import default
from consistency_jax.data.examples import Examples, StepInput, TrainingSet
from consistency_jax.data.pipeline import Pipeline
from consistency_jax.data.trees.forest import ANSWER, PROMPT, Forest, Tree
from consistency_jax.models.decoder import REMATS, Decoder, DecoderConfig, Params, init_params
from consistency_jax.runtime.mesh import make_mesh, replicated
from consistency_jax.scoring.logps import batch_shardings
from consistency_jax.train import train
from consistency_jax.training import remat
from consistency_jax.training.step import ShardedStep

CONFIG = DecoderConfig(vocab_size=32, hidden=64, layers=6, heads=4, kv_heads=2, head_dim=16, mlp=512)
TOKENS = jax.ShapeDtypeStruct((4, 128), jax.numpy.int32)


class Steps:
    """The gradient of a decoder, as programs."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, name: str) -> ShardedStep:
        self.made.append(name)
        model = Decoder(dataclasses.replace(CONFIG, remat=name))

        def loss(params: Params, tokens: jax.Array) -> jax.Array:
            return model.apply({"params": params}, tokens, tokens, tokens + 1, tokens).sum()

        return ShardedStep(jax.jit(jax.grad(loss)), None, None, name)


@pytest.fixture(scope="module")
def arguments() -> tuple[Params]:
    return (init_params(CONFIG, jax.random.key(0)),)


def losses_of(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [values["loss"] for values in map(json.loads, lines) if "loss" in values]


def test_the_least_that_fits_is_chosen_and_told(arguments, tmp_path, capsys):
    needs = [remat.needed(Steps()(name).run.lower(*arguments, TOKENS)) for name in REMATS]
    assert sorted(set(needs), reverse=True) == needs  # each keeps less than the one before
    for number, name in enumerate(REMATS):
        chosen = remat.chosen_step(Steps(), arguments, [TOKENS], tmp_path, name, free=needs[number])
        assert chosen.inputs == name
        assert json.loads((tmp_path / "remat.json").read_text())[name] == name
        told = f"remat     {name}: a step needs {needs[number] / 2**30:.2f} GiB beside parameters and moments"
        assert told in capsys.readouterr().out
    nothing = remat.chosen_step(Steps(), arguments, [TOKENS], tmp_path, "dco", free=0)
    assert nothing.inputs == REMATS[-1]  # it may run out of memory, and tells what it needs


def test_a_resumed_run_takes_what_it_took(arguments, tmp_path):
    def chosen(steps: Steps, resumed: bool) -> str:
        rest = ([TOKENS], tmp_path, "dco", resumed, 2**40)
        return remat.chosen_step(steps, arguments, *rest).inputs

    (tmp_path / "remat.json").write_text('{"sft": "none", "dco": "wide"}')
    steps = Steps()
    assert chosen(steps, resumed=True) == "wide"
    assert steps.made == ["wide"]
    assert chosen(steps, resumed=False) == "none"  # begun anew
    for damaged in ('{"dco": "some"}', '{"dco": ', "[]"):
        (tmp_path / "remat.json").write_text(damaged)
        assert chosen(steps, resumed=True) == "none"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_measured_is_a_batch_in_the_largest_shape(accumulate):
    """Prompts of very different lengths: shapes differ in rows and in tokens a row."""
    rng = np.random.default_rng(0)
    trees = [
        Tree(
            np.full(size, 5, np.int32),
            (np.full(2, 6, np.int32), np.full(3, 7, np.int32)),
            np.full(size, PROMPT, np.uint8),
            (np.full(2, ANSWER, np.uint8), np.full(3, ANSWER, np.uint8)),
            np.ones(2, np.int32),
        )
        for size in np.exp(rng.normal(3, 1, 80)).astype(int) + 2
    ]
    shape = (40, 2, 2)
    length = np.broadcast_to(np.array([2, 3], np.int32), shape)
    data = TrainingSet(
        Forest.of(trees), np.ones(shape, bool), length, np.zeros(40, np.int32), np.zeros(shape, np.float32)
    )
    pipeline = Pipeline(data, seed=0, items=4, mask_cost=1e-3, accumulate=accumulate, total_steps=10)
    assert len(pipeline.shapes) > 1
    mesh = make_mesh((1, 1, 1))
    where = StepInput(
        batch_shardings(mesh, int(accumulate > 1)), Examples(*[replicated(mesh)] * len(Examples._fields))
    )
    found = remat.largest(pipeline(0), pipeline.shapes, where)
    sizes = [batch.batch.tokens.shape[-2:] for batch in found]
    for power in (1, 2):
        most = max(shape.rows * shape.length**power for shape in pipeline.shapes)
        assert max(rows * length**power for rows, length in sizes) == most
    for batch in map(pipeline, range(10)):  # no step takes more than these, array by array
        for ours, most in zip(jax.tree.leaves(batch), jax.tree.leaves(found[0]), strict=True):
            assert (ours.dtype, ours.ndim) == (most.dtype, len(most.shape))
        assert batch.batch.sources.shape[-1] <= found[0].batch.sources.shape[-1]
        assert batch.batch.target_slot.shape[-1] <= found[0].batch.target_slot.shape[-1]


def test_a_device_that_tells_nothing_computes_nothing_again(arguments, tmp_path, capsys):
    assert remat.room(jax.devices("cpu")[0]) is None
    assert remat.chosen_step(Steps(), arguments, [TOKENS], tmp_path, "dco").inputs == "none"
    assert "does not tell how much memory" in capsys.readouterr().out
    assert not (tmp_path / "remat.json").exists()


@pytest.mark.parametrize("free", [2**40, 0])
def test_a_run_chooses_and_its_losses_are_those_of_any_choice(
    small_model, questions, tmp_path, monkeypatch, free, capsys
):
    monkeypatch.setattr(remat, "room", lambda device: free)
    config = default()
    config.model.path, config.data.path = str(small_model), str(questions)
    config.total_steps, config.batching.items, config.evaluation.bootstrap = 2, 4, 10
    config.logging.every = 1
    for name in ("auto", "none"):
        config.model.remat = name
        train(config, tmp_path / name)
    chosen = "none" if free else "full"
    assert json.loads((tmp_path / "auto" / "remat.json").read_text()) == {"dco": chosen}
    assert f"remat     {chosen}: a step needs" in capsys.readouterr().out
    assert not (tmp_path / "none" / "remat.json").exists()
    losses = [losses_of(tmp_path / name) for name in ("auto", "none")]
    assert len(losses[0]) == 2
    np.testing.assert_allclose(*losses, rtol=1e-5)
