"""The command that proves a config: what it prints, writes, and ends with."""

import json

import pytest
from small_models import needs_compiler, small_config

from consistency_jax.aot import __main__ as aot_command


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
