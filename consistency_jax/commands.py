"""What the commands share: how one ends, how it was called, its log, and the model of a workdir."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict

from consistency_jax.config import ConfigError
from consistency_jax.data.items import DataError
from consistency_jax.models.decoder import Params
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


def checkpoint_params(config: ConfigDict, workdir: Path, step: int | None, base: Model) -> Params:
    """The parameters of a workdir's checkpoint, the newest one for None; the base's where it has no checkpoint at all.

    Raises:
      CheckpointError: a step that is not there, or cannot be read.
    """
    checkpointer = Checkpointer(workdir / "checkpoints")
    try:
        step = checkpointer.latest_step if step is None else step
        if step is None:
            return base.params
        trained, frozen = split_params(base.params, trained_names(base.config, config.optimizer.freeze))
        return merge_params(checkpointer.restore(step, {"params": trained})["params"], frozen)
    finally:
        checkpointer.close()
