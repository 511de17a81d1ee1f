"""The comparison of methods tells what went wrong with one."""

import importlib.util
from pathlib import Path

import pytest

METHODS = Path(__file__).resolve().parent.parent / "benchmarks" / "methods.py"


def test_a_run_that_fails_is_named(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("methods", METHODS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(
        SystemExit, match=r"consistency_jax.train .*tiny.py:method=none.*\nended with exit status 1"
    ):
        module.run("tiny", "method=none", tmp_path / "run")
