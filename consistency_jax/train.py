"""Train a language model towards crosslingual consistency.

    python -m consistency_jax.train --config=configs/tiny.py --workdir=runs/tiny

The same command resumes a run that was stopped or killed. Read this file from top to bottom: it is the whole story.
"""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from consistency_jax import report
from consistency_jax.cache import cache_folder
from consistency_jax.config import ConfigError, mesh_shape, validate
from consistency_jax.data.items import DataError
from consistency_jax.data.pipeline import Pipeline, TrainingSet
from consistency_jax.evaluate import (
    Split,
    build_split,
    headline,
    languages_of,
    load_split,
    measure,
    split_of,
)
from consistency_jax.models.decoder import Params
from consistency_jax.models.huggingface import CheckpointError as HuggingFaceError
from consistency_jax.objectives import make_objective
from consistency_jax.scoring import Scorer, fingerprint, score_trees, stored, table_frame, table_key
from consistency_jax.table import Table, read_tables, write_tables
from consistency_jax.training.checkpoints import Checkpointer, CheckpointError
from consistency_jax.training.loggers import MetricsLog
from consistency_jax.training.loop import Interrupted, fit
from consistency_jax.training.pretrain import load_base, pretrained_base
from consistency_jax.training.sharding import make_mesh, row_groups
from consistency_jax.workdir import open_workdir


def train(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Runs a config in a workdir, or resumes it there; returns what report.json holds.

    Raises:
      ConfigError, DataError: before any work, for a config or data that cannot run.
      FloatingPointError, CheckpointError, Interrupted: see training/loop.py.
    """
    # ------------------------------------------------------------------------------------------ config, workdir, mesh
    validate(config, jax.device_count())
    workdir = open_workdir(workdir, config)
    mesh = make_mesh(mesh_shape(config, jax.device_count()))

    # ----------------------------------------------------------------------------------------------- the data, checked
    train_items = load_split(config, config.data.train.split)
    if config.data.train.items:
        del train_items[config.data.train.items :]
    test_items = {name: load_split(config, name) for name in config.data.test}
    languages = languages_of(config, train_items)
    check_languages(config, languages)
    objective, needs_reference = make_objective(config.objective, languages)

    # ---------------------------------------------------------------------------------- the base model, also reference
    # Parameters come from: the newest checkpoint of this workdir (in `fit`), else model.path, else the embedded
    # base model, pretrained here once and cached.
    folder = config.model.path or pretrained_base(config, mesh, log_of(config, workdir, "pretrain"))
    model = load_base(folder, config, mesh)
    scorer = Scorer(model.config, mesh)

    # ------------------------------------------------------------------------------------------ how it answers before
    tests = [
        split_of(config, name, items, model, config.evaluation.boundary) for name, items in test_items.items()
    ]
    base = tables_at(
        workdir / "tables" / "base.npz", lambda: measure(config, scorer, model.params, tests, "base")
    )

    # ------------------------------------------------------------------- training trees and reference log-probabilities
    training = split_of(config, config.data.train.split, train_items, model, config.data.boundary)
    reference = reference_table(config, scorer, model.params, training) if needs_reference else None
    pipeline = Pipeline(
        training_set(training, reference),
        seed=config.seed,
        items=config.batching.items,
        languages=config.batching.languages,
        pairs=config.objective.candidates == "pair",
        accumulate=config.batching.accumulate,
        groups=row_groups(mesh),
        shapes=config.batching.shapes,
        row_length=config.batching.row_length,
        total_steps=config.total_steps,
    )

    # -------------------------------------------------------------------------------------------------- the train loop
    validation = None
    if config.evaluation.every:
        validation = build_split(config, config.evaluation.split, model, config.evaluation.boundary)
    params = fit(
        stage=config.objective.name,
        config=model.config,
        params=model.params,
        objective=objective,
        pipeline=pipeline,
        optimizer=config.optimizer,
        total_steps=config.total_steps,
        mesh=mesh,
        checkpoints=workdir / "checkpoints",
        log=log_of(config, workdir, config.objective.name),
        log_every=config.logging.every,
        checkpoint_every=config.checkpoint.every,
        keep=config.checkpoint.keep,
        accumulate=config.batching.accumulate,
        evaluate=validator(config, scorer, validation) if validation else None,
        evaluate_every=config.evaluation.every,
    )

    # ------------------------------------------------------------------------------- how it answers now, and the report
    final = measure(config, scorer, params, tests, "final")
    write_tables(workdir / "tables" / "final.npz", final)
    return write_report(config, workdir, tests, base, final)


def check_languages(config: ConfigDict, languages: Sequence[str]) -> None:
    """Refuses settings that name languages which the training data does not have.

    Raises:
      ConfigError: naming the key.
    """
    for language in config.objective.steer:
        if language not in languages:
            raise ConfigError(f"objective.steer names {language!r}; the data has {', '.join(languages)}")
    if config.batching.languages > len(languages) or config.batching.languages == 1:
        raise ConfigError(
            f"batching.languages={config.batching.languages}: draw 2 to {len(languages)} languages an item, 0 for all"
        )


def log_of(config: ConfigDict, workdir: Path, stage: str) -> Callable[[int], MetricsLog]:
    """Makes a stage's metrics log, given the step that the stage goes on from."""
    settings = config.logging
    return lambda first: MetricsLog(
        workdir, stage=stage, first_step=first, tensorboard=settings.tensorboard, wandb=settings.wandb
    )


def tables_at(path: Path, make: Callable[[], dict[str, Table]]) -> dict[str, Table]:
    """The tables of a file, made and written first where there is none."""
    if not path.exists():
        write_tables(path, make())
    return read_tables(path)


def reference_table(config: ConfigDict, scorer: Scorer, params: Params, split: Split) -> Table:
    """What the reference says about the training items: computed once, cached under a key of all it depends on."""
    key = table_key(scorer.config, fingerprint(params), split.trees, ids=[item.id for item in split.items])
    return stored(
        key,
        cache_folder() / "tables",
        lambda: score_trees(
            scorer,
            params,
            split.items,
            split.languages,
            split.trees,
            prompt=False,
            tokens=config.evaluation.tokens,
            progress="reference",
        ),
    )


def training_set(split: Split, reference: Table | None) -> TrainingSet:
    """A split as the pipeline takes it."""
    frame = table_frame(split.items, split.languages, split.trees)
    wide = len(split.languages)
    rows = [split.trees[start : start + wide] for start in range(0, len(split.trees), wide)]
    logp = None if reference is None else reference.logp
    return TrainingSet(rows, frame.mask, frame.length, frame.gold, logp)


def validator(config: ConfigDict, scorer: Scorer, split: Split) -> Callable[[Params], dict[str, float]]:
    """The headline numbers of a split, for the log inside training."""

    def run(params: Params) -> dict[str, float]:
        values = headline(config, measure(config, scorer, params, [split])[split.name])
        print(f"  {split.name}: " + ", ".join(f"{name} {value:.1f}" for name, value in values.items()))
        return {f"{split.name}/{name}": value for name, value in values.items()}

    return run


def write_report(
    config: ConfigDict, workdir: Path, tests: Sequence[Split], base: dict[str, Table], final: dict[str, Table]
) -> dict[str, Any]:
    """report.json, report.html, and the table on the terminal."""
    summary = report.summarise(
        base,
        final,
        normalization=config.evaluation.normalization,
        seed=config.seed,
        resamples=config.evaluation.bootstrap,
    )
    report.write_report(
        workdir,
        summary,
        base,
        final,
        {split.name: split.items for split in tests},
        config=config.to_dict(),
        command=" ".join(["python", "-m", "consistency_jax.train", *map(shlex.quote, sys.argv[1:])]),
    )
    print(report.terminal_table(summary))
    print(f"report: {workdir / 'report.html'}")
    return summary


def evaluate_workdir(config: ConfigDict, workdir: str | Path, checkpoint: str = "latest") -> dict[str, Any]:
    """Measures the base model and a checkpoint of a workdir on the config's test splits, and writes the report.

    Args:
      checkpoint: "base", "latest" (the base model where there is no checkpoint), or a step.

    Raises:
      ConfigError: a checkpoint that is neither of these, or is not there.
    """
    validate(config, jax.device_count())
    workdir = open_workdir(workdir, config)
    mesh = make_mesh(mesh_shape(config, jax.device_count()))
    if checkpoint not in ("base", "latest") and not checkpoint.isdigit():
        raise ConfigError(f"--checkpoint={checkpoint} should be base, latest or the step of a checkpoint")
    model = load_base(
        config.model.path or pretrained_base(config, mesh, log_of(config, workdir, "pretrain")), config, mesh
    )
    params = model.params
    if checkpoint != "base":
        params = checkpoint_params(workdir, None if checkpoint == "latest" else int(checkpoint), model.params)
    scorer = Scorer(model.config, mesh)
    tests = [build_split(config, name, model, config.evaluation.boundary) for name in config.data.test]
    base = measure(config, scorer, model.params, tests, "base")
    write_tables(workdir / "tables" / "base.npz", base)
    final = base
    if params is not model.params:
        final = measure(config, scorer, params, tests, "final")
        write_tables(workdir / "tables" / "final.npz", final)
    return write_report(config, workdir, tests, base, final)


def checkpoint_params(workdir: Path, step: int | None, like: Params) -> Params:
    """The parameters of a workdir's checkpoint, the newest one for None; `like` where it has no checkpoint at all."""
    checkpointer = Checkpointer(workdir / "checkpoints")
    step = checkpointer.latest_step if step is None else step
    params = like if step is None else checkpointer.restore(step, {"params": like})["params"]
    checkpointer.close()
    return params


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


def main(argv: Sequence[str]) -> None:
    del argv
    run_command(train, _CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file(
        "config", None, "Python file with get_config(arg).", lock_config=True
    )
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; the same one resumes it.")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
