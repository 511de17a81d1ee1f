"""Make preference pairs: python -m consistency_jax.pairs --config=... --out=pairs.jsonl --config.selection.name=calm

Makes them from the config's training split and languages as `config.selection` says, with the config's base model, or
with the newest checkpoint of --workdir. Beside the pairs stands pairs.summary.json: how many prompts were kept in each
language, and why the others were not. Sampled answers are kept too (pairs.answers.jsonl): the same command goes on
where it was stopped. Train on the file with --config.data.train.pairs=pairs.jsonl.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from consistency_jax.cache import cache_folder
from consistency_jax.commands import (
    checkpoint_model,
    config_flag,
    latest_step,
    log_of,
    run_app,
    run_command,
    use_compile_cache,
)
from consistency_jax.config import ConfigError, mesh_shape, validate
from consistency_jax.data.items import Items, ParallelItem
from consistency_jax.data.pairs import Pairs, pair_items, read_pairs, write_pairs
from consistency_jax.distributed import on_main
from consistency_jax.evaluate import chat_of, measure, split_of
from consistency_jax.files import location, write_text
from consistency_jax.generation import Generator, Sampling
from consistency_jax.models.huggingface import Model
from consistency_jax.scoring import Scorer, fingerprint
from consistency_jax.selection import Tools, make_pairs, summary_text
from consistency_jax.selection.calm import Request, Translate
from consistency_jax.selection.encoders import encoder_of
from consistency_jax.selection.kept_answers import KeptAnswers
from consistency_jax.sharding import make_mesh, mesh_of
from consistency_jax.stages import load_training
from consistency_jax.training.pretrain import base_model
from consistency_jax.written import reading


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
        raise ConfigError("selection.name='' makes no pairs; choose gold, random, calm or cm_align")
    config = config.copy_and_resolve_references()
    config.data.train.pairs = ""  # what pairs are made from is the split
    out = Path(out).expanduser().absolute()
    step = None
    if workdir is not None:
        workdir = location(workdir)
        if (step := latest_step(workdir)) is None:
            raise ConfigError(f"{workdir} has no checkpoint: leave --workdir out, or train first")
    log_folder = workdir or cache_folder() / "logs"
    for folder in (out.parent, log_folder):
        on_main(functools.partial(folder.mkdir, parents=True, exist_ok=True))
    use_compile_cache(config)
    items, languages = load_training(config)
    mesh = make_mesh(mesh_shape(config, jax.device_count()))
    model = base_model(config, mesh, log_of(config, log_folder, "pretrain"))
    if step is not None:
        model = checkpoint_model(config, workdir, step, model)
    pairs = selected_pairs(config, model, items, languages, out)
    print(f"pairs: {out}")
    return pairs


def selected_items(
    config: ConfigDict, model: Model, items: Items, languages: Sequence[str], out: Path
) -> Items:
    """What a stage that selects trains on: the pairs that its starting model makes of these items, kept in `out`.

    Raises:
      ConfigError: where no pair is left.
    """
    pairs = selected_pairs(config, model, items, languages, out)
    return pair_items(pairs, str(out), together=config.batching.name == "grouped")


def selected_pairs(
    config: ConfigDict, model: Model, items: Items, languages: Sequence[str], out: Path
) -> Pairs:
    """The pairs that a model makes of these items as `config.selection` says: read from `out` where they were made with
    the same settings, items and parameters, else made now and written there, the summary beside them.

    Raises:
      ConfigError: where no pair is left.
    """
    params_key = fingerprint(model.params)
    key = _key(config, model, items, languages, params_key)
    summary_path = out.with_suffix(".summary.json")
    if on_main(lambda: out.exists() and _kept_key(summary_path) == key):
        summary = on_main(lambda: json.loads(summary_path.read_text(encoding="utf8")))
        print(f"{out} was made already with these settings")
    else:
        tools = _tools(config, model, items, languages, out, params_key)
        pairs, summary = make_pairs(config.selection, items, languages, tools, config.seed)
        if not pairs:
            raise ConfigError(
                f"selection.name={config.selection.name!r} keeps no pair\n{summary_text(summary)}"
            )
        settings = {"key": key, "settings": config.selection.to_dict()}
        text = json.dumps(summary | settings, ensure_ascii=False, indent=2, default=list) + "\n"
        on_main(lambda: write_pairs(out, pairs))
        on_main(lambda: write_text(summary_path, text))
    print(summary_text(summary))
    return on_main(lambda: read_pairs(out))


def _tools(
    config: ConfigDict, model: Model, items: Items, languages: Sequence[str], out: Path, params_key: str
) -> Tools:
    """What selections may ask of a model, and of the engines that `config.selection` names."""
    mesh = mesh_of(model.params)

    def scores() -> np.ndarray:
        name, boundary = config.data.train.split, config.evaluation.boundary
        split = split_of(config, name, items, model, boundary, languages)
        table = measure(config, Scorer(model.config, mesh), model.params, [split], "selection", params_key)
        return table[split.name].scores(config.evaluation.normalization)

    @functools.cache
    def generator() -> Generator:
        options = config.selection
        engine = [options.engine, options.engine_model] if options.engine != "sampler" else [params_key]
        settings = json.dumps([*engine, *reading(config, model)])
        path = out.with_suffix(".answers.jsonl")
        return KeptAnswers(lambda: _engine(config, model), path, settings, options.batch)

    def encoder() -> Any:
        name, size = config.selection.encoder, config.data.max_length
        return encoder_of(name, model, max_length=size, tokens=config.evaluation.tokens)

    return Tools(scores, generator, encoder, lambda: translator(config.selection, generator))


def _engine(config: ConfigDict, model: Model) -> Generator:
    """What `selection.engine` names. Engines are imported here: selections from tables need none."""
    options = config.selection
    if options.engine != "sampler":
        from consistency_jax.generation.endpoint import Endpoint

        chat, system_prompt = config.data.chat_template != "off", config.data.system_prompt
        return Endpoint(options.engine, options.engine_model, chat=chat, system_prompt=system_prompt)
    from consistency_jax.generation.sampler import Sampler

    return Sampler(model, chat=chat_of(config, model), max_length=config.data.max_length)


def translator(options: Any, generator: Callable[[], Generator]) -> Translate:
    """What `selection.translator` names.

    Args:
      options: `config.selection`.
      generator: makes the engine that translates where it names the model.

    Raises:
      ConfigError: where it cannot be imported.
    """
    name = options.translator
    if not name:
        return lambda requests: [None] * len(requests)
    if name == "model":
        return functools.partial(_by_model, generator(), 2 * options.max_tokens)
    from consistency_jax.generation.translators import named_function

    found = named_function("selection.translator", name)
    return lambda requests: on_main(lambda: [found(*request) for request in requests])


def _by_model(generator: Generator, max_tokens: int, requests: Sequence[Request]) -> list[str | None]:
    """Translations by the engine itself, whole answers with all their lines.

    Those from one language to another are asked at once. They end where the model goes on to another example.

    Args:
      max_tokens: of a translation; it may need more than the answer did, and ends with the line that counts.
    """
    from consistency_jax.generation.translators import ModelTranslator

    nothing = ParallelItem("", "", {}, {})
    texts: dict[Request, str | None] = {}
    for source, target in dict.fromkeys((request.source, request.target) for request in requests):
        own = [request for request in requests if (request.source, request.target) == (source, target)]
        sampling = Sampling(max_tokens=max_tokens, temperature=0, stop=(f"\n{source}:", f"\n{target}:"))
        model = ModelTranslator(generator, sampling=sampling)
        (found,) = model.translate([nothing], [[request.text for request in own]], source, target)
        texts |= {request: ways[0].text if ways else None for request, ways in zip(own, found, strict=True)}
    return [texts[request] for request in requests]


def _key(config: ConfigDict, model: Model, items: Items, languages: Sequence[str], params_key: str) -> str:
    """A key of all that pairs depend on."""
    settings = [
        config.selection.to_dict(),
        config.seed,
        params_key,
        languages,
        config.evaluation.boundary,
        config.evaluation.normalization,
        *reading(config, model),
    ]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode())
    for item in items:
        digest.update(json.dumps(dataclasses.asdict(item), sort_keys=True).encode())
    return digest.hexdigest()[:32]


def _kept_key(path: Path) -> str:
    """The key of the pairs that a summary tells of; empty where there is none, or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def main(argv: Sequence[str]) -> None:
    del argv
    run_command(write_selection, _CONFIG.value, _OUT.value, _WORKDIR.value)


if __name__ == "__main__":
    _CONFIG = config_flag()
    flags.declare_key_flag("config")
    _OUT = flags.DEFINE_string("out", None, "File of the pairs, JSONL.")
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run whose newest checkpoint is to be used.")
    flags.mark_flags_as_required(["config", "out"])
    run_app(main, joint=True)
