"""Where a checkpoint lies, and its config.json."""

from pathlib import Path
from typing import Any

from consistency_jax.errors import CheckpointError
from consistency_jax.models.gguf import is_gguf
from consistency_jax.runtime.files import HUB_ID, expanded, read_json


def find_checkpoint(path_or_hub_id: str | Path) -> Path:
    """The folder or GGUF file itself, or a downloaded snapshot where the name is a Hub id and no such folder exists.

    Raises: CheckpointError.
    """
    path, name = expanded(path_or_hub_id), str(path_or_hub_id)
    if path.is_dir() or is_gguf(path):
        return path
    if path.is_file():
        raise CheckpointError(f"model.path: {name} is a file, and no GGUF; give the folder with config.json")
    if not isinstance(path_or_hub_id, str) or not HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"model.path: no checkpoint folder or GGUF file {name}: give a Hugging Face folder, a GGUF file or a hub id"
        )
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md"]
        other = ["consolidated*", "original/*"]  # the same weights, in their makers' own form
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=other))
    except Exception as error:  # the hub client raises network, permission and name errors of many kinds
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"model.path: no folder {name}, and the Hub gave no such model ({type(error).__name__}: {reason}); look at "
            "the name, the network, and HF_TOKEN for gated models"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json of a checkpoint folder.

    Raises: CheckpointError.
    """
    path = folder / "config.json"
    try:
        parsed = read_json(path)
    except FileNotFoundError:
        if (folder / "adapter_config.json").is_file():
            raise CheckpointError(
                f"{folder} holds an adapter alone: give a folder with it merged into its base model "
                "(peft: merge_and_unload, then save_pretrained)"
            ) from None
        files = sorted(path.name for path in folder.glob("*.gguf"))
        mend = (
            f"name one of its GGUF files, {folder / files[0]} say"
            if files
            else "is it a Hugging Face checkpoint folder?"
        )
        raise CheckpointError(f"{folder} has no config.json: {mend}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return parsed
