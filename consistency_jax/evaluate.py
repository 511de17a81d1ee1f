"""Measure a model on the config's test splits: python -m consistency_jax.evaluate --config=... --workdir=...

Scores every candidate of every item in every language with the base model and with a checkpoint of the workdir
(`--checkpoint=latest`, a step, or base for the base model alone), and writes tables/, report.json and report.html.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from consistency_jax import report
from consistency_jax.commands import checkpoint_model, command_line, log_of, run_command
from consistency_jax.config import ConfigError, mesh_shape, validate
from consistency_jax.data.items import Items
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees import Tree, TreeBuilder
from consistency_jax.metrics import accuracy, clc
from consistency_jax.models.decoder import Params
from consistency_jax.models.huggingface import Model
from consistency_jax.scoring import Scorer, score_trees
from consistency_jax.sharding import make_mesh
from consistency_jax.table import Table, write_tables
from consistency_jax.training.pretrain import base_model
from consistency_jax.workdir import open_workdir


@dataclasses.dataclass(frozen=True)
class Split:
    """Items of one split with their trees, tree n = item * L + language."""

    name: str
    items: Items
    languages: tuple[str, ...]
    trees: Sequence[Tree | None]


def load_split(config: ConfigDict, name: str) -> Items:
    """The items of one split of `config.data`, with a word about what was skipped or odd.

    Raises:
      DataError: for bad data (or skipped rows that leave nothing).
    """
    data = config.data
    items = load_items(
        data.source,
        path=data.path or None,
        languages=tuple(data.languages) or None,
        split=name,
        on_error=data.on_error,
        **data.options,
    )
    for kind, messages in (("skipped", items.skipped), ("warnings", items.warnings)):
        if messages:
            print(f"data: split {name!r}: {len(messages)} {kind}, the first: {messages[0]}")
    if not items:
        raise ConfigError(f"split {name!r} of data.source={data.source!r} has no items")
    return items


def languages_of(config: ConfigDict, items: Items) -> tuple[str, ...]:
    """The order of axis L: as the config names them, else as the data has them."""
    return tuple(config.data.languages) or items.languages


def split_of(config: ConfigDict, name: str, items: Items, model: Model, boundary: str) -> Split:
    """Items that are loaded already, as trees; says how many prompts were cut.

    Raises:
      ConfigError: where the model has no tokenizer.
      DataError: for an item that does not fit.
    """
    if model.tokenizer is None:
        raise ConfigError(
            f"the model folder {model.folder} has no tokenizer files; put them beside config.json"
        )
    languages = languages_of(config, items)
    builder = TreeBuilder(model.tokenizer, boundary=boundary, max_length=config.data.max_length, cache=False)
    trees = builder.build(items, languages)
    cut = sum(tree is not None and tree.truncated > 0 for tree in trees)
    if cut:
        print(
            f"data: split {name!r}: {cut} of {len(trees)} prompts cut at data.max_length={config.data.max_length}"
        )
    return Split(name, items, languages, trees)


def measure(
    config: ConfigDict, scorer: Scorer, params: Params, splits: Sequence[Split], what: str = ""
) -> dict[str, Table]:
    """The table of each split; `what` names the progress bars (empty: none)."""
    return {
        split.name: score_trees(
            scorer,
            params,
            split.items,
            split.languages,
            split.trees,
            prompt=config.evaluation.normalization == "mean_full",
            tokens=config.evaluation.tokens,
            progress=f"{what} {split.name}" if what else "",
        )
        for split in splits
    }


def headline(config: ConfigDict, table: Table) -> dict[str, float]:
    """The few numbers that are logged inside training, percentages."""
    scores = table.scores(config.evaluation.normalization)
    right = accuracy(scores, table.gold, table.mask, languages=table.languages)
    consistency = clc(scores, table.mask, languages=table.languages)
    return {
        "clc_all": consistency.all_pairs,
        "clc_en": consistency.anchor_pairs,
        "accuracy_en": 100 * right.anchor,
        "accuracy_non_en": 100 * right.mean_others,
    }


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
        command=command_line(),
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
    model = base_model(config, mesh, log_of(config, workdir, "pretrain"))
    trained = model
    if checkpoint != "base":
        step = None if checkpoint == "latest" else int(checkpoint)
        trained = checkpoint_model(config, workdir, step, model)
    scorer = Scorer(model.config, mesh)
    boundary = config.evaluation.boundary
    tests = [split_of(config, name, load_split(config, name), model, boundary) for name in config.data.test]
    base = measure(config, scorer, model.params, tests, "base")
    write_tables(workdir / "tables" / "base.npz", base)
    final = base
    if trained is not model:
        scorer = scorer if trained.config == model.config else Scorer(trained.config, mesh)
        final = measure(config, scorer, trained.params, tests, "final")
        write_tables(workdir / "tables" / "final.npz", final)
    return write_report(config, workdir, tests, base, final)


def main(argv: Sequence[str]) -> None:
    del argv
    run_command(evaluate_workdir, _CONFIG.value, _WORKDIR.value, _CHECKPOINT.value)


if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file(
        "config", None, "Python file with get_config(arg).", lock_config=True
    )
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run (made if it is not there).")
    _CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "base, latest, or the step of a checkpoint.")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
