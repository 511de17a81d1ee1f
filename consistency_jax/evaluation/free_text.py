"""What a model writes: its own answers to test questions, and what it says to harmful and to harmless prompts.

`evaluation.generation` and `evaluation.safety` ask for it; both are off by default. Answers are kept in the workdir as
they are drawn (written/answers.jsonl), so that a run that was stopped goes on behind the last batch of prompts, and
written/texts.jsonl holds every one with what was made of it.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from consistency_jax.config.parsing import named_function
from consistency_jax.data.items import Items, answer_in_gap, open_prompt
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees.chat import ChatTemplate
from consistency_jax.data.trees.tokenization import tokenizer_key
from consistency_jax.evaluation.splits import (
    languages_of,
    tell_oddities,
)
from consistency_jax.generation import Sampling
from consistency_jax.generation.cached_answers import KeptAnswers
from consistency_jax.generation.sampler import Sampler
from consistency_jax.metrics import Matches, judged, match_answers, refusals
from consistency_jax.models.huggingface import Model
from consistency_jax.report.free_text import generation_figures, safety_figures
from consistency_jax.report.paired import Design
from consistency_jax.runtime.files import write_text
from consistency_jax.runtime.processes import on_main
from consistency_jax.scoring.stored import fingerprint

KINDS = ("harmful", "harmless")  # of the prompts of evaluation.safety
BATCH = 256  # prompts that are answered before their answers are kept

Texts = list[list[str | None]]


class Asked(NamedTuple):
    """Items that are answered in writing: of a test split, or of a kind of safety prompts."""

    name: str
    items: Items
    languages: tuple[str, ...]
    safety: bool = False


class Said(NamedTuple):
    """The answers of one model to what was asked, and what they are.

    texts: [N][L], None where a language lacks the item.
    matches: the candidates that they match; None for safety prompts.
    verdicts: f64[N, L], 1 where a response refuses, as the judge says; None for test questions.
    """

    texts: Texts
    matches: Matches | None = None
    verdicts: np.ndarray | None = None


def check_judge(config: ConfigDict) -> None:
    """Imports what `evaluation.safety.judge` names, where it is a function.

    Raises:
      ConfigError: naming the key.
    """
    _judge(config)


def write_answers(
    config: ConfigDict, model: Model, chat: ChatTemplate | None, asked: Sequence[Asked], workdir: Path
) -> list[Said]:
    """What a model answers to everything that is asked, in the order of `asked`.

    Args:
      chat: of the config; None: prompts are continued as plain text.
      workdir: of the run, where the answers are kept.

    Raises:
      GenerationError: a model without a tokenizer, or settings that cannot be drawn with.
      DataError: a prompt that cannot be read as text.
    """
    if not asked:
        return []
    settings = json.dumps([fingerprint(model.params), *reading(config, model)])
    folder = workdir / "written"
    on_main(lambda: folder.mkdir(exist_ok=True))
    engine = KeptAnswers(
        lambda: Sampler(model, chat=chat, max_length=config.data.max_length),
        folder / "answers.jsonl",
        settings,
        BATCH,
    )
    return [_said(config, one, engine) for one in asked]


def _said(config: ConfigDict, asked: Asked, engine: KeptAnswers) -> Said:
    options = config.evaluation.safety if asked.safety else config.evaluation.generation
    places = [
        (n, place)
        for n, item in enumerate(asked.items)
        for place, language in enumerate(asked.languages)
        if language in item.prompts
    ]
    prompts = [open_prompt(asked.items[n], asked.languages[place]) for n, place in places]
    answers = engine.generate(prompts, n=1, sampling=Sampling.of(options), seed=config.seed)
    texts: Texts = [[None] * len(asked.languages) for _ in asked.items]
    for (n, place), (text,) in zip(places, answers, strict=True):
        texts[n][place] = text
    if asked.safety:
        return Said(texts, verdicts=_verdicts(config, asked, texts))
    own = [
        [
            None if text is None else answer_in_gap(item, language, text)
            for language, text in zip(asked.languages, row, strict=True)
        ]
        for item, row in zip(asked.items, texts, strict=True)
    ]
    candidates = [[item.candidates.get(language) for language in asked.languages] for item in asked.items]
    return Said(texts, matches=match_answers(own, candidates, options.match))


def _judge(config: ConfigDict) -> Callable | None:
    name = config.evaluation.safety.judge
    return None if name == "patterns" else named_function("evaluation.safety.judge", name)


def _verdicts(config: ConfigDict, asked: Asked, texts: Texts) -> np.ndarray:
    judge = _judge(config)
    if judge is None:
        return refusals(texts, asked.languages)
    prompts = [[item.prompts.get(language) for language in asked.languages] for item in asked.items]
    return on_main(lambda: judged(prompts, texts, asked.languages, judge))


def written_figures(config: ConfigDict, asked: Sequence[Asked], *sides: Sequence[Said]) -> dict[str, Any]:
    """{"generation": {split: parts}, "safety": {kind: parts}} of report.json (see report/free_text.py).

    `sides`: the answers before and those after, or those of one model.
    """
    found: dict[str, Any] = {"generation": {}, "safety": {}}
    for one, *said in zip(asked, *sides, strict=True):
        design = Design(one.languages, resamples=config.evaluation.bootstrap, seed=config.seed)
        if one.safety:
            settings = {"judge": config.evaluation.safety.judge}
            found["safety"][one.name] = safety_figures([side.verdicts for side in said], design, settings)
        else:
            gold = [-1 if item.gold is None else item.gold for item in one.items]
            settings = {"match": config.evaluation.generation.match}
            found["generation"][one.name] = generation_figures(
                [side.matches for side in said], gold, design, settings
            )
    return {name: parts for name, parts in found.items() if parts}


def write_texts(workdir: Path, asked: Sequence[Asked], *sides: Sequence[Said]) -> None:
    """written/texts.jsonl: one object for each item and language, with the answers of each side.

    `base` (and `final`) are texts; beside them the candidate that each matches (null for none), or whether it refuses.
    """
    lines = []
    for one, *said in zip(asked, *sides, strict=True):
        for n, item in enumerate(one.items):
            for place, language in enumerate(one.languages):
                if said[0].texts[n][place] is None:
                    continue
                line = {"set": one.name, "id": item.id, "language": language}
                for name, side in zip(("base", "final"), said):
                    line[name] = side.texts[n][place]
                    line |= {f"{name}_{key}": value for key, value in _made_of(side, n, place).items()}
                lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_text(workdir / "written" / "texts.jsonl", "".join(lines))


def _made_of(said: Said, n: int, place: int) -> dict[str, int | float | None]:
    if said.matches is not None:
        found = np.flatnonzero(said.matches.scores[n, place])
        return {"candidate": int(found[0]) if len(found) else None}
    return {"refuses": float(said.verdicts[n, place])}


def reading(config: ConfigDict, model: Model) -> list[str | int]:
    """What decides, beside its parameters, how a model reads a text."""
    data = config.data
    tokenizer = "" if model.tokenizer is None else tokenizer_key(model.tokenizer)
    return [str(model.config), tokenizer, data.max_length, data.chat_template, data.system_prompt]


def load_safety(config: ConfigDict) -> dict[str, Items]:
    """The bare prompts of `evaluation.safety`, by kind; none where it is off.

    Raises:
      ConfigError: a judge that cannot be imported.
      DataError: for bad data.
    """
    safety, found = config.evaluation.safety, {}
    for kind in KINDS:
        if safety[kind].source:
            check_judge(config)
            own = safety[kind]
            read = functools.partial(
                load_items,
                own.source,
                path=own.path or None,
                languages=tuple(safety.languages) or None,
                split=own.split or None,
                on_error=config.data.on_error,
                **own.options.to_dict(),
            )
            found[kind] = on_main(read)
            tell_oddities(found[kind], f"{kind} prompts")
    return found


def asked_of(config: ConfigDict, tests: Mapping[str, Items], safety: Mapping[str, Items]) -> list[Asked]:
    """What `config.evaluation` has the model answer in writing: of test splits, and of `load_safety`."""
    limits = config.evaluation.generation["items"] or None, config.evaluation.safety["items"] or None
    return [
        Asked(name, Items(tests[name][: limits[0]]), languages_of(config, tests[name]))
        for name in config.evaluation.generation.splits
    ] + [
        Asked(kind, Items(items[: limits[1]]), items.languages, safety=True) for kind, items in safety.items()
    ]
