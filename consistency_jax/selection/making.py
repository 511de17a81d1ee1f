"""Makes preference pairs from a training split, as `config.selection` says, with the model they are made for."""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from consistency_jax.config.parsing import named_function
from consistency_jax.data.facts import items_digest
from consistency_jax.data.items import Items
from consistency_jax.data.preferences import Pairs, pair_items, pairs_text, read_pairs
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.free_text import cached_answers, reading
from consistency_jax.evaluation.measuring import score_splits
from consistency_jax.evaluation.splits import askable, split_of
from consistency_jax.generation import Generator, Sampling
from consistency_jax.generation.endpoint import Endpoint
from consistency_jax.generation.translators import by_model
from consistency_jax.models.huggingface import Model
from consistency_jax.runtime.files import read_json, write_text
from consistency_jax.runtime.mesh import mesh_of
from consistency_jax.runtime.processes import on_main
from consistency_jax.scoring.scorer import Scorer
from consistency_jax.scoring.stored import fingerprint
from consistency_jax.selection import SELECTIONS
from consistency_jax.selection.encoders import encoder_of
from consistency_jax.selection.needs import Given, Request, Tools, Translate
from consistency_jax.selection.summary import Summary, summary_text


def selected_items(
    config: ConfigDict, model: Model, items: Items, languages: Sequence[str], out: Path
) -> Items:
    """What a stage that selects trains on: the pairs that its starting model makes of these items, kept in `out`.

    Raises:
      ConfigError: where no pair is left.
    """
    pairs = selected_pairs(config, model, items, languages, out)
    return pair_items(pairs, str(out), together=config.batching.name == "grouped")


def scorable(config: ConfigDict, model: Model, items: Items, languages: Sequence[str]) -> Items:
    """The items that the model can be asked about: with data.on_error=skip without the others, which are told as
    skipped."""
    split, boundary = config.data.train.split, config.evaluation.boundary
    if config.data.on_error != "skip":
        return items
    if SELECTIONS[config.selection.name].candidates:
        return split_of(config, split, items, model, boundary, languages).items
    return askable(config, split, items, model, languages) if config.selection.engine == "sampler" else items


def beside(out: Path) -> tuple[Path, Path]:
    """The summary and the answers that are kept beside a file of pairs."""
    stem = out.name.removesuffix(
        ".jsonl"
    )  # another ending stays, so that pairs.v1 and pairs.v2 share no file
    return out.with_name(f"{stem}.summary.json"), out.with_name(f"{stem}.answers.jsonl")


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
    summary_path, _ = beside(out)
    summary = on_main(lambda: _summary_of(out, summary_path, key))
    if summary is not None:
        print(f"{out} was made already with these settings")
    else:
        name, counts = config.selection.name, Summary(config.selection.name, languages)
        items = scorable(config, model, items, languages)
        tools = _tools(config, model, items, languages, out, params_key)
        given = Given(config.selection, items, languages, tools, counts, config.seed)
        pairs, summary = SELECTIONS[name].make(given), counts.to_json()
        if not pairs:
            raise ConfigError(f"selection.name={name!r} keeps no pair\n{summary_text(summary)}")
        lines = pairs_text(pairs)
        settings = {"key": key, "digest": _digest(lines), "settings": config.selection.to_dict()}
        text = json.dumps(summary | settings, ensure_ascii=False, indent=2, default=list) + "\n"
        # The summary first: where only it is there, the pairs are made again.
        on_main(lambda: write_text(summary_path, text))
        on_main(lambda: write_text(out, lines))
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
        table = score_splits(
            config, Scorer(model.config, mesh), model.params, [split], "selection", params_key
        )
        return table[split.name].scores(config.evaluation.normalization)

    @functools.cache
    def generator() -> Generator:
        options, data, path = config.selection, config.data, beside(out)[1]
        if options.engine == "sampler":
            return cached_answers(config, model, path, options.batch, [params_key])
        server = options.engine, options.engine_model
        engine = Endpoint(
            *server,
            chat=data.chat_template != "off",
            system_prompt=data.system_prompt,
            skip_refused=data.on_error == "skip",
        )
        return cached_answers(config, model, path, options.batch, server, lambda: engine)

    def encoder() -> Any:
        name, size = config.selection.encoder, config.data.max_length
        return encoder_of(name, model, max_length=size, tokens=config.evaluation.tokens)

    return Tools(scores, generator, encoder, lambda: translator(config.selection, generator))


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
    found = named_function("selection.translator", name)
    return lambda requests: on_main(lambda: [found(*request) for request in requests])


def _by_model(generator: Generator, max_tokens: int, requests: Sequence[Request]) -> list[str | None]:
    """Translations by the engine itself, whole answers with all their lines.

    Those from one language to another are asked at once. They end where the model goes on to another example.

    Args:
      max_tokens: of a translation; it may need more than the answer did, and ends with the line that counts.
    """
    texts: dict[Request, str | None] = {}
    for source, target in dict.fromkeys((request.source, request.target) for request in requests):
        own = [request for request in requests if (request.source, request.target) == (source, target)]
        sampling = Sampling(max_tokens=max_tokens, temperature=0, stop=(f"\n{source}:", f"\n{target}:"))
        found = by_model(generator, [request.text for request in own], source, target, sampling=sampling)
        texts |= {request: next(iter(ways), None) for request, ways in zip(own, found, strict=True)}
    return [texts[request] for request in requests]


def _key(config: ConfigDict, model: Model, items: Items, languages: Sequence[str], params_key: str) -> str:
    """A key of all that pairs depend on."""
    settings = [
        config.selection.to_dict(),
        config.seed,
        params_key,
        config.evaluation.boundary,
        config.evaluation.normalization,
        *reading(config, model),
    ]
    text = json.dumps(settings, sort_keys=True, default=list) + items_digest([(items, languages)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _summary_of(out: Path, path: Path, key: str) -> dict[str, Any] | None:
    """The summary of the pairs that were made with this key and are as they were written; else None.

    Raises:
      ConfigError: a file that is there, and was not made here.
    """
    try:
        summary = read_json(path)
        made = summary["key"]
    except (OSError, ValueError, KeyError, TypeError):
        if out.exists():
            raise ConfigError(
                f"{out} is there, and {path.name} beside it does not say what it is: take another file, or delete it"
            ) from None
        if path.exists():
            raise ConfigError(
                f"{path} is there, and is no summary of pairs: move it, or name another output"
            ) from None
        return None
    whole = made == key and out.exists() and _digest(out.read_text(encoding="utf8")) == summary.get("digest")
    return summary if whole else None
