"""metrics.jsonl: one line a step, and after a resume none that will be computed again."""

import json
import struct
import sys
import time

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

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


def events(folder):
    """All events below a folder, oldest file first; a record is its length, a checksum, itself, a checksum."""
    for file in sorted(folder.rglob("events.*")):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def test_what_is_not_known_is_left_out(tmp_path):
    """`NaN` is no JSON."""
    log = MetricsLog(tmp_path, stage="dco", tensorboard=False)
    log.write(1, {"test/clc_all": 50.0, "test/accuracy_en": float("nan")})
    log.close()
    assert lines(tmp_path) == [{"step": 1, "stage": "dco", "test/clc_all": 50.0}]


def test_each_stage_has_a_tensorboard_run_of_its_own_that_a_resumed_one_goes_on_with(tmp_path, monkeypatch):
    for stage in ("sft", "dco"):
        log = MetricsLog(tmp_path, stage=stage)
        log.write(1, {"loss": 1.0, "clc": 60.0})
        log.write(2, {"loss": 0.5})
        log.close()
    monkeypatch.setattr("time.time", lambda: 2e9)  # files are named by the second
    log = MetricsLog(tmp_path, stage="dco", first_step=1)
    log.write(2, {"loss": 0.25})
    log.close()

    log = MetricsLog(tmp_path, stage="sft")  # killed before its first checkpoint, and begun anew
    log.write(1, {"loss": 2.0})
    log.close()

    def shown(stage):
        for event in events(tmp_path / "tensorboard" / stage):
            if event.session_log.status == SessionLog.START:
                yield "from here on", event.step
            for value in event.summary.value:
                yield value.tag, event.step, value.simple_value

    written = [("loss", 1, 1.0), ("clc", 1, 60.0), ("loss", 2, 0.5)]
    assert list(shown("sft")) == [*written, ("from here on", 1), ("loss", 1, 2.0)]
    assert list(shown("dco")) == [*written, ("from here on", 2), ("loss", 2, 0.25)]


def test_a_package_that_is_missing_is_told_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'consistency_jax\[wandb\]'.*logging.wandb="):
        _start_wandb("project", tmp_path)


@pytest.mark.slow
def test_wandb_offline_keeps_every_value(tmp_path, monkeypatch):
    """What W&B would upload, read back from the file that it keeps without a network."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for stage, first in (("dpo", 0), ("dco", 0), ("dco", 1)):  # the last one resumes
        log = MetricsLog(tmp_path, stage=stage, first_step=first, tensorboard=False, wandb="project")
        log.write(first + 1, {"loss": 0.515625 - 0.25 * first})
        log.close()
    told, missing = (b"dpo/loss", b"dco/loss", b"dco/step", b"0.515625", b"0.265625"), ["all"]
    # A process of its own writes the files, and `finish` does not wait for it.
    deadline = time.monotonic() + 60
    while missing and time.monotonic() < deadline:
        runs = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
        kept = b"".join(path.read_bytes() for path in runs)
        missing = [value for value in told if value not in kept]
        time.sleep(0.1)
    assert not missing
    assert {path.stem for path in runs} == {f"run-{(tmp_path / 'wandb_id').read_text()}"}  # one run a workdir
