"""What the commands share: how one ends, how it was called, its log, and the model of a workdir."""

import dataclasses
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from consistency_jax import distributed
from consistency_jax.config import lora_config
from consistency_jax.distributed import on_main
from consistency_jax.errors import UserError
from consistency_jax.models.adapters import add_adapters
from consistency_jax.models.huggingface import Model
from consistency_jax.stage_configs import Stage, stages_of
from consistency_jax.training.checkpoints import Checkpointer
from consistency_jax.training.loggers import Log, MetricsLog, NoLog
from consistency_jax.training.loop import Interrupted
from consistency_jax.training.step import merge_params, split_params, trained_names
from consistency_jax.workdir import read_config

PROCESS_FLAGS = ("coordinator_address", "num_processes", "process_id", "heartbeat_timeout_seconds")


def run_command(command: Callable[..., Any], *args: Any) -> None:
    """Runs a command; what its user can mend ends it with one message instead of a traceback.

    Where the command may be one of several processes (`run_app`), they are joined first.
    """
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # the libraries' own reports; --verbosity=0 shows them
    try:
        if "num_processes" in flags.FLAGS:
            distributed.initialize(**{name: flags.FLAGS[name].value for name in PROCESS_FLAGS})
        command(*args)
    except Interrupted as stop:
        print(stop.code, file=sys.stderr)
        sys.exit(0)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        _end(130)
    except (UserError, FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        _end(1)
    except Exception as error:
        if not distributed.several():
            raise
        if isinstance(error, jax.errors.JaxRuntimeError):  # of the network, mostly
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        _end(1)


def _end(status: int) -> None:
    if distributed.several():
        print(
            f"process {jax.process_index()} of {jax.process_count()} ends. Where another one ended before, what that "
            "one printed says why; the same command, given to all, goes on from the last checkpoint",
            file=sys.stderr,
        )
        distributed.leave(status)
    sys.exit(status)


def run_app(main: Callable[[Sequence[str]], None], *, joint: bool = False) -> None:
    """Parses the command line and calls main; a flag that is wrong ends it with one message.

    Args:
      joint: the command may be run by several processes at once.
    """
    if joint:
        flags.DEFINE_string("coordinator_address", None, "Several processes: host:port of process 0.")
        flags.DEFINE_integer(
            "num_processes", None, "How many there are; 1: this one alone, whatever else says."
        )
        flags.DEFINE_integer("process_id", None, "Which one this is, from 0.")
        flags.DEFINE_integer(
            "heartbeat_timeout_seconds", 100, "Without a sign of one process for so long, all others end."
        )

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            # An error of a config file comes as the text of its traceback, whose last lines are the message.
            told = str(error).strip().rpartition("ConfigError: ")[2]
            print(f"error: {told}", file=sys.stderr)
            sys.exit(1)

    app.run(main, flags_parser=parse)


def config_flag() -> flags.FlagHolder:
    """--config=file.py:key=value,... with --config.a.b=value for single keys; unknown keys are told by `validate`."""
    return config_flags.DEFINE_config_file(
        "config", None, "Python file with get_config(arg).", lock_config=False, accept_new_attributes=True
    )


def command_line() -> str:
    """The command that this process was started with, as one would type it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    start = ["python", "-m", spec.name] if spec else ["python", sys.argv[0]]
    return shlex.join([*start, *sys.argv[1:]])


def use_compile_cache(config: ConfigDict) -> None:
    """Keeps compiled programs in `config.compile_cache`, where it names a folder."""
    if config.compile_cache:
        jax.config.update("jax_compilation_cache_dir", str(Path(config.compile_cache).expanduser()))


def log_of(config: ConfigDict, workdir: Path, stage: str) -> Callable[[int], Log]:
    """Makes a stage's metrics log, given the step that the stage goes on from; process 0 keeps it alone."""
    settings = config.logging
    if not distributed.is_main():
        return lambda first: NoLog()
    return lambda first: MetricsLog(
        workdir, stage=stage, first_step=first, tensorboard=settings.tensorboard, wandb=settings.wandb
    )


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
