"""Train a language model towards crosslingual consistency.

    python -m consistency_jax.train --config=configs/tiny.py --workdir=runs/tiny

The same command resumes a run that was stopped or killed. Read this file from top to bottom: it is the whole story.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.config.checks import check_pairs_fit, validate
from consistency_jax.config.stages import stages_of
from consistency_jax.evaluation.free_text import asked_of, load_safety, write_answers
from consistency_jax.evaluation.measuring import headline, measure
from consistency_jax.evaluation.reports import write_report
from consistency_jax.evaluation.splits import Split, chat_of, load_split, load_tests, split_of
from consistency_jax.models.decoder import Params
from consistency_jax.objectives import make_auxiliary, make_objective
from consistency_jax.runtime.cli import config_flag, run_app, run_command, use_compile_cache
from consistency_jax.runtime.mesh import make_mesh, mesh_shape, row_groups
from consistency_jax.runtime.processes import on_main
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.selection.making import selected_items
from consistency_jax.table import write_tables
from consistency_jax.training.loop import fit
from consistency_jax.training.run_models import base_model, policy_model
from consistency_jax.training.stages import (
    Reference,
    check_layer,
    load_prompts,
    load_training,
    make_batches,
    prompt_set,
    training_data,
    training_split,
    training_splits,
)
from consistency_jax.training.step import trained_names
from consistency_jax.training.workdir import log_of, open_workdir


def train(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Runs a config in a workdir, or resumes it there; returns what report.json holds.

    Raises:
      UserError: for a config or data that cannot run; where it can be known, before any work.
      FloatingPointError, CheckpointError, Interrupted: see training/loop.py.
    """
    # ------------------------------------------------------------------------------------------ config, workdir, mesh
    validate(config, jax.device_count())
    stages = stages_of(config)
    for stage in stages:
        check_pairs_fit(stage.config)
    workdir = open_workdir(workdir, config)
    use_compile_cache(config)
    mesh = make_mesh(mesh_shape(config, jax.device_count()))

    # ----------------------------------------------------------------------------------------------- the data, checked
    loaded = [load_training(stage.config) for stage in stages]
    prompt_items = [load_prompts(stage.config) for stage in stages]
    test_items = load_tests(config)
    asked = asked_of(config, test_items, load_safety(config))
    validation_items = None
    if config.evaluation.every:
        validation_items = load_split(config, config.evaluation.split, config.data.test_groups)

    # ---------------------------------------------------------------------------------- the base model, also reference
    # Parameters come from: the newest checkpoint of this workdir (in `fit`), else model.path, else the embedded
    # base model, pretrained here once and cached. With adapters, policy and reference share the base's arrays.
    model = base_model(config, mesh, log_of(config, workdir, "pretrain"))
    policy = policy_model(config, model)
    scorer = Scorer(model.config, mesh)
    trained_names(policy.config, config.optimizer.freeze)  # looks at the expression before anything is scored
    for stage in stages:
        check_layer(stage.config, model.config.layers)
    policy_scorer = scorer if policy is model else Scorer(policy.config, mesh)

    # ------------------------------------------------------------------------------------------- everything as trees
    boundary = config.evaluation.boundary
    tests = [split_of(config, name, items, model, boundary) for name, items in test_items.items()]
    prompts = [
        prompt_set(stage.config, items, model) if items else None
        for stage, items in zip(stages, prompt_items, strict=True)
    ]
    training = training_splits(stages, loaded, prompts, model, row_groups(mesh))
    validation = None
    if validation_items:
        validation = split_of(config, config.evaluation.split, validation_items, model, boundary)

    # --------------------------------------------------------------------------------------- what the base model says
    reference = Reference(scorer, model, folder=None)
    base = measure(config, scorer, model.params, tests, "base", reference.key)
    on_main(lambda: write_tables(workdir / "tables" / "base.npz", base))
    chat = chat_of(config, model)
    said = [write_answers(config, model, chat, asked, workdir)]

    # ------------------------------------------------------------------------------------- the stages, one or several
    # Each starts from what the last one ends with, and that is its reference: scored before the stage's first step,
    # and kept, so that a resumed run has the same. The base model's tables are shared by runs.
    del model  # from here on only what a stage needs stays in memory
    for stage, (items, languages), split, beside in zip(stages, loaded, training, prompts, strict=True):
        if split is None:  # preference pairs, made by the model that the stage starts from
            items = selected_items(stage.config, reference.model, items, languages, workdir / stage.pairs)
            split = training_split(stage.config, items, languages, policy)
        objective, _ = make_objective(stage.config.objective, languages)
        data = training_data(stage.config, split, reference)._replace(prompts=beside)
        params = fit(
            stage=stage.name,
            config=policy.config,
            params=policy.params,
            objective=objective,
            pipeline=make_batches(stage.config, data, split, policy, reference, row_groups(mesh)),
            optimizer=stage.config.optimizer,
            total_steps=stage.config.total_steps,
            mesh=mesh,
            checkpoints=workdir / stage.folder,
            log=log_of(config, workdir, stage.name),
            log_every=config.logging.every,
            checkpoint_every=config.checkpoint.every,
            keep=config.checkpoint.keep,
            accumulate=stage.config.batching.accumulate,
            auxiliary=make_auxiliary(stage.config.auxiliary),
            seed=config.seed,
            evaluate=validator(config, policy_scorer, validation) if validation else None,
            evaluate_every=config.evaluation.every,
        )
        policy = dataclasses.replace(policy, params=params)
        reference = Reference(policy_scorer, policy, folder=workdir / "reference")

    # ------------------------------------------------------------------------------- how it answers now, and the report
    final = measure(config, policy_scorer, policy.params, tests, "final")
    on_main(lambda: write_tables(workdir / "tables" / "final.npz", final))
    said.append(write_answers(config, policy, chat, asked, workdir))
    return on_main(lambda: write_report(config, workdir, tests, base, final, asked, said))


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
    _CONFIG = config_flag()
    flags.declare_key_flag("config")
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; the same one resumes it.")
    flags.mark_flags_as_required(["config", "workdir"])
    run_app(main, joint=True)
