"""The models of a run: its base model, what training starts from, and the model of a checkpoint."""

import dataclasses
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from consistency_jax.config.stages import Stage, stages_of
from consistency_jax.data.trees.tokenization import tokenizer_key
from consistency_jax.errors import ConfigError
from consistency_jax.models.adapters import add_adapters, quantise
from consistency_jax.models.configured import computing, lora_config
from consistency_jax.models.huggingface import Model, load_pretrained
from consistency_jax.models.tokenizers import put_bos
from consistency_jax.runtime.files import expanded, write_text
from consistency_jax.runtime.processes import on_main
from consistency_jax.scoring.stored import fingerprint
from consistency_jax.training.checkpoints import Checkpointer
from consistency_jax.training.pretrain import pretrained_base
from consistency_jax.training.trainable import merge_params, split_params, trained_names
from consistency_jax.training.workdir import begun, exported, holds_run, read_config


def latest_stage(config: ConfigDict, workdir: Path) -> Stage:
    """The last stage of a workdir that has a checkpoint; the first one where none has."""
    stages = stages_of(config)
    begun = [stage for stage in stages if _newest(workdir / stage.folder) is not None]
    return begun[-1] if begun else stages[0]


def latest_step(workdir: Path) -> int | None:
    """The newest checkpoint of a workdir's `latest_stage`; None where it has none."""
    if not on_main((workdir / "checkpoints").is_dir):
        return None
    return _newest(workdir / latest_stage(on_main(lambda: read_config(workdir)), workdir).folder)


def _newest(checkpoints: Path) -> int | None:
    if not on_main(checkpoints.is_dir):
        return None
    with Checkpointer(checkpoints) as checkpointer:
        return checkpointer.latest_step


def policy_model(config: ConfigDict, base: Model) -> Model:
    """What training starts from: the base model, with new adapters where `config.lora` asks for them.

    Base and policy share their arrays: the reference costs no memory.
    """
    adapters = lora_config(config)
    return add_adapters(base, adapters, config.seed) if adapters else base


def checkpoint_model(config: ConfigDict, workdir: Path, step: int, base: Model) -> Model:
    """The model of the checkpoint of that step of a workdir's `latest_stage`.

    Raises:
      CheckpointError: a step that is not there, or cannot be read.
    """
    policy = policy_model(config, base)
    trained, frozen = split_params(policy.params, trained_names(policy.config, config.optimizer.freeze))
    with Checkpointer(workdir / latest_stage(config, workdir).folder) as checkpointer:
        restored = checkpointer.restore(step, {"params": trained})["params"]
    return dataclasses.replace(policy, params=merge_params(restored, frozen))


def base_model(config: ConfigDict, mesh: Mesh, workdir: Path | None = None, original: bool = False) -> Model:
    """The base model of a run, set to compute as `config.model` says: `model.path`, or the embedded base model, which
    is pretrained here first, and logged in the workdir, where the cache does not have it. Without a workdir the model
    of a path, which no run started from.

    Args:
      original: the model that is quantised for `lora.base`, as it was before.

    Raises:
      ConfigError, CheckpointError: a folder or architecture that cannot be used, or parameters that are not those which
        the workdir's run started from.
    """
    path = config.model.path or pretrained_base(config, mesh, workdir)
    if on_main(lambda: holds_run(expanded(path))):
        raise ConfigError(
            f"model.path={path} is the workdir of a run. To start from its end: {exported(Path(path))}"
        )
    base = "none" if original else config.lora.base
    model = load_pretrained(path, dtype=config.model.dtype, mesh=mesh, base=base)
    model.config = computing(config, model.config)
    if config.data.bos == "named" and model.tokenizer is not None:
        put_bos(model.tokenizer)  # here alone: whatever reads or writes a text asks the tokenizer
    if workdir is not None and on_main(lambda: begun(workdir)):
        _check_base(workdir, quantise(model, config.lora.base), path)
    return model


# Of a workdir: the fingerprint of the parameters that its run started from, and the key of the tokenizer.
BASE_KEY = "base_model.txt"


def keep_base_key(workdir: Path, key: str, tokenizer: Any = None) -> None:
    """Notes in the workdir which base model its run starts from, by its `fingerprint`, and with which tokenizer;
    nothing where it has begun."""
    if not begun(workdir):
        write_text(workdir / BASE_KEY, f"{key}\n{tokenizer_key(tokenizer) if tokenizer is not None else ''}")


def _check_base(workdir: Path, model: Model, path: str | Path) -> None:
    kept = workdir / BASE_KEY
    text = on_main(lambda: kept.read_text(errors="replace") if kept.is_file() else "")
    key, _, tokenizer = text.partition("\n")
    if not text:
        print(
            f"note: {workdir} is of a version that did not keep the base model's fingerprint: nothing here can tell "
            f"whether the run started from {path}"
        )
    elif key != fingerprint(model.params):
        raise ConfigError(
            f"the run in {workdir} started from other parameters than those in {path} (see {BASE_KEY}). "
            "Bring back the model folder as it was (the embedded base model: the version or the CONSISTENCY_CACHE that "
            "made it), or start in another --workdir"
        )
    # No error: another version of the tokenizer's library may write the same tokenizer otherwise.
    elif tokenizer and model.tokenizer is not None and tokenizer != tokenizer_key(model.tokenizer):
        print(
            f"note: the tokenizer in {path} (its files, chat template or library) is not as the run in {workdir} began "
            "with: if it makes other tokens, bring back the files as they were"
        )
