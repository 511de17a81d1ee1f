"""The folder of a run: config.json, command.txt, base_model.txt, data.txt, checkpoints/, metrics.jsonl, tensorboard/,
tables/, report.json, report.html, skipped.jsonl where rows were left out, written/ where the model wrote answers,
profile/ where steps were traced, and remat.json where model.remat=auto.

With several stages, checkpoints/ holds a folder of each, and reference/ the tables of the references of later ones.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from consistency_jax.config.defaults import default
from consistency_jax.config.parsing import to_json
from consistency_jax.config.stages import filled, flattened, selects, stages_of
from consistency_jax.data.facts import items_digest
from consistency_jax.data.items import Items
from consistency_jax.errors import ConfigError
from consistency_jax.runtime.files import Alone, in_bucket, location, read_json, refuse_input, write_text
from consistency_jax.runtime.processes import check_shared, on_main

# Keys that change at most the rounding of what a run computes: it may be resumed with others. Not so those by which a
# model ranks candidates, where pairs are made of them.
FREE_TO_CHANGE = (
    "logging.",
    "checkpoint.",
    "evaluation.",
    "mesh.",
    "pretrain.log_every",
    "pretrain.checkpoint_every",
    "model.remat",
    "data.test",
    "batching.shapes",
    "compile_cache",
)
RANKING = ("evaluation.normalization", "evaluation.boundary")
# What a run writes, beside config.json and the pairs of its stages.
OUTPUTS = (
    "base_model.txt",
    "checkpoints",
    "command.txt",
    "data.txt",
    "metrics.jsonl",
    "profile",
    "reference",
    "remat.json",
    "report.html",
    "report.json",
    "skipped.jsonl",
    "tables",
    "tensorboard",
    "wandb",
    "wandb_id",
    "written",
)
HALF = re.compile(r"\.[0-9a-f]{8}\.partial$")  # of `complete_path`
MOST_TOLD = 12  # keys of a config that differ
LOGS = "logs"  # data.source of an audit of logs, whose model.path is a name alone
COMMAND = "command.txt"  # of a workdir: what began its run
DATA_KEY = "data.txt"  # of a workdir: the digest of what its run trains on


@contextlib.contextmanager
def open_workdir(workdir: str | Path, config: ConfigDict) -> Iterator[Path]:
    """A run's folder, held for this run alone while it is open. Makes the folder, or checks that what ran in the one
    that is there ran with the same config; stores the config. Of several processes the first does so, and all must see
    the folder.

    report.json tells that a run is finished: where settings differ that are free to change it is removed, and so is
    what a killed run left half written; where others do, it would be lost, and the folder is refused.

    Raises:
      ConfigError: the folder belongs to another config, or cannot be made or written.
      UserError: it is held by another run, or is one that this run reads from.
    """
    folder = location(workdir)
    inputs = inputs_of(config)
    for place in (folder, *(folder / name for name in OUTPUTS)):
        refuse_input(place, "--workdir", *inputs)
    safety = config.evaluation.safety
    written = config.evaluation.generation.splits or safety.harmful.source or safety.harmless.source
    if in_bucket(folder) and written:
        raise ConfigError(
            "evaluation.generation and evaluation.safety keep answers in the workdir as they are drawn, and cannot in "
            f"a bucket ({folder}); leave both off, or give a --workdir on a file system that the hosts share"
        )
    if in_bucket(folder) and any(selects(stage.config) for stage in stages_of(config)):
        raise ConfigError(
            f"selection.name keeps its pairs in the workdir, and cannot in a bucket ({folder}): make them before with "
            "python -m consistency_jax.pairs, and train on the file, data.train.pairs"
        )
    held = Alone(folder, "--workdir")
    try:
        on_main(lambda: _open(folder, config, held))
        check_shared(folder, "--workdir")
        yield folder
    finally:
        held.leave()


def inputs_of(config: ConfigDict) -> tuple[dict[str, str], dict[str, str]]:
    """What a config reads and no command may write over, as `refuse_input` takes it."""
    paths = {}
    for stage in stages_of(config):
        data, of = stage.config.data, f"of stage {stage.name}"
        paths |= {f"data.path {of}": data.path, f"data.train.pairs {of}": data.train.pairs}
    return paths, {} if config.data.source == LOGS else {"model.path": config.model.path}


def _open(folder: Path, config: ConfigDict, held: Alone) -> None:
    stored, differing = folder / "config.json", {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.take()
        theirs = [] if stored.exists() else [name for name in OUTPUTS if (folder / name).exists()]
        if theirs:
            raise ConfigError(
                f"{folder} has {theirs[0]}, and no config.json of a run: give another --workdir, or move what is there"
            )
        kept = "checkpoints" if begun(folder) else "report.json" if (folder / "report.json").exists() else ""
        if kept and stored.exists():
            differing = _differences(fixed(read_config(folder)), fixed(config))
        elif stored.exists() and not holds_run(folder):
            raise ConfigError(f"{stored} is not of a run (of a model?): give another --workdir")
        if differing:
            told = [f"\n  {key}: {old!r} there, {new!r} now" for key, (old, new) in differing.items()]
            lines = "".join(told[:MOST_TOLD]) + f"\n  and {len(told) - MOST_TOLD} more" * (
                len(told) > MOST_TOLD
            )
            if begun_by := read_command(folder):
                lines += f"\n  it was begun by: {begun_by}"
            mend = "Give the settings it was started with, or another --workdir."
            if kept == "report.json":
                mend = "It holds a report, which would be lost: give another --workdir."
            elif set(differing) == {"total_steps"}:  # its schedule was made for so many
                mend += f" To train on from its end: {exported(folder)}, in another --workdir."
            raise ConfigError(f"the workdir {folder} belongs to another config:{lines}\n{mend}")
        for own in (folder, *(folder / name for name in ("tables", "reference", "written"))):
            for half in own.glob("*.partial"):
                if HALF.search(half.name):
                    half.unlink(missing_ok=True)
        text = to_json(config)
        if not stored.exists() or stored.read_text(encoding="utf8", errors="replace") != text:
            (folder / "report.json").unlink(missing_ok=True)
            write_text(stored, text)
    except OSError as error:
        raise ConfigError(
            f"cannot write to the workdir {folder}: {error}; free some space, or choose another --workdir"
        ) from error


def exported(folder: Path) -> str:
    """How to start from what a run ends with."""
    return (
        f"python -m consistency_jax.export --workdir={folder} --out=FOLDER, then --config.model.path=FOLDER"
    )


def holds_run(folder: Path) -> bool:
    """Whether the config.json of a folder is that of a run, and not a model's."""
    try:
        text = read_json(folder / "config.json")
    except (OSError, ValueError):
        return False
    return isinstance(text, dict) and {"model", "data", "objective"} <= set(text)


def begun(workdir: Path) -> bool:
    """Whether a run has a checkpoint there, of any stage."""
    folder = workdir / "checkpoints"  # no glob: it passes over what may not be read
    own = [*folder.iterdir()] if folder.is_dir() else []
    below = [path for stage in own if not stage.name.isdigit() and stage.is_dir() for path in stage.iterdir()]
    return any(path.name.isdigit() for path in (*own, *below))


def check_data(
    workdir: Path,
    loaded: Sequence[tuple[Items, Sequence[str]]],
    prompts: Sequence[Items | None] = (),
    mend: str = "or start in another --workdir",
) -> None:
    """Keeps in the workdir what its run trains on, or refuses other items than the run began with: of a split drawn
    anew, some that were trained on might be held out now.

    Args:
      loaded: items and languages, a pair a stage.
      prompts: of stages that have an auxiliary loss on prompts of their own.

    Raises:
      ConfigError: the items are others.
    """
    own = [*loaded, *((items, ()) for items in prompts if items is not None)]
    key, kept = items_digest(own, fast=True), workdir / DATA_KEY
    if not begun(workdir):
        write_text(kept, key)
    elif not kept.is_file():
        print(
            f"note: {workdir} is of a version that did not keep what it trained on: nothing can tell if it changed"
        )
    # Earlier versions kept none of prompts, and of many items a slower one.
    elif (old := kept.read_text(errors="replace")) != key and old not in (
        items_digest(loaded, fast=fast) for fast in (True, False)
    ):
        raise ConfigError(
            f"the run in {workdir} trained on other items than the data give now (see {DATA_KEY}): they were edited, "
            f"or are split or read in another way. Bring back the data as they were, {mend}"
        )


def fixed(config: ConfigDict) -> dict[str, Any]:
    """The settings with which a run stays the same run: {"a.b": value} without those that are free to change, or are of
    adapters that it has not."""
    selecting = any(selects(stage.config) for stage in stages_of(config))
    flat = flattened(json.loads(to_json(config)))
    own = {key: re.sub(r"^stage\.[^.]+\.", "", key) for key in flat}  # of a stage, as of all
    kept = {
        k: v
        for k, v in flat.items()
        if not own[k].startswith(FREE_TO_CHANGE) or selecting and own[k] in RANKING
    }
    idle = () if config.lora.rank else ("lora.alpha", "lora.targets", "lora.dtype")
    return {k: v for k, v in kept.items() if k not in idle}


def read_config(workdir: Path, model: bool = False) -> ConfigDict:
    """The config that a workdir's run was started with.

    Args:
      model: it is read for its model.

    Raises:
      ConfigError: a folder that is no workdir, or whose config.json is damaged; or an audit of logs, for its model.
    """
    path = workdir / "config.json"
    try:
        config = default()
        config.update(read_json(path))
        config = filled(config)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{workdir} has no config.json: give the --workdir of a run") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ConfigError(f"{path} is damaged ({error}); delete the workdir or give another one") from error
    if config.data.source == LOGS and model:
        raise ConfigError(
            f"{workdir} is an audit of logs, without a model: give its command again, audit --from=..."
        )
    return config


def keep_command(workdir: Path, command: str) -> None:
    """Keeps the command that began a run, for the card of what is exported; "" keeps none."""
    if not begun(workdir):
        write_text(workdir / COMMAND, command + "\n" * bool(command))


def read_command(workdir: Path) -> str:
    """That command; "" where none was kept."""
    path = workdir / COMMAND
    return path.read_text(encoding="utf8", errors="replace").strip() if path.is_file() else ""


def read_report(workdir: Path) -> dict[str, Any] | None:
    """What report.json of a workdir holds; None where there is none yet.

    Raises:
      ConfigError: it is damaged.
    """
    path = workdir / "report.json"
    try:
        summary = read_json(path) if path.exists() else None
        if summary is not None:
            summary["settings"]["splits"], summary["base"]
        return summary
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_report(workdir, error) from error


def drop_early_report(workdir: Path) -> None:
    """Removes a report of the base model alone or of an earlier step: launchers take one for the end of the run."""
    path = workdir / "report.json"
    try:
        finished = not path.exists() or read_json(path)["settings"]["finished"]
    except (ValueError, KeyError, TypeError):
        finished = False
    if not finished:
        path.unlink()


def damaged_report(workdir: Path, error: Exception) -> ConfigError:
    """The error for a report.json that is not as it was written."""
    mend = f"make it again: python -m consistency_jax.evaluate --workdir={workdir}"
    return ConfigError(f"{workdir / 'report.json'} is damaged ({error}); {mend}")


def _differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = dict.fromkeys((*old, *new))
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}
