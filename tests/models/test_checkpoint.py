"""Where a checkpoint lies: a folder, a file, or a name on the Hub; and what is told where it is none."""

import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from consistency_jax.errors import CheckpointError
from consistency_jax.models.checkpoint import find_checkpoint, read_config


def test_a_folder_and_a_gguf_file_are_themselves(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert find_checkpoint(tmp_path) == tmp_path
    assert find_checkpoint(str(tmp_path / "model.gguf")) == tmp_path / "model.gguf"


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"PK")
    for path, said in (
        (tmp_path / "model.bin", "model.bin is a file, and no GGUF; give the folder with config.json"),
        (tmp_path / "none", "no checkpoint folder or GGUF file .*none: give a Hugging Face folder"),
        ("a/b/c", "no checkpoint folder or GGUF file a/b/c"),
    ):
        with pytest.raises(CheckpointError, match=said):
            find_checkpoint(path)


def test_a_name_on_the_hub_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        files = ["config.json", "model.safetensors", "consolidated.safetensors", "original/model.safetensors"]
        taken = filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        assert list(taken) == files[:2]
        if name != "me/mine":
            raise OSError("offline\nand more")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_checkpoint("me/mine") == tmp_path
    with pytest.raises(
        CheckpointError, match=r"no folder me/other, .*\(OSError: offline\); look at the name, the"
    ):
        find_checkpoint("me/other")


def test_a_folder_without_a_readable_config_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(CheckpointError, match="no config.json: is it a Hugging Face checkpoint folder?"):
        read_config(tmp_path)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="no config.json: name one of its GGUF files, .*a.gguf say"):
        read_config(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds an adapter alone: give a folder with it merged"):
        read_config(tmp_path)
    for text, said in (("{", "config.json is not JSON"), ("[]", "config.json is not a JSON object")):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=said):
            read_config(tmp_path)
    path.write_text(json.dumps({"a": 1}))
    assert read_config(tmp_path) == {"a": 1}
