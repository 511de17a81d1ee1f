"""Workdirs, broken: every command that reads one ends with one clear error, or gives what it gave before.

What is accepted is harmless by a rule: an export holds the same tensors, a comparison the same figures, unless the
config itself was changed to another that can run.
"""

import gc
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mutations import Outcomes, broken_bytes, broken_json
from safetensors.numpy import load_file

from consistency_jax.compare import compare
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.export import export
from consistency_jax.train import train

pytestmark = [
    pytest.mark.slow,
    # Orbax leaves futures of a failed read to the garbage collector, which reports them whenever it comes by.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What failed reads have left is collected here, where its reports are ignored, and not in another test."""
    yield
    gc.collect()


# How often a file is drawn: those that few bytes of state depend on are drawn more often than the many of a checkpoint.
OFTEN = {"config.json": 6, "report.json": 4, "metrics.jsonl": 3, "base.npz": 4, "final.npz": 4, "data.txt": 3}


def spoil(file: Path, draw: random.Random) -> None:
    """Breaks a file, its JSON where it holds some."""
    if file.suffix == ".json" and draw.random() < 0.6:
        file.write_text(json.dumps(broken_json(json.loads(file.read_bytes()), draw)))
    else:
        file.write_bytes(broken_bytes(file.read_bytes(), draw) if file.stat().st_size else b"x")


@pytest.fixture
def workdir(small_config, tmp_path: Path) -> Path:
    small_config.data.test_items = 8
    train(small_config, tmp_path / "run")
    return tmp_path / "run"


def test_what_is_exported_compared_and_measured(workdir: Path, tmp_path: Path, capsys) -> None:
    outcomes, draw = Outcomes(), random.Random(5)
    figures = compare([workdir])["splits"]
    report = {side: json.loads((workdir / "report.json").read_text())[side] for side in ("base", "final")}
    tensors = load_file(export(workdir, tmp_path / "exported") / "model.safetensors")
    kept = tmp_path / "kept"
    shutil.copytree(workdir, kept)
    files = sorted(
        path.relative_to(kept) for path in kept.rglob("*") if path.is_file() and path.name != ".lock"
    )
    weights = [OFTEN.get(file.name, 1) for file in files]
    for number in range(220):
        (name,) = draw.choices(files, weights)
        file = workdir / name
        how = draw.randrange(8)
        if how == 0:
            file.unlink()
        elif how == 1:
            file.unlink()
            file.mkdir()
        else:
            spoil(file, draw)
        label = f"{number}: {name}"
        command = "export" if "checkpoints" in name.parts else ("compare", "export", "evaluate")[number % 3]
        if number % 40 == 0:
            command = "evaluate"
        if command == "compare":
            found = outcomes.of(f"compare {label}", lambda: compare([workdir])["splits"])
            if isinstance(found, dict) and name.name != "config.json":
                assert found == figures, label
        elif command == "export":
            out = tmp_path / "again"
            shutil.rmtree(out, ignore_errors=True)
            found = outcomes.of(f"export {label}", lambda out=out: export(workdir, out))
            if isinstance(found, Path) and name.name != "config.json":
                again = load_file(found / "model.safetensors")
                for key, value in tensors.items():
                    np.testing.assert_array_equal(again[key], value, label)
        else:
            found = outcomes.of(f"evaluate {label}", lambda: evaluate_workdir(None, workdir))
            if isinstance(found, dict) and name.name != "config.json":
                assert {side: found.get(side) for side in report} in (report, report | {"final": None}), label
        shutil.rmtree(workdir)
        shutil.copytree(kept, workdir)
    assert outcomes.counts["error"] > 30
    capsys.readouterr()


def test_what_goes_on(small_config, workdir: Path, tmp_path: Path, capsys) -> None:
    """The same command on a broken workdir of a finished run ends with one clear error, or with the same parameters."""
    outcomes, draw = Outcomes(), random.Random(8)
    tensors = load_file(export(workdir, tmp_path / "exported") / "model.safetensors")
    kept = tmp_path / "kept"
    shutil.copytree(workdir, kept)
    files = sorted(
        path.relative_to(kept) for path in kept.rglob("*") if path.name in (*OFTEN, "base_model.txt")
    )
    for number in range(40):
        file = workdir / draw.choice(files)
        spoil(file, draw)
        if number % 2:  # the last checkpoint is gone, so that it trains
            shutil.rmtree(workdir / "checkpoints" / "6")
        label = f"{number}: {file.name}"
        if outcomes.of(label, lambda: bool(train(small_config, workdir))) is True:
            again = tmp_path / "again"
            shutil.rmtree(again, ignore_errors=True)
            for key, value in load_file(export(workdir, again) / "model.safetensors").items():
                np.testing.assert_array_equal(value, tensors[key], label)
        shutil.rmtree(workdir)
        shutil.copytree(kept, workdir)
    assert outcomes.counts["error"] > 5
    capsys.readouterr()
