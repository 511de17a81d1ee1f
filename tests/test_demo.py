"""The demo, whole: what the README says of it must be so."""

import importlib.util
from pathlib import Path

import pytest

from consistency_jax.train import train

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.optimised
def test_the_demo_makes_held_out_facts_more_consistent_and_keeps_english(tmp_path):
    spec = importlib.util.spec_from_file_location("tiny", ROOT / "configs" / "tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    summary = train(module.get_config(), tmp_path / "run")
    delta, confidence = summary["delta"]["test"], summary["confidence"]["test"]
    # Another machine's rounding trains another model, as another seed does: docs/tiny.md has five (+6.3 to +8.1,
    # -3.3 to +0.0, +6.1 to +9.9). One seed's English is measured to about 2 points.
    assert delta["clc_all"] >= 4.5
    assert confidence["clc_all"][0] > 0
    assert delta["accuracy_en"] >= -5.5
    assert delta["accuracy_non_en"] >= 4
