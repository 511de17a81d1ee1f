"""Measure a model on the config's test splits: python -m consistency_jax.evaluate --config=... --workdir=...

Scores every candidate of every item in every language with the base model and with a checkpoint of the workdir
(`--checkpoint=latest`, a step, or base for the base model alone), and writes tables/, report.json and report.html. A
model alone, without any training: --config=configs/audit.py:path=FOLDER,data=bmlama17,data_path=FOLDER. Killed while it
measures the base model, the same command goes on from what it scored.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.config.checks import validate
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.free_text import asked_of, load_safety, write_answers
from consistency_jax.evaluation.measuring import measure
from consistency_jax.evaluation.reports import write_report
from consistency_jax.evaluation.splits import chat_of, load_tests, split_of
from consistency_jax.runtime.cli import config_flag, run_app, run_command, use_compile_cache
from consistency_jax.runtime.files import location
from consistency_jax.runtime.mesh import make_mesh, mesh_shape
from consistency_jax.runtime.processes import on_main
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.scoring.stored import fingerprint
from consistency_jax.table import write_tables
from consistency_jax.training.run_models import base_model, checkpoint_model, latest_step
from consistency_jax.training.workdir import log_of, open_workdir, read_config


def evaluate_workdir(
    config: ConfigDict | None, workdir: str | Path, checkpoint: str = "latest"
) -> dict[str, Any]:
    """Measures the base model and a checkpoint of a workdir on the config's test splits, and writes the report.

    Args:
      config: None for the one that the workdir was made with.
      checkpoint: "base", "latest" (the base model where there is no checkpoint), or a step.

    Raises:
      ConfigError: a checkpoint that is none of these.
      CheckpointError: a step that is not there.
    """
    if checkpoint not in ("base", "latest") and not checkpoint.isdigit():
        raise ConfigError(f"--checkpoint={checkpoint} should be base, latest or the step of a checkpoint")
    config = config or on_main(lambda: read_config(location(workdir)))
    validate(config, jax.device_count())
    workdir = open_workdir(workdir, config)
    use_compile_cache(config)
    mesh = make_mesh(mesh_shape(config, jax.device_count()))
    test_items = load_tests(config)
    asked = asked_of(config, test_items, load_safety(config))
    model = base_model(config, mesh, log_of(config, workdir, "pretrain"))
    step = (
        latest_step(workdir) if checkpoint == "latest" else None if checkpoint == "base" else int(checkpoint)
    )
    if checkpoint == "latest" and step is None:
        print(f"{workdir} has no checkpoint: measuring the base model alone")
    scorer = Scorer(model.config, mesh)
    boundary = config.evaluation.boundary
    tests = [split_of(config, name, items, model, boundary) for name, items in test_items.items()]
    base = measure(config, scorer, model.params, tests, "base", fingerprint(model.params))
    on_main(lambda: write_tables(workdir / "tables" / "base.npz", base))
    said = [write_answers(config, model, chat_of(config, model), asked, workdir)]
    if step is None:
        return on_main(lambda: write_report(config, workdir, tests, base, None, asked, said))
    trained = checkpoint_model(config, workdir, step, model)
    scorer = scorer if trained.config == model.config else Scorer(trained.config, mesh)
    final = measure(config, scorer, trained.params, tests, "final")
    on_main(lambda: write_tables(workdir / "tables" / "final.npz", final))
    said.append(write_answers(config, trained, chat_of(config, trained), asked, workdir))
    return on_main(lambda: write_report(config, workdir, tests, base, final, asked, said))


def main(argv: Sequence[str]) -> None:
    del argv
    run_command(evaluate_workdir, _CONFIG.value, _WORKDIR.value, _CHECKPOINT.value)


if __name__ == "__main__":
    _CONFIG = config_flag()
    flags.declare_key_flag("config")
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run (made if it is not there).")
    _CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "base, latest, or the step of a checkpoint.")
    flags.mark_flags_as_required(["workdir"])
    run_app(main, joint=True)
