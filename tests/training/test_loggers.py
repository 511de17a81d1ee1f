"""metrics.jsonl: one line a step, and after a resume none that will be computed again."""

import json
import sys

import pytest

from consistency_jax.errors import ConfigError
from consistency_jax.training.loggers import MetricsLog, _start_wandb


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf8").splitlines()]


def test_a_resumed_stage_drops_its_later_lines_and_keeps_those_of_others(tmp_path):
    log = MetricsLog(tmp_path, stage="pretrain", tensorboard=False)
    log.write(7, {"loss": 2.0})
    log.close()
    log = MetricsLog(tmp_path, stage="dco", tensorboard=False)
    for step in (1, 2, 3):
        log.write(step, {"loss": step / 3})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "sta')  # a kill in the middle of a line
    log = MetricsLog(tmp_path, stage="dco", first_step=2, tensorboard=False)
    log.write(3, {"loss": 0.5, "clc": 60})
    log.close()
    assert lines(tmp_path) == [
        {"step": 7, "stage": "pretrain", "loss": 2.0},
        {"step": 1, "stage": "dco", "loss": 0.3333333},  # seven digits
        {"step": 2, "stage": "dco", "loss": 0.6666667},
        {"step": 3, "stage": "dco", "loss": 0.5, "clc": 60},
    ]


def test_each_stage_has_a_tensorboard_run_of_its_own(tmp_path):
    for stage in ("sft", "dco"):
        log = MetricsLog(tmp_path, stage=stage)
        log.write(1, {"loss": 1.0})
        log.close()
    assert {path.parent.name for path in (tmp_path / "tensorboard").rglob("events.*")} == {"sft", "dco"}


def test_a_package_that_is_missing_is_told_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'consistency_jax\[wandb\]'.*logging.wandb="):
        _start_wandb("project", tmp_path)
