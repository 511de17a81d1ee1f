"""The page of `explore`, served by the command, for every test that looks at it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest


class Served(NamedTuple):
    address: str  # http://127.0.0.1:PORT
    told: str  # what the command printed until it was there
    names: list[str]  # of its two models


@pytest.fixture(scope="session")
def served(small_model, questions, tmp_path_factory) -> Iterator[Served]:
    """The command with two models, of one folder by two names."""
    pytest.importorskip("gradio")
    other = tmp_path_factory.mktemp("other") / small_model.name
    other.symlink_to(small_model)
    command = [sys.executable, "-m", "consistency_jax", "explore", f"--model={small_model}", "--model"]
    words = [str(other), f"--data={questions}", "--config.evaluation.generation.max_tokens=4"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            told = ""
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", told)):
                assert (line := process.stdout.readline()), told
                told += line
            names = [f"{path.parent.name}/{path.name}" for path in (small_model, other)]
            yield Served(found[0], told, names)
        finally:
            process.terminate()
