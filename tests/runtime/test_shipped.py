"""Configs that come with the package, in a checkout and in an installation."""

import pytest

from consistency_jax.errors import ConfigError
from consistency_jax.runtime import shipped


def test_they_are_those_of_the_checkout():
    assert {"tiny", "custom", "audit", "real", "gemma3"} <= set(shipped.shipped())
    assert shipped.folder().name == "configs"


def test_an_installation_carries_them_inside(tmp_path, monkeypatch):
    inside = tmp_path / "site-packages" / "consistency_jax" / "configs"
    inside.mkdir(parents=True)
    (inside / "mine.py").write_text('"""Mine."""')
    monkeypatch.setattr(shipped, "__file__", str(inside.parent / "runtime" / "shipped.py"))
    assert shipped.shipped() == {"mine": inside / "mine.py"}


def test_a_copy_goes_into_a_folder_that_is_new(tmp_path):
    assert shipped.copy("tiny", f"{tmp_path}/new/") == tmp_path / "new" / "tiny.py"
    assert (tmp_path / "new" / "tiny.py").is_file()


def test_a_copy_is_made_to_edit_and_nothing_is_written_over(tmp_path):
    known = shipped.shipped()["tiny"]
    for out in (tmp_path, tmp_path / "new" / "own.py"):
        assert shipped.copy("tiny", str(out)).read_text() == known.read_text()
    with pytest.raises(ConfigError, match=r"tiny.py is there already; name another file"):
        shipped.copy("tiny", str(tmp_path))
    with pytest.raises(ConfigError, match="~nobody-here/x: .*; write the whole path"):
        shipped.copy("tiny", "~nobody-here/x")
    with pytest.raises(ConfigError, match=r"configs copy tini: choose from .*did you mean 'tiny'"):
        shipped.copy("tini", str(tmp_path))
