"""Train a language model towards crosslingual consistency.

    python -m consistency_jax.train --config=configs/tiny.py --workdir=runs/tiny

The same command resumes a run that was stopped or killed. Read this file from top to bottom: it is the whole story.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from consistency_jax.cache import cache_folder
from consistency_jax.commands import log_of, policy_model, run_command
from consistency_jax.config import ConfigError, mesh_shape, validate
from consistency_jax.data.pipeline import Pipeline, TrainingSet
from consistency_jax.evaluate import (
    Split,
    headline,
    languages_of,
    load_split,
    measure,
    split_of,
    write_report,
)
from consistency_jax.models.decoder import Params
from consistency_jax.objectives import make_objective
from consistency_jax.scoring import Scorer, fingerprint, score_trees, stored, table_frame, table_key
from consistency_jax.sharding import make_mesh, row_groups
from consistency_jax.table import Table, read_tables, write_tables
from consistency_jax.training.loop import fit
from consistency_jax.training.pretrain import base_model
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
    # base model, pretrained here once and cached. With adapters, policy and reference share the base's arrays.
    model = base_model(config, mesh, log_of(config, workdir, "pretrain"))
    policy = policy_model(config, model)
    scorer = Scorer(model.config, mesh)
    policy_scorer = scorer if policy is model else Scorer(policy.config, mesh)

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
        name = config.evaluation.split
        validation = split_of(config, name, load_split(config, name), model, config.evaluation.boundary)
    params = fit(
        stage=config.objective.name,
        config=policy.config,
        params=policy.params,
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
        evaluate=validator(config, policy_scorer, validation) if validation else None,
        evaluate_every=config.evaluation.every,
    )

    # ------------------------------------------------------------------------------- how it answers now, and the report
    final = measure(config, policy_scorer, params, tests, "final")
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
