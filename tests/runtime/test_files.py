"""Files appear whole or not at all."""

import errno
import importlib.util

import numpy as np
import pytest

from consistency_jax.errors import UserError
from consistency_jax.runtime.files import (
    DIGEST,
    complete_file,
    complete_path,
    errno_of,
    in_bucket,
    local,
    location,
    named,
    read_arrays,
    write_arrays,
    write_text,
)


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


def test_an_empty_path_is_no_folder():
    """`--workdir=$UNSET` would write a run into the folder where it is called."""
    with pytest.raises(UserError, match="names nothing: give a folder"):
        location("")
    with pytest.raises(UserError, match="--out= names nothing: give a path"):
        local("", "--out")


def test_words_for_a_full_disk_are_its_number():
    assert (
        errno_of(RuntimeError('writing of split "train": write() failed: No space left on device'))
        == errno.ENOSPC
    )
    assert errno_of(RuntimeError("no")) is None


def test_what_cannot_be_mapped_is_told(tmp_path):
    path = tmp_path / "a.npz"
    for save, array in ((np.savez_compressed, np.ones(9)), (np.savez, np.asfortranarray(np.ones((3, 2))))):
        save(path, a=array)
        with pytest.raises(ValueError, match="a cannot be mapped"):
            read_arrays(path, mapped=True)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="damaged, or no .npz"):
        read_arrays(path, mapped=True)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("change", ["negated", "renamed", "shorter", "of another type", "another digest"])
def test_arrays_that_were_edited_are_not_believed(tmp_path, change, mapped):
    path = tmp_path / "a.npz"
    arrays = {
        "logp": np.arange(6.0).reshape(2, 3),
        "name": np.array(["é", "b"]),
        "n": np.int32(3),
        "none": np.zeros((0, 2)),
    }
    write_arrays(path, arrays)
    found = read_arrays(path, mapped)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert type(found["logp"]) is np.ndarray
    assert found["logp"].flags.writeable != mapped
    with np.load(path) as stored:
        whole = {name: stored[name] for name in stored.files}
    np.savez(path, **whole)
    read_arrays(path, mapped)
    logp = whole.pop("logp")
    if change == "another digest":
        whole |= {"logp": logp, DIGEST: whole[DIGEST][::-1]}
    else:
        whole |= {
            "negated": {"logp": -logp},
            "renamed": {"logq": logp},
            "shorter": {"logp": logp[:1]},
            "of another type": {"logp": logp.view(np.int64)},
        }[change]
    np.savez(path, **whole)
    with pytest.raises(ValueError, match="its arrays are not those that were written"):
        read_arrays(path, mapped)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        ValueError(
            "RESOURCE_EXHAUSTED: Failed to write: No space left [os_error_code='28'] [source locations]"
        ),
    ],
)
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("before")

    def write():
        with complete_path(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(OSError, match="No space left on device") as caught:
        write()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert [own.name for own in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "before"


def test_what_is_written_on_a_disk_is_no_address(tmp_path):
    assert local(tmp_path, "--out") == tmp_path
    with pytest.raises(UserError, match=r"--out=gs://bucket/x is an address: give a path on a disk"):
        local("gs://bucket/x", "--out")
    with pytest.raises(UserError, match="~nobody-here/x: .*; write the whole path"):
        local("~nobody-here/x", "--out")


def test_another_error_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, named(tmp_path):
        (tmp_path / "none").read_text()
    assert caught.value.filename == str(tmp_path / "none")
    with pytest.raises(KeyError), named(tmp_path):
        raise KeyError("x")


def test_an_error_names_the_file_and_not_what_it_is_written_as(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "no folder" / "f.json", "x")
    assert caught.value.filename == str(tmp_path / "no folder" / "f.json")
    assert ".partial" not in str(caught.value)
