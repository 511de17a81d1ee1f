"""What a model writes: its own answers to test questions, and what it says to harmful and to harmless prompts.

`evaluation.generation` and `evaluation.safety` ask for it; both are off by default. Answers are kept in the workdir as
they are drawn (written/answers.jsonl), so that a run that was stopped goes on behind the last batch of prompts, and
written/texts.jsonl holds every one with what was made of it.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from consistency_jax.config.parsing import named_function
from consistency_jax.data.items import Items, answer_in_gap, open_prompt, right_answers
from consistency_jax.data.sources import load_items
from consistency_jax.data.trees.tokenization import tokenizer_key
from consistency_jax.errors import ConfigError
from consistency_jax.evaluation.splits import chat_of, languages_of, print_warnings
from consistency_jax.generation import Generator, Sampling
from consistency_jax.generation.cached_answers import CachedAnswers
from consistency_jax.generation.sampler import Sampler, end_tokens
from consistency_jax.metrics import Matches, judged, match_answers, refusal_patterns, refusals
from consistency_jax.models.huggingface import Model
from consistency_jax.report.free_text import generation_figures, safety_figures
from consistency_jax.report.paired import Design
from consistency_jax.runtime.files import write_text
from consistency_jax.runtime.processes import on_main
from consistency_jax.scoring.stored import fingerprint

KINDS = ("harmful", "harmless")  # of the prompts of evaluation.safety
BATCH = 256  # prompts that are answered before their answers are kept

Texts = list[list[str | None]]


class GenerationTask(NamedTuple):
    """Items that are answered in free text: of a test split, or of a kind of safety prompts."""

    name: str
    items: Items
    languages: tuple[str, ...]
    safety: bool = False


class Responses(NamedTuple):
    """What one model answers to a task, and what that is.

    texts: [N][L], None where a language lacks the item.
    matches: the candidates that they match; None for safety prompts.
    verdicts: f64[N, L], 1 where a response refuses, as the judge says; None for test questions.
    """

    texts: Texts
    matches: Matches | None = None
    verdicts: np.ndarray | None = None


def load_tasks(config: ConfigDict, tests: Mapping[str, Items]) -> list[GenerationTask]:
    """What `config.evaluation` has a model answer in free text: questions of these test splits, and the bare prompts of
    `evaluation.safety`.

    Raises:
      ConfigError: a judge that cannot be imported; without one, a language that has no patterns of refusals.
      DataError: for bad data.
    """
    count, safety = config.evaluation.generation["items"] or None, config.evaluation.safety
    tasks = [
        GenerationTask(name, Items(tests[name][:count]), languages_of(config, tests[name]))
        for name in config.evaluation.generation.splits
    ]
    for kind in KINDS:
        own = safety[kind]
        if not own.source:
            continue
        judge = _judge(config)
        read = functools.partial(
            load_items,
            own.source,
            path=own.path or None,
            languages=tuple(safety.languages) or None,
            split=own.split or None,
            on_error=config.data.on_error,
            **own.options.to_dict(),
        )
        items = on_main(read)
        print_warnings(items, f"{kind} prompts")
        unread = [language for language in items.languages if not refusal_patterns(language)]
        if judge is None and unread:
            raise ConfigError(
                f"evaluation.safety.{kind}: no refusal can be told by patterns in {', '.join(unread)}: name a "
                "function as evaluation.safety.judge, or leave them out of evaluation.safety.languages"
            )
        few = items.only(items[: safety["items"] or None])
        tasks.append(GenerationTask(kind, few, items.languages, safety=True))
    return tasks


def respond(
    config: ConfigDict, model: Model, tasks: Sequence[GenerationTask], workdir: Path
) -> list[Responses]:
    """What a model answers to each task.

    Args:
      workdir: of the run, where the answers are kept.

    Raises:
      GenerationError: a model without a tokenizer, or settings that cannot be drawn with.
      DataError: a prompt that cannot be read as text.
    """
    if not tasks:
        return []
    folder = workdir / "written"
    on_main(lambda: folder.mkdir(exist_ok=True))
    engine = cached_answers(config, model, folder / "answers.jsonl", BATCH, [fingerprint(model.params)])
    return [_respond(config, task, engine) for task in tasks]


def _respond(config: ConfigDict, task: GenerationTask, engine: CachedAnswers) -> Responses:
    options = config.evaluation.safety if task.safety else config.evaluation.generation
    places = [
        (n, place)
        for n, item in enumerate(task.items)
        for place, language in enumerate(task.languages)
        if language in item.prompts
    ]
    prompts = [open_prompt(task.items[n], task.languages[place]) for n, place in places]
    answers = engine.generate(prompts, n=1, sampling=Sampling.of(options), seed=config.seed)
    texts: Texts = [[None] * len(task.languages) for _ in task.items]
    for (n, place), (text,) in zip(places, answers, strict=True):
        texts[n][place] = text
    if task.safety:
        return Responses(texts, verdicts=_verdicts(config, task, texts))
    own = [
        [
            None if text is None else answer_in_gap(item, language, text)
            for language, text in zip(task.languages, row, strict=True)
        ]
        for item, row in zip(task.items, texts, strict=True)
    ]
    candidates = [[item.candidates.get(language) for language in task.languages] for item in task.items]
    return Responses(texts, matches=match_answers(own, candidates, options.match))


def _judge(config: ConfigDict) -> Callable | None:
    """The function that `evaluation.safety.judge` names; ConfigError where it cannot be imported."""
    name = config.evaluation.safety.judge
    return None if name == "patterns" else named_function("evaluation.safety.judge", name)


def _verdicts(config: ConfigDict, task: GenerationTask, texts: Texts) -> np.ndarray:
    judge = _judge(config)
    if judge is None:
        return refusals(texts, task.languages)
    prompts = [[item.prompts.get(language) for language in task.languages] for item in task.items]
    try:
        return on_main(lambda: judged(prompts, texts, task.languages, judge))
    except ValueError as error:
        raise ConfigError(f"evaluation.safety.judge={config.evaluation.safety.judge}: {error}") from error


def free_text_figures(
    config: ConfigDict, tasks: Sequence[GenerationTask], *sides: Sequence[Responses]
) -> dict[str, Any]:
    """{"generation": {split: parts}, "safety": {kind: parts}} of report.json (see report/free_text.py).

    `sides`: the responses before and those after, or those of one model.
    """
    found: dict[str, Any] = {"generation": {}, "safety": {}}
    for task, *responses in zip(tasks, *sides, strict=True):
        design = Design(task.languages, resamples=config.evaluation.bootstrap, seed=config.seed)
        if task.safety:
            settings = {"judge": config.evaluation.safety.judge}
            verdicts = [side.verdicts for side in responses]
            found["safety"][task.name] = safety_figures(verdicts, design, settings)
        else:
            settings = {"match": config.evaluation.generation.match}
            matches = [side.matches for side in responses]
            found["generation"][task.name] = generation_figures(
                matches, right_answers(task.items, matches[0].scores.shape[2]), design, settings
            )
    return {name: parts for name, parts in found.items() if parts}


def write_responses(workdir: Path, tasks: Sequence[GenerationTask], *sides: Sequence[Responses]) -> None:
    """written/texts.jsonl: one object for each item and language, with the response of each side.

    `base` (and `final`) are texts; beside them the candidate that each matches (null for none), or whether it refuses.
    """
    lines = []
    for task, *responses in zip(tasks, *sides, strict=True):
        for n, item in enumerate(task.items):
            for place, language in enumerate(task.languages):
                if responses[0].texts[n][place] is None:
                    continue
                line = {"set": task.name, "id": item.id, "language": language}
                for name, side in zip(("base", "final"), responses):
                    line[name] = side.texts[n][place]
                    if task.safety:
                        line[f"{name}_refuses"] = float(side.verdicts[n, place])
                    else:
                        found = np.flatnonzero(side.matches.scores[n, place])
                        line[f"{name}_candidate"] = int(found[0]) if len(found) else None
                lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_text(workdir / "written" / "texts.jsonl", "".join(lines))


def cached_answers(
    config: ConfigDict,
    model: Model,
    path: Path,
    batch: int,
    key: Sequence[str],
    make: Callable[[], Generator] | None = None,
) -> CachedAnswers:
    """The model as a generator (or another that `make` gives), whose answers are cached in a file.

    Args:
      batch: prompts that are answered before their answers are kept.
      key: of the generator: the `fingerprint` of the model's parameters.
    """

    def sampler() -> Generator:
        return Sampler(model, chat=chat_of(config, model), max_length=config.data.max_length)

    settings = json.dumps([*key, *reading(config, model)])
    return CachedAnswers(make or sampler, path, settings, batch)


def reading(config: ConfigDict, model: Model) -> list[str | int]:
    """What decides, beside its parameters, how a model reads a text, and where its answers end."""
    data = config.data
    tokenizer = "" if model.tokenizer is None else tokenizer_key(model.tokenizer)
    # What is computed again in a backward pass decides nothing here, and a resumed run may change it.
    decoder = dataclasses.replace(model.config, remat="none")
    ends = end_tokens(model)  # a chat's own is told by its template, which is the tokenizer's
    return [str(decoder), tokenizer, data.max_length, data.chat_template, data.system_prompt, str(ends)]
