"""What several runs share: found where it was made, made anew where it is damaged."""

from pathlib import Path

import pytest

from consistency_jax.errors import ConfigError, UserError
from consistency_jax.runtime.cache import cache_folder, found_or_made


class Kept:
    """A number that is made, counted, and kept as text."""

    def __init__(self, path: Path):
        self.path, self.made = path, 0

    def make(self) -> int:
        self.made += 1
        return 40 + self.made

    def get(self) -> int:
        return found_or_made(
            self.path, self.make, lambda p: int(p.read_text()), lambda p, v: p.write_text(str(v)), "a number"
        )


def test_it_is_made_once_and_found_by_others(tmp_path):
    first, second = Kept(tmp_path / "key"), Kept(tmp_path / "key")
    assert [first.get(), first.get(), second.get()] == [41, 41, 41]
    assert (first.made, second.made) == (1, 0)


def test_a_damaged_file_is_made_anew_and_another_error_is_told(tmp_path):
    kept = Kept(tmp_path / "key")
    kept.path.write_text("forty")
    assert [kept.get(), kept.get(), kept.made] == [41, 41, 1]
    kept.path.unlink()
    kept.path.mkdir()  # not a damaged file: what is wrong here should be seen
    with pytest.raises(IsADirectoryError):
        kept.get()


def test_the_folder_is_the_users_unless_another_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("CONSISTENCY_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "consistency_jax"
    usual = cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == usual
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "consistency_jax"
    monkeypatch.setenv("CONSISTENCY_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


def test_a_bucket_is_no_cache(monkeypatch):
    monkeypatch.setenv("CONSISTENCY_CACHE", "gs://bucket/folder")
    with pytest.raises(
        ConfigError, match="CONSISTENCY_CACHE=gs://bucket/folder: give a folder of this machine"
    ):
        cache_folder()


def test_a_home_that_is_not_there_is_told(monkeypatch):
    monkeypatch.delenv("CONSISTENCY_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody-here/x")
    with pytest.raises(UserError, match="~nobody-here/x: .*; write the whole path"):
        cache_folder()
