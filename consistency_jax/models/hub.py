"""The Hugging Face Hub: a folder that goes there, and what a base model's own card says."""

from collections.abc import Callable
from pathlib import Path

from consistency_jax.errors import ConfigError
from consistency_jax.models.checkpoint import find_checkpoint
from consistency_jax.models.gguf import is_gguf, read_header
from consistency_jax.models.huggingface import COPIED, WEIGHTS
from consistency_jax.models.tokenizers import TEMPLATES, TOKENIZER_FILES
from consistency_jax.runtime.files import HUB_ID

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def licence_of(path: str) -> str:
    """The licence of a checkpoint, as its README.md or its GGUF metadata name it; "" where neither does, or no path."""
    if not path:
        return ""
    try:
        found = find_checkpoint(path)
        if is_gguf(found):
            told = read_header(found)[0].get("general.license", "")
        else:
            from huggingface_hub import metadata_load

            told = (metadata_load(found / "README.md") or {}).get("license", "")
    except Exception:  # of a file that is damaged in some way: its licence is not known
        return ""
    return told if isinstance(told, str) else ""


def part_of_export(name: str) -> bool:
    """Whether a file of this name is one that an export writes."""
    known = ("README.md", "config.json", *COPIED, *TOKENIZER_FILES, *ADAPTER)
    return name in known or bool(WEIGHTS.fullmatch(name))


def check_repository(name: str, adapter: bool, ours: Callable[[str], bool]) -> None:
    """Whether a model may be pushed to a repository: before any work, so that it does not fail after it.

    Args:
      name: OWNER/NAME.
      adapter: whether adapters are to be pushed, or a whole model; a repository holds one or the other.
      ours: tells whether the README of a repository that is there is one that an export wrote.

    Raises:
      ConfigError: another name, no token or one that the Hub does not take, or a repository of other things.
    """
    if not HUB_ID.fullmatch(name):
        raise ConfigError(f"--push={name} should be OWNER/NAME, of a repository of the Hub")
    import huggingface_hub as hub

    if not hub.get_token():
        raise ConfigError(f"--push={name} needs a token that may write: set HF_TOKEN, or run `hf auth login`")
    api = hub.HfApi()
    try:
        token = (api.whoami().get("auth") or {}).get("accessToken") or {}
        if token.get("role") == "read":
            raise PermissionError("the token may only read")
        if not api.repo_exists(name):
            return
        files = api.list_repo_files(name)
        card = "README.md" in files and Path(hub.hf_hub_download(name, "README.md")).read_text("utf8")
    except Exception as error:  # network, permission and name errors of many kinds
        raise _refused(name, error) from error
    other = "config.json" if adapter else ADAPTER[0]
    if other in files:
        kind = "a whole model" if adapter else "adapters"
        raise ConfigError(f"--push={name} holds {kind} already ({other}): choose another name")
    if (card and not ours(card)) or (not card and any(part_of_export(file) for file in files)):
        raise ConfigError(f"--push={name} holds a model that no export wrote: choose another name")


def push(folder: Path, name: str, public: bool) -> str:
    """Uploads what an export wrote; a repository that is not there yet is made. Returns its address.

    Args:
      public: whether a new repository is one that anyone may see. One that is there stays as it is.

    Raises:
      ConfigError: the Hub does not take it. The folder stays, and the same command tries again.
    """
    import huggingface_hub as hub

    api = hub.HfApi()
    try:
        address = api.create_repo(name, private=not public, exist_ok=True)
        files = [path.name for path in folder.iterdir() if part_of_export(path.name)]
        tokenizer = () if set(files).isdisjoint(TOKENIZER_FILES) else TOKENIZER_FILES
        files += [f"{TEMPLATES}/{path.name}" for path in (folder / TEMPLATES).glob("*.jinja")]
        old = [
            file
            for file in api.list_repo_files(name)
            if file not in files
            and (
                WEIGHTS.fullmatch(file)
                or file in (*tokenizer, *COPIED)
                or (tokenizer and file.startswith(f"{TEMPLATES}/"))
            )
        ]
        api.upload_folder(
            folder_path=folder,
            repo_id=name,
            allow_patterns=files,
            delete_patterns=old,  # shards and tokenizer files of an earlier export, say
            commit_message="Export of consistency_jax",
        )
    except Exception as error:
        raise _refused(name, error) from error
    return str(address)


def _refused(name: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:200]
    return ConfigError(
        f"--push={name}: the Hub refuses or cannot be reached ({type(error).__name__}: {reason}); look at the token, "
        "the name and the network"
    )
