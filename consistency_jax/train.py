"""Train a language model towards crosslingual consistency.

    python -m consistency_jax.train --config=configs/tiny.py --workdir=runs/tiny

The same command resumes a run that was stopped or killed. Read this file from top to bottom: it is the whole story.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.config.checks import check_pairs_fit, validate
from consistency_jax.config.command_line import as_flags
from consistency_jax.config.defaults import help_text
from consistency_jax.config.stages import Stage, method_of, stages_of
from consistency_jax.evaluation import load_evaluation, load_validation
from consistency_jax.evaluation.splits import write_skipped
from consistency_jax.objectives import make_objective
from consistency_jax.runtime.cli import config_flag, own_command, run_app, run_command, use_compile_cache
from consistency_jax.runtime.files import location
from consistency_jax.runtime.mesh import make_mesh, mesh_shape
from consistency_jax.runtime.processes import on_main
from consistency_jax.runtime.watch import Watch, profiled_steps
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.selection.making import selected_items
from consistency_jax.training.announce import tell_model, tell_run, training_items
from consistency_jax.training.loggers import check_wandb
from consistency_jax.training.loop import fit
from consistency_jax.training.rollouts import check_translators
from consistency_jax.training.run_models import base_model, keep_base_key, policy_model
from consistency_jax.training.stages import (
    Reference,
    check_layer,
    load_prompts,
    load_training,
    make_batches,
    prompt_set,
    tell_shared,
    training_data,
    training_split,
    training_splits,
)
from consistency_jax.training.trainable import check_trainable, trained_names
from consistency_jax.training.workdir import check_data, drop_early_report, keep_command, open_workdir


def train(config: ConfigDict, workdir: str | Path, profile: str = "") -> dict[str, Any]:
    """Runs a config in a workdir, or resumes it there; returns what report.json holds.

    Args:
      profile: "FIRST:LAST", optimizer steps (of each stage) to trace; empty: none.

    Raises:
      UserError: for a config or data that cannot run; where it can be known, before any work.
      FloatingPointError, CheckpointError, Interrupted: see training/loop.py.
    """
    validate(config, jax.device_count())
    check_trainable(config)
    on_main(functools.partial(check_wandb, config.logging.wandb))
    stages = stages_of(config)
    for stage in stages:
        check_pairs_fit(stage.config)
    longest = max(stage.config.total_steps for stage in stages)
    watch = Watch(profiled_steps(profile, location(workdir), longest), location(workdir) / "profile")
    with open_workdir(workdir, config) as workdir:  # held for this run alone
        on_main(functools.partial(keep_command, workdir, own_command()))
        on_main(functools.partial(drop_early_report, workdir))
        return _train(config, stages, workdir, watch)


def _train(config: ConfigDict, stages: Sequence[Stage], workdir: Path, watch: Watch) -> dict[str, Any]:
    use_compile_cache(config)
    mesh = make_mesh(mesh_shape(config, jax.device_count()))

    # ----------------------------------------------------------------------------------------------- the data, checked
    watch.part("data", "reading data")
    loaded = [load_training(stage.config) for stage in stages]
    prompt_items = [load_prompts(stage.config) for stage in stages]
    on_main(functools.partial(check_data, workdir, loaded, prompt_items))
    for stage in stages:
        check_translators(stage.config)
    evaluation, validation = load_evaluation(config), load_validation(config)
    items = training_items(stages, loaded), validation.items, evaluation.items
    tell_run(watch, config, mesh, items, method_of(stages))
    beside = [(own, own.languages) for own in prompt_items if own is not None]
    tell_shared([*loaded, *beside], evaluation.items)

    # ---------------------------------------------------------------------------------- the base model, also reference
    # Parameters come from: the newest checkpoint of this workdir (in `fit`), else model.path, else the embedded
    # base model, pretrained here once and cached. With adapters, policy and reference share the base's arrays.
    watch.part("model", "loading the model")
    model = base_model(config, mesh, workdir)
    policy = policy_model(config, model)
    trained_names(policy.config, config.optimizer.freeze)  # looks at the expression before anything is scored
    for stage in stages:
        check_layer(stage.config, model.config.layers)
    scorer = Scorer(model.config, mesh)
    tell_model(watch, config, policy)
    policy_scorer = scorer if policy is model else Scorer(policy.config, mesh)

    # ------------------------------------------------------------------------------------------- everything as trees
    watch.part("trees", "building trees")
    evaluation = evaluation.prepared(model)
    prompts = [
        prompt_set(stage.config, items, model) for stage, items in zip(stages, prompt_items, strict=True)
    ]
    splits = training_splits(stages, loaded, prompts, model)
    validation = validation.prepared(model)
    read = [(stage.config.data.train.split, items) for stage, (items, _) in zip(stages, loaded, strict=True)]
    read += [
        (one.config.auxiliary.mlc.split, own) for one, own in zip(stages, prompt_items, strict=True) if own
    ]
    read += [(split.name, split.items) for split in splits if split]
    on_main(functools.partial(write_skipped, workdir, [*read, *validation.read, *evaluation.read]))
    validate_policy = functools.partial(validation.headlines, policy_scorer) if validation.splits else None

    # --------------------------------------------------------------------------------------- what the base model says
    watch.part("base model measured", "measuring the base model")
    reference = Reference(scorer, model, folder=None)
    on_main(functools.partial(keep_base_key, workdir, reference.key, model.tokenizer))
    base = evaluation.measure("base", model, scorer, workdir, reference.key)

    # ------------------------------------------------------------------------------------- the stages, one or several
    # Each starts from what the last one ends with, and that is its reference: scored before the stage's first step,
    # and kept, so that a resumed run has the same. The base model's tables are shared by runs.
    del model  # from here on only what a stage needs stays in memory
    for stage, (items, languages), split, beside in zip(stages, loaded, splits, prompts, strict=True):
        watch.part("reference scored", f"{stage.name}: what it starts from")
        if split is None:  # preference pairs, made by the model that the stage starts from
            items = selected_items(stage.config, reference.model, items, languages, workdir / stage.pairs)
            split = training_split(stage.config, items, languages, policy)
        data = training_data(stage.config, split, reference, beside)
        batches = make_batches(stage.config, data, split, policy, reference)
        objective, _ = make_objective(stage.config.objective, languages)
        watch.part("compiling", f"{stage.name}: training; the first step is compiled")
        policy = fit(stage, policy, objective, batches, workdir, validate=validate_policy, watch=watch)
        reference = Reference(policy_scorer, policy, folder=workdir / "reference")

    # ------------------------------------------------------------------------------- how it answers now, and the report
    watch.close()
    watch.part("", "measuring the trained model")
    final = evaluation.measure("final", policy, policy_scorer, workdir)
    watch.part("", "writing the report")
    return evaluation.report(workdir, base, final, (stage.name, stage.config.total_steps))


def main(argv: Sequence[str]) -> None:
    del argv
    run_command(train, _CONFIG.value, _WORKDIR.value, _PROFILE.value)


if __name__ == "__main__":
    _CONFIG = config_flag()
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; the same one resumes it.")
    _PROFILE = flags.DEFINE_string(
        "profile", "", "FIRST:LAST: optimizer steps of each stage to trace, into profile/ of the workdir."
    )
    flags.mark_flags_as_required(["config", "workdir"])
    run_app(main, joint=True, keys=help_text, words=as_flags)
