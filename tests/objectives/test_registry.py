"""What adding an objective costs: a module and a row, and nothing else is touched."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from test_train import config_file

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default, help_text
from consistency_jax.errors import ConfigError
from consistency_jax.objectives import OBJECTIVES
from consistency_jax.objectives.registry import Objective
from consistency_jax.runtime.keys import POSITIVE, Key
from consistency_jax.train import train


# ------------------------------------------------------------------------------------- what a new module would hold
def focal(policy, *, gold, mask, power=2.0, base="nats"):
    """-(1 - p)^power log p of the gold answer among its candidates (Lin et al. 2017, arXiv 1708.02002)."""
    table = jnp.where(mask, policy, -1e9)
    log_p = table - jnp.log(jnp.exp(table - table.max(2, keepdims=True)).sum(2, keepdims=True))
    log_p = log_p - table.max(2, keepdims=True)
    cells = (jnp.arange(mask.shape[2]) == gold[:, None, None]) & mask
    count = cells.sum()
    values = -((1 - jnp.exp(log_p)) ** power) * log_p * (1.0 if base == "nats" else 1 / np.log(2))
    loss = jnp.where(cells, values, 0.0).sum() / jnp.maximum(count, 1)
    return loss, {"loss": loss, "items": cells.any((1, 2)).sum(), "weight": count.astype(jnp.float32)}


OPTIONS = {
    "power": Key(2.0, POSITIVE, "How little sure answers count"),
    "base": Key("nats", ("nats", "bits"), "Of the logarithm"),
}


def make_focal(options, languages):
    del languages
    return lambda policy, examples: focal(policy.logp, gold=examples.gold, mask=examples.mask, **options)


# ------------------------------------------------------------------------------------------------------- and the row
@pytest.fixture
def focal_registered(monkeypatch):
    row = Objective(
        make_focal,
        False,
        lambda mask, gold, languages: (gold >= 0) & mask.any((1, 2)),
        "a gold answer",
        OPTIONS,
    )
    monkeypatch.setitem(OBJECTIVES, "focal", row)


def test_its_options_are_its_own(focal_registered):
    config = default()
    config.model.path, config.objective.name = "somewhere", "focal"
    config.objective.power = 3
    validate(config)
    for change, message in (
        ({"power": 0.0}, "objective.power=0.0 must be greater than 0"),
        ({"power": 1.0, "base": "bit"}, "objective.base='bit' is unknown .did you mean 'bits'.*nats, bits"),
        ({"base": "bits", "beta": 0.5}, "focal takes no beta; it takes: power, base"),
    ):
        config.objective.update(change)
        with pytest.raises(ConfigError, match=message):
            validate(config)
    other = default()
    other.model.path, other.objective.name, other.objective.power = "somewhere", "dpo", 2.0
    with pytest.raises(ConfigError, match=r"dpo takes no power; .*\(power is for focal\)"):
        validate(other)


def test_help_shows_its_options(focal_registered):
    assert "focal" in help_text()
    told = help_text().partition("objective, where name is focal\n")[2].splitlines()[:2]
    assert told[0].split(maxsplit=2) == ["power", "2.0", "[> 0] How little sure answers count"]
    assert told[1].split(maxsplit=2) == ["base", "nats", "[nats | bits] Of the logarithm"]


def test_the_embedded_world_trains_it(focal_registered, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
    config = config_file("tiny.py", "method=focal,pretrain=2,steps=2,items=4,lr=0.001")
    config.pretrain.vocabulary, config.pretrain.options.passes, config.pretrain.sentences = 1500, 1, 16
    config.data.languages = ("en", "fr")
    for name in ("told", "wrong", "mixed"):
        shares = config.pretrain.options[name]
        config.pretrain.options[name] = {language: shares[language] for language in config.data.languages}
    config.data.test, config.data.train["items"], config.batching.shapes = ("test",), 40, 1
    config.evaluation.every, config.evaluation.bootstrap, config.logging.every = 0, 20, 1
    config.logging.tensorboard = False
    config.objective.power = 1.0
    report = train(config, tmp_path / "run")
    assert 0 <= report["final"]["test"]["clc_all"] <= 100
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["objective"]
    assert stored == {"name": "focal", "power": 1.0, "base": "nats"}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == "focal" and "loss" in line] == [1, 2]


def test_an_option_has_one_type_whoever_takes_it():
    """A flag is parsed by it, before the objective is known."""
    kinds = {}
    for objective in OBJECTIVES.values():
        for option, row in objective.keys.items():
            assert kinds.setdefault(option, type(row.default)) is type(row.default), option
