"""Files appear whole or not at all."""

import importlib.util

import pytest

from consistency_jax.errors import UserError
from consistency_jax.runtime.files import complete_file, in_bucket, location, write_text


def write_half(path):
    with complete_file(path) as file:
        file.write(b"ne")
        raise OSError("disk full")


def test_a_file_is_replaced_only_when_it_is_complete(tmp_path):
    path = tmp_path / "table.npz"
    write_text(path, "old: \u00e9")
    with pytest.raises(OSError, match="disk full"):
        write_half(path)
    assert path.read_bytes() == "old: \u00e9".encode()
    with complete_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == "old: \u00e9".encode()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_at_once_do_not_mix(tmp_path):
    path = tmp_path / "table.npz"
    with complete_file(path) as first:
        first.write(b"first")
        with complete_file(path) as second:
            second.write(b"2nd")
        assert path.read_bytes() == b"2nd"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_is_a_folder_or_lies_in_a_bucket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert location("runs/a") == tmp_path / "runs" / "a"
    with pytest.raises(UserError, match="hdfs://a/b: give a folder, or one in a bucket"):
        location("hdfs://a/b")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="need the package gcsfs"):
        location("gs://bucket/run")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    path = location("gs://bucket/run")
    assert str(path / "config.json") == "gs://bucket/run/config.json"
    assert in_bucket(path)
    assert not in_bucket(tmp_path)
