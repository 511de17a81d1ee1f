"""The command that makes a board."""

import pytest

from consistency_jax.board.__main__ import board
from consistency_jax.errors import ConfigError


def test_audits_become_a_board_and_its_entries_another(tmp_path, audit, capsys):
    runs = [audit(tmp_path, name, skill) for name, skill in (("small", 0.5), ("larger", 2.0))]
    page = board([str(run) for run in runs], tmp_path / "board")
    assert "2 models, 1 benchmark: " in capsys.readouterr().out
    again = board(sorted(map(str, (page.parent / "models").iterdir())), tmp_path / "again")
    assert again.read_text("utf8").split("<main>")[1] == page.read_text("utf8").split("<main>")[1]


def test_nothing_given_is_told(tmp_path):
    with pytest.raises(ConfigError, match="give workdirs of audits"):
        board([], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file is a file: name a folder"):
        board([str(tmp_path)], tmp_path / "file")
    with pytest.raises(ConfigError, match="no audit is among what was given"):
        board([str(tmp_path)], tmp_path / "board")
