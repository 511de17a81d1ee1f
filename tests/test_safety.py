"""configs/safety.py: preferences in English, parallel prompts in every language, who refuses before and after."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from consistency_jax.config import ConfigError
from consistency_jax.config.checks import validate
from consistency_jax.train import train

ROOT = Path(__file__).resolve().parent.parent
PARTS = {"harmful": ("Steal {}", "Stiehl {}"), "harmless": ("Bake {}", "Backe {}")}


@pytest.fixture(scope="module")
def config_of():
    spec = importlib.util.spec_from_file_location("safety", ROOT / "configs" / "safety.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.get_config


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    for kind, (english, german) in PARTS.items():
        for part in ("train", "val"):
            lines = [
                {"id": f"{kind}/{part}/{n}", "en": english.format(n), "de": german.format(n)}
                for n in range(8)
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (tmp_path / f"polyrefuse_{kind}_{part}.jsonl").write_text(text)
    return tmp_path


def test_a_run_trains_on_english_alone_and_reports_both_kinds_in_every_language(
    config_of, prompts, small_model, tmp_path, capsys
):
    config = config_of(f"path={small_model},data_path={prompts},languages=en+de,steps=3,lr=1e-2,prompts=3")
    validate(config)
    config.data.chat_template = "off"  # the small model's tokenizer has none
    config.evaluation.safety.max_tokens = 4
    config.evaluation.bootstrap = 50
    config.batching.shapes = 1
    config.logging.every = 1
    workdir = tmp_path / "run"
    train(config, workdir)
    report = json.loads((workdir / "report.json").read_text())
    assert set(report["safety"]) == {"harmful", "harmless"}
    assert set(report["final"]["validation"]["accuracy"]) == {"en", "de"}
    logged = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    steps = {line["step"]: line for line in logged if "loss" in line}
    # Prompts beside the batch come on every second step, from the first; a line without them says nothing of them.
    assert [step for step, line in steps.items() if "mlc_loss" in line] == [1, 3]
    assert all(line["mlc_rank1"] > 0 for line in steps.values() if "mlc_loss" in line)
    shown = capsys.readouterr().out
    for name in ("harmful", "harmless"):
        assert f"{name}: what the model writes to 3 prompts in 2 languages" in shown
    assert "Same verdict (PAG), %" in shown


def test_the_options(config_of):
    config = config_of("path=x,data_path=y,method=dpo")
    assert not config.auxiliary.mlc.weight
    assert config.data.train.languages == ("en",)
    with pytest.raises(ConfigError, match="method='ppo'; choose from dpo_mlc"):
        config_of("method=ppo")
