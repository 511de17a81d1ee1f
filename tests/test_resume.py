"""A killed run, started again with the same command, ends where an unbroken run ends, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from consistency_jax.models.huggingface import load_pretrained
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.train import train
from consistency_jax.training.run_models import checkpoint_model
from consistency_jax.training.workdir import read_config

pytestmark = pytest.mark.optimised
STEPS = 24
CONFIG = """
from consistency_jax.config import default


def get_config(arg=None):
    config = default()
    config.model.path = {model!r}
    config.data.path = {questions!r}
    config.total_steps = {steps}
    config.batching.items = 4
    config.batching.shapes = 1
    config.optimizer.learning_rate = 1e-3
    config.checkpoint.every = 3
    config.logging.every = 1
    config.evaluation.bootstrap = 50
    return config
"""


@pytest.fixture(scope="module")
def command(small_model, questions, tmp_path_factory):
    """Starts the real command in a workdir, with a cache folder of its own. What is killed while it writes a compiled
    program leaves half of it: these are kept for these tests alone."""
    folder = tmp_path_factory.mktemp("command")
    config = folder / "config.py"
    config.write_text(CONFIG.format(model=str(small_model), questions=str(questions), steps=STEPS))

    def start(workdir: Path) -> subprocess.Popen:
        environment = os.environ | {
            "CONSISTENCY_CACHE": str(workdir.parent / "cache"),
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PLATFORMS": "cpu",
        }
        arguments = [f"--config={config}", f"--workdir={workdir}"]
        return subprocess.Popen(
            [sys.executable, "-m", "consistency_jax.train", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture(scope="module")
def unbroken(command, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    output, _ = (process := command(workdir)).communicate(timeout=300)
    assert process.returncode == 0, output
    return workdir


def logged_steps(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_until(process: subprocess.Popen, condition) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def final_params(workdir: Path, small_model: Path):
    from consistency_jax.config.defaults import default

    config = default()
    model = load_pretrained(small_model, mesh=make_mesh((1, 1, 1)))
    return checkpoint_model(config, workdir, STEPS, model).params


def assert_same_result(workdir: Path, unbroken: Path, small_model: Path) -> None:
    for one, other in zip(
        jax.tree.leaves(final_params(workdir, small_model)),
        jax.tree.leaves(final_params(unbroken, small_model)),
        strict=True,
    ):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert (workdir / "report.json").read_bytes() == (unbroken / "report.json").read_bytes()
    steps = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))  # no step twice, none missing


def test_sigkill_at_several_points(command, unbroken, small_model, tmp_path):
    workdir = tmp_path / "run"
    moments = (
        lambda: (workdir / "tables").exists(),  # while the base table is made or just after
        lambda: logged_steps(workdir) >= 4,  # between two checkpoints
        lambda: (
            (workdir / "checkpoints" / "12").exists() or logged_steps(workdir) >= 13
        ),  # around a checkpoint
        lambda: logged_steps(workdir) >= STEPS,  # trained, not yet reported
    )
    for moment in moments:
        process = command(workdir)
        wait_until(process, moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = command(workdir)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert_same_result(workdir, unbroken, small_model)


def test_sigterm_writes_a_checkpoint_and_ends_cleanly(command, unbroken, small_model, tmp_path):
    workdir = tmp_path / "run"
    process = command(workdir)
    wait_until(process, lambda: logged_steps(workdir) >= 4)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    stopped = logged_steps(workdir)
    if stopped < STEPS:
        assert f"stopped at step {stopped} of {STEPS}" in output
        assert (workdir / "checkpoints" / str(stopped)).is_dir()
    process = command(workdir)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert_same_result(workdir, unbroken, small_model)


STAGES = {"sft": {"total_steps": 6}, "dco": {"total_steps": 9}}


@pytest.mark.slow
def test_sigkill_between_stages_and_inside_the_second(small_model, questions, tmp_path):
    """The second has a reference of its own. The unbroken run is made in this process, the killed one by command."""
    text = CONFIG.format(model=str(small_model), questions=str(questions), steps=STEPS)
    own = f"    config.stages, config.stage = {tuple(STAGES)}, {STAGES}\n    config.checkpoint.every = 2\n"
    (tmp_path / "config.py").write_text(text.replace("    return config", own + "    return config"))
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "consistency_jax.train", f"--config={tmp_path / 'config.py'}"]
        environment = os.environ | {
            "CONSISTENCY_CACHE": str(tmp_path / "cache"),
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
            "JAX_PLATFORMS": "cpu",
        }
        return subprocess.Popen(
            [*command, f"--workdir={killed}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    moments = (
        lambda: (killed / "reference").exists(),  # between them: the reference is being made, or just was
        lambda: logged_steps(killed) >= 6 + 5,  # inside the second
    )
    for moment in moments:
        process = start()
        wait_until(process, moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    output, _ = (process := start()).communicate(timeout=300)
    assert process.returncode == 0, output
    assert "sft: finished, at step 6" in output

    config = read_config(killed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSISTENCY_CACHE", str(tmp_path / "cache"))
        train(config, unbroken)
    base = load_pretrained(small_model, mesh=make_mesh((1, 1, 1)))
    one, other = (checkpoint_model(config, workdir, 9, base).params for workdir in (killed, unbroken))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert (killed / "report.json").read_bytes() == (unbroken / "report.json").read_bytes()
    lines = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    expected = [(name, step) for name, own in STAGES.items() for step in range(1, own["total_steps"] + 1)]
    assert [(line["stage"], line["step"]) for line in lines] == expected
    assert len(list((killed / "reference").glob("*.npz"))) == 1
