"""`model.remat=auto`: the compiler's account against what there is, and the same choice after a kill."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from consistency_jax.config.defaults import default
from consistency_jax.models.decoder import REMATS, Decoder, DecoderConfig, Params, abstract_params
from consistency_jax.train import train
from consistency_jax.training import remat
from consistency_jax.training.step import ShardedStep

CONFIG = DecoderConfig(vocab_size=32, hidden=64, layers=6, heads=4, kv_heads=2, head_dim=16, mlp=512)


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
def arguments() -> tuple[Params, jax.Array]:
    return abstract_params(CONFIG), jax.ShapeDtypeStruct((4, 128), jax.numpy.int32)


def test_the_least_that_fits_is_chosen_and_told(arguments, tmp_path, capsys):
    needs = [remat.needed(Steps()(name).run.lower(*arguments)) for name in REMATS]
    assert sorted(set(needs), reverse=True) == needs  # each keeps less than the one before
    for number, name in enumerate(REMATS):
        chosen = remat.chosen_step(Steps(), arguments, tmp_path, name, free=needs[number])
        assert chosen.inputs == name
        assert json.loads((tmp_path / "remat.json").read_text())[name] == name
        told = f"remat     {name}: a step needs {needs[number] / 2**30:.2f} GiB beside parameters and moments"
        assert told in capsys.readouterr().out
    nothing = remat.chosen_step(Steps(), arguments, tmp_path, "dco", free=0)
    assert nothing.inputs == REMATS[-1]  # it may run out of memory, and tells what it needs


def test_a_resumed_run_takes_what_it_took(arguments, tmp_path):
    (tmp_path / "remat.json").write_text('{"sft": "none", "dco": "wide"}')
    steps = Steps()
    assert remat.chosen_step(steps, arguments, tmp_path, "dco", free=2**40).inputs == "wide"
    assert steps.made == ["wide"]


def test_a_device_that_tells_nothing_computes_nothing_again(arguments, tmp_path, capsys):
    assert remat.room(jax.devices("cpu")[0]) is None
    assert remat.chosen_step(Steps(), arguments, tmp_path, "dco").inputs == "none"
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
    runs = {}
    for name in ("auto", "none"):
        config.model.remat = name
        runs[name] = train(config, tmp_path / name)
    chosen = "none" if free else "full"
    assert json.loads((tmp_path / "auto" / "remat.json").read_text()) == {"dco": chosen}
    assert f"remat     {chosen}: a step needs" in capsys.readouterr().out
    assert not (tmp_path / "none" / "remat.json").exists()
    clc = [run["final"]["test"]["clc_all"] for run in runs.values()]
    np.testing.assert_allclose(*clc, rtol=1e-5)
