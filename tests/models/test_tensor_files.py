"""The safetensors files of a folder, as the library that wrote them has them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from consistency_jax.errors import CheckpointError
from consistency_jax.models.tensor_files import TensorFiles, some

ARRAYS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.arange(5, dtype=np.float16),
    "c": np.ones((2, 2), np.float32),
}


def test_one_file_or_shards_have_the_same_tensors(tmp_path: Path) -> None:
    one, shards = tmp_path / "one", tmp_path / "shards"
    one.mkdir()
    shards.mkdir()
    save_file(ARRAYS, one / "model.safetensors")
    where = {name: f"{name}.safetensors" for name in ARRAYS}
    for name, file in where.items():
        save_file({name: ARRAYS[name]}, shards / file)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    for folder in (one, shards):
        with TensorFiles(folder) as tensors:
            assert set(tensors.names) == set(ARRAYS)
            assert not tensors.doubled
            for name, array in ARRAYS.items():
                assert tensors.shape(name) == array.shape
                assert tensors.nbytes(name) == array.nbytes
                np.testing.assert_array_equal(tensors.read(name), array)
            np.testing.assert_array_equal(tensors.read("a", (slice(1, 3), slice(2))), ARRAYS["a"][1:3, :2])


def test_one_file_stands_before_shards_that_an_earlier_save_left(tmp_path: Path) -> None:
    """As transformers has it, whether the old shards are still there or not."""
    save_file(ARRAYS, tmp_path / "model.safetensors")
    where = dict.fromkeys(ARRAYS, "model-00001-of-00001.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    for old in (False, True):
        if old:
            save_file({name: 0 * array for name, array in ARRAYS.items()}, tmp_path / where["a"])
        with TensorFiles(tmp_path) as tensors:
            np.testing.assert_array_equal(tensors.read("a"), ARRAYS["a"])


def test_a_tensor_of_two_files_is_noted(tmp_path: Path) -> None:
    for file in ("x.safetensors", "y.safetensors"):
        save_file(ARRAYS, tmp_path / file)
    index = {"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with TensorFiles(tmp_path) as tensors:
        assert sorted(tensors.doubled) == sorted(ARRAYS)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has neither model.safetensors nor model.safetensors.index.json$"),
        ({"pytorch_model.bin": b""}, "convert its .bin files to safetensors first"),
        ({"model.safetensors": b"short"}, "model.safetensors is truncated or not a safetensors file"),
        ({"model.safetensors.index.json": b"[]"}, "is not an index of safetensors shards"),
        ({"model.safetensors.index.json": b'{"weight_map": {"a": "x"}}'}, "lacks 1 of 1 shards: x"),
    ],
)
def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        TensorFiles(tmp_path)


def test_a_long_list_is_cut() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcde"), most=3) == "a, b, c and 2 more"
