"""Audits for boards, of logs that are made up."""

import json
from pathlib import Path

import numpy as np
import pytest

from consistency_jax.logs.__main__ import audit_logs


@pytest.fixture
def audit():
    return _audit


def _audit(
    folder: Path, name: str, skill: float = 1.0, languages=("en", "fr", "sw"), items: int = 40
) -> Path:
    """The workdir of an audit of logs, of a model of this name."""
    rng = np.random.default_rng(len(name))
    lines = [
        {
            "id": f"q{n}",
            "language": language,
            "scores": (rng.normal(size=4) + skill * np.eye(4)[n * 7 % 4]).tolist(),
            "gold": n * 7 % 4,
        }
        for n in range(items)
        for language in languages
    ]
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf8")
    audit_logs(file, folder / f"run_{name}")
    return folder / f"run_{name}"
