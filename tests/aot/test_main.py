"""The command that proves a config: what it prints, writes, and ends with."""

import json

import pytest
from ml_collections import ConfigDict
from small_models import needs_compiler, small_config

from consistency_jax.aot import __main__ as aot_command
from consistency_jax.errors import ConfigError, UserError


def test_nothing_is_written_over(tmp_path, monkeypatch):
    """Told before anything is compiled."""
    monkeypatch.setenv("HOME", str(tmp_path))
    config = small_config({}, data=4)
    notes = tmp_path / "notes.json"
    for text in ("my notes", "{}", "[1]", "3", '"it fits"', '["fits"]'):
        notes.write_text(text)
        with pytest.raises(UserError, match=r"--json=.*notes.json is there, and is no report"):
            aot_command.command(config, "v5e:2x2", "~/notes.json")
        assert notes.read_text() == text
    (tmp_path / "model").mkdir()
    config.model.path = "~/model"
    for out in ("~/model", "~/model/hlo"):
        with pytest.raises(UserError, match=r"would write into model.path"):
            aot_command.command(config, "v5e:2x2", hlo=out)
    with pytest.raises(UserError, match=r"--json=gs://"):
        aot_command.command(config, "v5e:2x2", "gs://bucket/report.json")


@pytest.mark.parametrize("name", ["v5e:²x4", "v5e:", "v5e:4x", "v5e:-4x4", "v5e", "v9:4x4", "v5e:4x4 "])
def test_a_slice_that_is_none_is_told(name):
    with pytest.raises(ConfigError, match="is no TPU slice"):
        aot_command.command(ConfigDict(), name)


@pytest.mark.aot
@needs_compiler
def test_what_does_not_fit_ends_with_status_1(tmp_path, capsys):
    config = small_config({}, data=4)
    config.model.path = "Qwen/Qwen3-14B"
    with pytest.raises(SystemExit) as stop:
        aot_command.command(config, "v5e:2x2", str(tmp_path / "report.json"))
    assert stop.value.code == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert not report["fits"]
    # 14.77 B parameters and two moments in bfloat16, on every device: not even compiled
    assert report["programs"]["train"]["hbm"]["arguments"] == pytest.approx(6 * 14.77e9, rel=0.01)
    printed = capsys.readouterr()
    assert "mesh.fsdp" in printed.err
    assert "NO" in printed.out
