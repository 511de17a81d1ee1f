"""Take the model home: python -m consistency_jax.export --workdir=runs/tiny --out=folder

Writes the newest checkpoint of a workdir (or --step) as a Hugging Face folder that transformers and vLLM load:
safetensors, the source's config.json, its tokenizer and generation files. Adapters (lora.rank > 0) are merged into the
source's weights, as they were before lora.base quantised them; with --adapter they are written alone, as a PEFT folder
that belongs beside the base model. --push=OWNER/NAME also puts it on the Hugging Face Hub, in a private repository
unless --public; the token is HF_TOKEN, or that of `hf auth login`.
"""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.config.stages import stages_of
from consistency_jax.errors import ConfigError
from consistency_jax.models import hub
from consistency_jax.models.adapters import merge_adapters, save_adapter
from consistency_jax.models.gguf import is_gguf
from consistency_jax.models.huggingface import WEIGHTS, save_pretrained
from consistency_jax.report.card import CARD, model_card
from consistency_jax.runtime.cache import cache_folder
from consistency_jax.runtime.cli import run_app, run_command
from consistency_jax.runtime.files import HUB_ID, expanded, local, location, refuse_input, write_text
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.runtime.processes import on_main
from consistency_jax.training.run_models import base_model, checkpoint_model, latest_stage, latest_step
from consistency_jax.training.workdir import (
    damaged_report,
    holds_run,
    inputs_of,
    read_command,
    read_config,
    read_report,
)


def export(
    workdir: str | Path,
    out: str | Path,
    step: int | None = None,
    adapter: bool = False,
    push: str = "",
    public: bool = False,
) -> Path:
    """Writes a checkpoint of a workdir (the newest one for None) as a Hugging Face folder.

    Args:
      adapter: write the adapters alone, as a PEFT folder, instead of merging them.
      push: OWNER/NAME, a repository of the Hub that it goes to as well; "": none.
      public: whether that is made public, where it is new.

    Raises:
      ConfigError: a folder that is no workdir, one that has no checkpoint yet, or `adapter` where it has no adapters;
        or a repository that it cannot be pushed to.
      CheckpointError: a checkpoint that is not there or cannot be read.
    """
    workdir, out = location(workdir), local(out, "--out")
    config = on_main(lambda: read_config(workdir))
    kept = {
        "checkpoints": workdir / "checkpoints",
        "model.path": config.model.path,
        "the cache": cache_folder(),
    }
    refuse_input(out, "--out", inputs_of(config)[0], kept)
    if on_main(lambda: holds_run(out)):
        raise ConfigError(f"--out={out} is the workdir of a run; choose another folder")
    if on_main(lambda: _foreign(out)):
        raise ConfigError(
            f"--out={out} holds files that no export wrote: choose another folder, or an empty one"
        )
    if adapter and not config.lora.rank:
        raise ConfigError(f"{workdir} was trained without adapters (lora.rank=0): leave --adapter out")
    if push:
        on_main(lambda: hub.check_repository(push, adapter, ours=lambda card: CARD in card))
    elif public:
        raise ConfigError("--public is of --push=OWNER/NAME: give that, too")
    summary = on_main(lambda: read_report(workdir))
    step = latest_step(workdir) if step is None else step
    if step is None:
        raise ConfigError(f"{workdir} has no checkpoint yet: train first")
    other = "config.json" if adapter else "adapter_config.json"
    if on_main((out / other).exists):
        kind = "a whole model" if adapter else "adapters"
        raise ConfigError(f"--out={out} holds {kind} already ({other}); choose another folder")
    source = _public(config.model.path) or "embedded base model"
    stages, last = stages_of(config), latest_stage(config, workdir)
    before = stages[: [stage.name for stage in stages].index(last.name)]
    training = [*((stage.name, stage.config.total_steps) for stage in before), (last.name, step)]
    licence, command = on_main(lambda: (hub.licence_of(config.model.path), read_command(workdir)))
    try:
        languages = list(config.data.languages)
        if summary and not languages:
            languages = list(next(iter(summary["settings"]["splits"].values()))["languages"])
        trained = {
            name for stage in (*before, last) for name in stage.config.data.train.languages or languages
        }
        sources = [_data(stage.config) for stage in (*before, last)]
        measured = summary and summary["settings"].get("checkpoint")
        if measured not in (None, [last.name, step]):
            print(
                f"note: the card has no figures: the report is of step {measured[1]:,} of {measured[0]}; "
                f"first python -m consistency_jax.evaluate --workdir={workdir} --checkpoint={step}"
            )
            summary = None
        card = model_card(
            source,
            [name for name in languages if name in trained],
            training,
            summary,
            on_hub=bool(config.model.path) and not expanded(config.model.path).exists(),
            licence=licence,
            data=" and ".join(dict.fromkeys(sources)),
            command=command,
        )
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:  # of another shape
        raise damaged_report(workdir, error) from error
    on_main(functools.partial(_make, out))  # what cannot be is told before a model is read
    mesh = make_mesh((1, jax.device_count(), 1))  # the run's own mesh may be of another machine
    base = base_model(config, mesh, workdir, original=not adapter)
    model = checkpoint_model(config, workdir, step, base)
    # By which the folder is known as this command's, if it is killed.
    if not on_main((out / "README.md").exists):
        on_main(lambda: write_text(out / "README.md", card))
    if adapter:
        path = expanded(config.model.path or str(base.folder))
        # Where others read it, no path of this machine that was not given.
        here = path.exists() and not (push and config.model.path)
        save_adapter(model, out, base=str(path.absolute()) if here else config.model.path)
        if is_gguf(path):
            print(
                "note: peft reads no GGUF file: put the model that it was made from into adapter_config.json, "
                "as base_model_name_or_path"
            )
    else:
        save_pretrained(merge_adapters(model), out)
    on_main(lambda: write_text(out / "README.md", card))
    total = last.config.total_steps
    unfinished = "" if step >= total and last.name == stages[-1].name else ": training is not finished"
    what = f"step {step:,} of {total:,}" + (f" of stage {last.name}" if len(stages) > 1 else "")
    print(f"exported {what}{unfinished}, {model.config.param_dtype}, to {out}")
    if push:
        print(f"pushed to {on_main(lambda: hub.push(out, push, public))}")
    return out


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out={out} cannot be made: {error.strerror or error}; name another folder"
        ) from error


def _data(config: ConfigDict) -> str:
    """What a stage is trained on, by its name alone: a card may be read by anyone."""
    path = config.data.train.pairs or config.data.path
    return config.data.source + (f" ({_public(path)})" if path else "")


def _public(path: str) -> str:
    """What a card says of a path: a name of the Hub, or the last part of another."""
    on_hub = HUB_ID.fullmatch(path) and not expanded(path).exists()
    parts = [part for part in re.split(r"[/\\]", path) if part and part != "{language}"]
    return path if on_hub or not parts else parts[-1]


def _foreign(out: Path) -> bool:
    """Whether a folder holds a model, or a README, that this command did not write."""
    card = out / "README.md"
    if card.exists():
        return CARD not in card.read_text(encoding="utf8", errors="replace")
    names = {path.name for path in out.glob("*")}
    own = {"config.json", "tokenizer.json", "adapter_config.json", "adapter_model.safetensors"}
    return bool(names & own) or any(map(WEIGHTS.fullmatch, names))


def main(argv: Sequence[str]) -> None:
    del argv
    given = (_WORKDIR, _OUT, _STEP, _ADAPTER, _PUSH, _PUBLIC)
    run_command(export, *(flag.value for flag in given))


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a training run.")
    _OUT = flags.DEFINE_string("out", None, "Folder to write.")
    _STEP = flags.DEFINE_integer("step", None, "Step of the checkpoint; the newest by default.")
    _ADAPTER = flags.DEFINE_bool("adapter", False, "Write the adapters alone, as a PEFT folder.")
    _PUSH = flags.DEFINE_string(
        "push", "", "OWNER/NAME: a repository of the Hugging Face Hub to put it in, too."
    )
    _PUBLIC = flags.DEFINE_bool("public", False, "Make that repository public, where it is new.")
    flags.mark_flags_as_required(["workdir", "out"])
    run_app(main, joint=True)
