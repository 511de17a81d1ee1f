"""Measure a model on the config's test splits: python -m consistency_jax.evaluate --config=... --workdir=...

Scores every candidate of every item in every language with the base model and with a checkpoint of the workdir
(`--checkpoint=latest`, a step, or base for the base model alone), and writes tables/, report.json and report.html. A
model alone, without any training: --config=configs/audit.py:path=FOLDER,data=bmlama17,data_path=FOLDER. Killed while it
measures the base model, the same command goes on from what it scored. `--show=1` first prints the first question in
each language as the model's tokens: what stands in front, how its chat reads, where the answer begins.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.config.checks import validate
from consistency_jax.config.command_line import as_flags
from consistency_jax.config.defaults import help_text
from consistency_jax.config.stages import stages_of
from consistency_jax.errors import ConfigError, UserError
from consistency_jax.evaluation import load_evaluation
from consistency_jax.evaluation.splits import token_lines, write_skipped
from consistency_jax.runtime.cli import config_flag, run_app, run_command, use_compile_cache
from consistency_jax.runtime.files import location
from consistency_jax.runtime.mesh import make_mesh, mesh_shape
from consistency_jax.runtime.processes import on_main
from consistency_jax.runtime.watch import Watch, profiled_steps
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.scoring.stored import fingerprint
from consistency_jax.training.announce import tell_model, tell_run
from consistency_jax.training.run_models import base_model, checkpoint_model, latest_stage, latest_step
from consistency_jax.training.stages import load_prompts, load_training
from consistency_jax.training.workdir import check_data, open_workdir, read_config


def evaluate_workdir(
    config: ConfigDict | None,
    workdir: str | Path,
    checkpoint: str = "latest",
    profile: str = "",
    show: int = 0,
) -> dict[str, Any]:
    """Measures the base model and a checkpoint of a workdir on the config's test splits, and writes the report.

    Args:
      config: None for the one that the workdir was made with; code that it names is then not run, nor are compiled
        programs read from where it says.
      checkpoint: "base", "latest" (the base model where there is no checkpoint), or a step.
      profile: "FIRST:LAST", scoring batches to trace, counted over all that is scored; empty: none.
      show: questions of each split that are printed as tokens.

    Raises:
      ConfigError: a checkpoint that is none of these, or a stored config that names code.
      CheckpointError: a step that is not there.
    """
    if checkpoint not in ("base", "latest") and not (checkpoint.isascii() and checkpoint.isdigit()):
        raise ConfigError(f"--checkpoint={checkpoint} should be base, latest or the step of a checkpoint")
    if config is None:
        config = on_main(lambda: read_config(location(workdir), model=True))
        if ":" in (judge := config.evaluation.safety.judge):
            raise ConfigError(
                f"{workdir} names code to run, evaluation.safety.judge={judge!r}, and a folder may come from anyone: "
                "give the run's --config, which says so too"
            )
    else:
        use_compile_cache(config)
    validate(config, jax.device_count())
    watch = Watch(profiled_steps(profile, location(workdir)), location(workdir) / "profile", unit="batch")
    with open_workdir(workdir, config) as workdir:  # held for this command alone
        return _evaluate(config, workdir, checkpoint, watch, show)


def _evaluate(config: ConfigDict, workdir: Path, checkpoint: str, watch: Watch, show: int) -> dict[str, Any]:
    mesh = make_mesh(mesh_shape(config, jax.device_count()))
    watch.part("data", "reading data")
    evaluation = load_evaluation(config)
    step = latest_step(workdir) if checkpoint == "latest" else None
    if checkpoint.isdigit():
        step = int(checkpoint)
    if step is not None:
        _check_held_out(config, workdir)
    sides = "the base model" + (" alone" if step is None else f", and the checkpoint of step {step}")
    method = f"{config.evaluation.normalization} scores of {sides}"
    tell_run(watch, config, mesh, [evaluation.items], method)
    watch.part("model", "loading the model")
    model = base_model(config, mesh, workdir)
    tell_model(watch, config, model)
    watch.part("trees", "building trees")
    evaluation, scorer = evaluation.prepared(model), Scorer(model.config, mesh, watch)
    for split in evaluation.splits:
        for line in token_lines(split, model.tokenizer, show):
            print(line)
    if latest_step(workdir) is None:  # else the run has said what it left out
        on_main(functools.partial(write_skipped, workdir, evaluation.read))
    watch.part("compiling", "measuring " + ("the model" if step is None else "the base model"))
    base = evaluation.measure("base", model, scorer, workdir, fingerprint(model.params))
    final = measured = None
    if step is not None:
        measured = latest_stage(config, workdir).name, step
        watch.part("compiling", f"measuring the checkpoint of step {step}")
        trained = checkpoint_model(config, workdir, step, model)
        if trained.config != model.config:
            scorer = Scorer(trained.config, mesh, watch)
        final = evaluation.measure("final", trained, scorer, workdir)
    watch.close()
    watch.part("", "writing the report")
    return evaluation.report(workdir, base, final, measured)


def _check_held_out(config: ConfigDict, workdir: Path) -> None:
    """Test items are held out where the splits are those of training. (Pairs have no split.)"""
    parts = [stage.config for stage in stages_of(config)]
    if any(part.data.train.pairs for part in parts):
        return
    try:
        loaded, prompts = [load_training(part) for part in parts], [load_prompts(part) for part in parts]
    except UserError as error:
        print(
            f"note: what the run trained on cannot be read, so nothing here can tell if it changed: {error}"
        )
    else:
        mend = "or evaluate the exported model: configs/audit.py"
        on_main(lambda: check_data(workdir, loaded, prompts, mend))


def main(argv: Sequence[str]) -> None:
    del argv
    flags_given = (_CONFIG, _WORKDIR, _CHECKPOINT, _PROFILE, _SHOW)
    run_command(evaluate_workdir, *(flag.value for flag in flags_given))


if __name__ == "__main__":
    _CONFIG = config_flag()
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run (made if it is not there).")
    _CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "base, latest, or the step of a checkpoint.")
    _PROFILE = flags.DEFINE_string(
        "profile", "", "FIRST:LAST: scoring batches to trace, into profile/ of the workdir."
    )
    _SHOW = flags.DEFINE_integer(
        "show", 0, "So many questions of each split are printed as tokens.", lower_bound=0
    )
    flags.mark_flags_as_required(["workdir"])
    run_app(main, joint=True, keys=help_text, words=as_flags)
