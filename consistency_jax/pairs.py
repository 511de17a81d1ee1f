"""Make preference pairs: python -m consistency_jax.pairs --config=... --out=pairs.jsonl --config.selection.name=calm

Makes them from the config's training split and languages as `config.selection` says, with the config's base model, or
with the newest checkpoint of --workdir. Beside the pairs stands pairs.summary.json: how many prompts were kept in each
language, and why the others were not. Sampled answers are kept too (pairs.answers.jsonl): the same command goes on
where it was stopped. Train on the file with --config.data.train.pairs=pairs.jsonl.
"""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.config.checks import validate
from consistency_jax.config.command_line import as_flags
from consistency_jax.config.defaults import help_text
from consistency_jax.data.preferences import Pairs
from consistency_jax.errors import ConfigError
from consistency_jax.runtime.cache import cache_folder
from consistency_jax.runtime.cli import config_flag, run_app, run_command, use_compile_cache
from consistency_jax.runtime.files import local, location, refuse_input
from consistency_jax.runtime.mesh import make_mesh, mesh_shape
from consistency_jax.runtime.processes import on_main
from consistency_jax.runtime.watch import Watch
from consistency_jax.selection import SELECTIONS
from consistency_jax.selection.making import beside, selected_pairs
from consistency_jax.training.announce import tell_model, tell_run
from consistency_jax.training.run_models import base_model, checkpoint_model, latest_step
from consistency_jax.training.stages import load_training
from consistency_jax.training.workdir import inputs_of, read_config


def write_selection(config: ConfigDict, out: str | Path, workdir: str | Path | None = None) -> Pairs:
    """Makes the pairs of a config and writes them; what is there already for the same settings is left as it is.

    Args:
      out: the file to write.
      workdir: of a training run, whose newest checkpoint then ranks and answers instead of the base model.

    Raises:
      ConfigError: settings or items that no pairs can be made from, or a workdir without a checkpoint.
    """
    validate(config, jax.device_count())
    if not config.selection.name:
        raise ConfigError(f"selection.name='' makes no pairs; choose from {', '.join(SELECTIONS)}")
    out = local(out, "--out")
    config = config.copy_and_resolve_references()
    config.data.train.pairs = ""  # what pairs are made from is the split
    if out.suffix == ".gz":
        raise ConfigError(f"--out={out} is written as plain text: name it .jsonl")
    inputs = inputs_of(config)
    for place in (out, *beside(out)):
        refuse_input(place, "--out", *inputs)
    step = None
    if workdir is not None:
        workdir = location(workdir)
        if (step := latest_step(workdir)) is None:
            raise ConfigError(f"{workdir} has no checkpoint: leave --workdir out, or train first")
        trained = on_main(lambda: read_config(workdir))
        # It may lie elsewhere by now; whether it is the one that the run started from is known by its parameters.
        trained.model.path = config.model.path or trained.model.path
    log_folder = workdir or cache_folder() / "logs"
    for folder in (out.parent, log_folder):
        on_main(functools.partial(folder.mkdir, parents=True, exist_ok=True))
    if not on_main(lambda: os.access(out.parent, os.W_OK)):
        raise ConfigError(f"--out={out}: nothing may be written into its folder")
    use_compile_cache(config)
    watch, mesh = Watch(), make_mesh(mesh_shape(config, jax.device_count()))
    watch.part("data", "reading data")
    items, languages = load_training(config)
    by = "the base model" if step is None else f"the checkpoint of step {step}"
    method = f"pairs by {config.selection.name}, of {by}"
    tell_run(watch, config, mesh, [{config.data.train.split: items}], method)
    watch.part("model", "loading the model")
    if step is None:
        model = base_model(config, mesh, log_folder)
    else:  # adapters, what is trained and how it computes are the run's
        model = checkpoint_model(trained, workdir, step, base_model(trained, mesh, log_folder))
    tell_model(watch, config, model)
    watch.part("", f"choosing answers by {config.selection.name}")
    watch.reached("selection")
    pairs = selected_pairs(config, model, items, languages, out)
    print(f"pairs: {out}")
    return pairs


def main(argv: Sequence[str]) -> None:
    del argv
    run_command(write_selection, _CONFIG.value, _OUT.value, _WORKDIR.value)


if __name__ == "__main__":
    _CONFIG = config_flag()
    _OUT = flags.DEFINE_string("out", None, "File of the pairs, JSONL.")
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run whose newest checkpoint is to be used.")
    flags.mark_flags_as_required(["config", "out"])
    run_app(main, joint=True, keys=help_text, words=as_flags)
