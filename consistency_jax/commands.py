"""What the commands share: how one ends, how it was called, its log, and the model of a workdir."""

import dataclasses
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict

from consistency_jax.config import ConfigError, lora_config
from consistency_jax.data.items import DataError
from consistency_jax.models.adapters import add_adapters
from consistency_jax.models.huggingface import CheckpointError as HuggingFaceError
from consistency_jax.models.huggingface import Model
from consistency_jax.training.checkpoints import Checkpointer, CheckpointError
from consistency_jax.training.loggers import MetricsLog
from consistency_jax.training.loop import Interrupted
from consistency_jax.training.step import merge_params, split_params, trained_names


def run_command(command: Callable[..., Any], *args: Any) -> None:
    """Runs a command; what its user can mend ends it with one message instead of a traceback."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # the libraries' own reports; --verbosity=0 shows them
    try:
        command(*args)
    except Interrupted as stop:
        print(stop.code, file=sys.stderr)
        sys.exit(0)
    except (ConfigError, DataError, CheckpointError, HuggingFaceError, FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def command_line() -> str:
    """The command that this process was started with, as one would type it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    start = ["python", "-m", spec.name] if spec else ["python", sys.argv[0]]
    return shlex.join([*start, *sys.argv[1:]])


def log_of(config: ConfigDict, workdir: Path, stage: str) -> Callable[[int], MetricsLog]:
    """Makes a stage's metrics log, given the step that the stage goes on from."""
    settings = config.logging
    return lambda first: MetricsLog(
        workdir, stage=stage, first_step=first, tensorboard=settings.tensorboard, wandb=settings.wandb
    )


def policy_model(config: ConfigDict, base: Model) -> Model:
    """What training starts from: the base model, with new adapters where `config.lora` asks for them.

    Base and policy share their arrays: the reference costs no memory.
    """
    adapters = lora_config(config)
    return add_adapters(base, adapters, config.seed) if adapters else base


def checkpoint_model(config: ConfigDict, workdir: Path, step: int | None, base: Model) -> Model:
    """The model of a workdir's checkpoint, the newest one for None; the base where it has no checkpoint at all.

    Raises:
      CheckpointError: a step that is not there, or cannot be read.
    """
    checkpointer = Checkpointer(workdir / "checkpoints")
    try:
        step = checkpointer.latest_step if step is None else step
        if step is None:
            return base
        policy = policy_model(config, base)
        trained, frozen = split_params(policy.params, trained_names(policy.config, config.optimizer.freeze))
        restored = checkpointer.restore(step, {"params": trained})["params"]
        return dataclasses.replace(policy, params=merge_params(restored, frozen))
    finally:
        checkpointer.close()
