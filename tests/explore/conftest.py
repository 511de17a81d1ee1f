"""The page of `explore`, served by the command, for every test that looks at it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ITEMS = [
    {
        "id": "france",
        "gold": 0,
        "prompts": {
            "en": "The capital of France is",
            "de": "Die Hauptstadt von Frankreich ist",
            "ru": "Столица Франции :",
        },
        "candidates": {
            "en": [" Paris", " Rome", " Oslo"],
            "de": [" Paris", " Rom", " Oslo"],
            "ru": [" Париж", " Рим", " Осло"],
        },
    },
    {
        "id": "kenya",
        "gold": 1,
        "prompts": {"sw": "Mji mkuu wa Kenya ni", "zh": "肯尼亚的首都是"},
        "candidates": {"sw": [" Roma", " Nairobi"], "zh": ["罗马", "内罗毕"]},
    },
    {
        "id": "spain",
        "gold": None,
        "prompts": {
            "en": "The capital of Spain is",
            "de": "Die Hauptstadt von Spanien ist",
            "ru": "Столица Испании :",
        },
        "candidates": {"en": [" Madrid"], "de": [" Madrid"], "ru": [" Мадрид"]},
    },
]


class Served(NamedTuple):
    address: str  # http://127.0.0.1:PORT
    told: str  # what the command printed until it was there
    names: list[str]  # of its two models


@pytest.fixture(scope="session")
def asked(tmp_path_factory) -> Path:
    """A JSONL file of questions in other languages, with other numbers of answers."""
    path = tmp_path_factory.mktemp("asked") / "asked.jsonl"
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in ITEMS), encoding="utf8")
    return path


@pytest.fixture(scope="session")
def served(small_model, asked, tmp_path_factory) -> Iterator[Served]:
    """The command with two models, of one folder by two names."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("other")
    other, log = folder / small_model.name, folder / "log.txt"
    other.symlink_to(small_model)
    command = [sys.executable, "-m", "consistency_jax", "explore", f"--model={small_model}", "--model"]
    words = [str(other), f"--data={asked}", "--config.evaluation.generation.max_tokens=4"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("w") as out, subprocess.Popen([*command, *words], stdout=out, env=environment) as process:
        try:
            end = time.monotonic() + 300
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.2)
            names = [f"{path.parent.name}/{path.name}" for path in (small_model, other)]
            yield Served(found[0], log.read_text(), names)
        finally:
            process.terminate()
