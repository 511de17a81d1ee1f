"""The command that draws a run: from its report alone."""

from pathlib import Path

import pytest

from consistency_jax.errors import ConfigError
from consistency_jax.evaluate import evaluate_workdir
from consistency_jax.picture import picture


def test_a_run_is_drawn_as_svg_and_as_png(small_config, tmp_path, capsys):
    evaluate_workdir(small_config, tmp_path / "run")
    drawn = picture(tmp_path / "run", tmp_path / "pictures" / "run.svg").read_text("utf8")
    assert "small_model0: how alike it answers" in drawn
    assert Path(small_config.data.path).name in drawn
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "pictures" / "run.svg")
    pytest.importorskip("resvg_py")
    head = picture(tmp_path / "run", tmp_path / "run.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")] == [1200, 630]


def test_what_cannot_be_drawn_is_told(small_config, tmp_path):
    with pytest.raises(ConfigError, match="has no config.json: give the --workdir of a run"):
        picture(tmp_path, tmp_path / "x.svg")
    evaluate_workdir(small_config, tmp_path / "run")
    with pytest.raises(ConfigError, match="--out=.*x.pdf should end with .svg or .png"):
        picture(tmp_path / "run", tmp_path / "x.pdf")
    with pytest.raises(ConfigError, match="--split=dev: the report has test"):
        picture(tmp_path / "run", tmp_path / "x.svg", "dev")
    for text in (
        '{"base": {"test": {}}, "settings": {"splits": {}}}',
        '{"base": {}, "settings": {"splits": {}}}',
        '{"base": {"t": []}, "confidence": {"t": []}, "settings": {"splits": {"t": {"items": 1, "languages": []}}}}',
    ):
        (tmp_path / "run" / "report.json").write_text(text)
        with pytest.raises(ConfigError, match="report.json is damaged"):
            picture(tmp_path / "run", tmp_path / "x.svg")
    (tmp_path / "run" / "report.json").unlink()
    with pytest.raises(ConfigError, match="has no report.json yet: train first"):
        picture(tmp_path / "run", tmp_path / "x.svg")
