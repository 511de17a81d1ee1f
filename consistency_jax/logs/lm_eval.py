"""Samples that lm-evaluation-harness writes with --log_samples: samples_TASK_DATE.jsonl, a line a document.

Of a task of multiple choice each line holds the requests (context, candidate) and the log-probability of each, of
written answers (mgsm_direct_en) what was written, as a filter has it.
"""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError, Items
from consistency_jax.data.sources.files import json_lines
from consistency_jax.data.sources.parallel import counted
from consistency_jax.logs.answers import joined, joined_answers
from consistency_jax.logs.families import Run, newest, read_families
from consistency_jax.logs.matching import Match
from consistency_jax.logs.told import Given, Logged, Scored
from consistency_jax.table import NEVER, Table

NAME = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
# Metrics that are 1 where an answer is the target.
EXACT = ("exact_match", "em")
MEND = "Name the field of a document that tells which belong together: --join=FIELD"


def read(
    path: Path, files: Sequence[Path], tasks: str = "", join: str = "", match: Match | None = None
) -> Logged:
    """What the samples of one model say; the newest ones of each task.

    Raises:
      DataError: no samples of one task in two languages, of several models, or that do not ask the same. A task that
        was not asked for by name is then left out, and told.
    """
    runs = {}
    for file in files:
        task, date = NAME.fullmatch(file.name).groups()
        folder = file.parent if file.parent == path or path.is_file() else file.parent.relative_to(path)
        runs[file] = task, Run(str(folder), date, file)
    logged = read_families(path, newest(path, runs), tasks, lambda name, own: _joined(name, own, join, match))
    return logged._replace(model=files[0].parent.name)


def _joined(
    name: str, files: Mapping[str, Path], join: str, match: Match | None
) -> tuple[Items, Table, list[str]]:
    """Of a task that is multiple choice in some languages and written answers in others, the former."""
    answers = {language: _answers(file, join) for language, file in files.items()}
    kinds = {kind: {l: own for l, own in answers.items() if _kind(own) is kind} for kind in (Scored, Given)}
    ranked = len(kinds[Scored]) > 1
    kept = kinds[Scored if ranked else Given]
    if len(kept) < 2:
        mend = "Name others: --tasks=xcopa_{language}"
        raise DataError.at(name, "it is no task of multiple choice, nor of written answers", mend)
    none = [language for language in answers if language not in kept]
    what = "multiple choice" if ranked else "task of written answers"
    notes = [f"{name} is no {what} in {', '.join(none)}, left out"] if none else []
    items, table, odd = joined(name, kept, MEND) if ranked else joined_answers(name, kept, MEND, match)
    return items, table, notes + odd


def _kind(own: Mapping[str, Scored | Given]) -> type | None:
    kinds = {type(told) for told in own.values()}
    single = all(isinstance(told, Scored) and len(told.candidates) < 2 for told in own.values())
    return None if single or len(kinds) != 1 else kinds.pop()


def _answers(file: Path, join: str) -> dict[str, Scored | Given]:
    """Key -> what was logged; nothing of a task of another kind, a translation say. Of several filters the first
    counts, of written answers the last, which finds the most."""
    found: dict[str, Scored | Given] = {}
    filters: dict[str, str] = {}
    first, shares = None, False
    for line in json_lines(file):
        sample = line.get()
        try:
            name = sample.get("filter", "none")
            first = name if first is None else first
            requests = [list(own.values()) for own in sample["arguments"].values()]
            written = any(isinstance(own[-1], dict) for own in requests)
            if any(len(own) < 2 for own in requests):
                return {}
            if name != first and not written:
                continue
            if join and join not in sample["doc"]:
                raise KeyError(f"{join}, a document has {', '.join(sample['doc'])}")
            if written and not any(metric in sample for metric in EXACT):
                return {}
            key = str(sample["doc"][join] if join else sample["doc_id"])
            told = (_written if written else _chosen)(sample, requests, line.where)
            shares |= sample.get("acc") not in (None, 0, 1)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            mend = MEND if join else "Take what --log_samples of lm_eval 0.4 writes"
            raise DataError.at(line.where, f"no sample of lm_eval ({error!r})", mend) from error
        if filters.get(key) == name:
            raise DataError.at(line.where, f"{join or 'doc_id'} {key!r} stands twice", MEND)
        filters[key], found[key] = name, told
    # Where credit is the share of all that are right (truthfulqa_mc2), the target tells nothing.
    # In one order, however many processes wrote them.
    return {key: found[key]._replace(right=()) if shares else found[key] for key in counted(found)}


def _chosen(sample: Mapping[str, Any], requests: Sequence[Sequence[Any]], where: str) -> Scored:
    """The choices of a document, and their log-probabilities."""
    scores = tuple(float(own[0]) for own in sample["filtered_resps"])
    if not scores or len(scores) != len(requests):
        raise ValueError(f"{len(scores)} answers to {len(requests)} requests")
    contexts, texts = (tuple(own[place] for own in requests) for place in (0, 1))
    half = len(texts) // 2
    # The same once more without their context: acc_mutual_info.
    if any(contexts[:half]) and not any(contexts[half:]):
        contexts, texts, scores = (own[:half] for own in (contexts, texts, scores))
    # What cannot be said at all: the harness model of this package says so of what it cannot ask.
    scores = tuple(NEVER if score == -math.inf else score for score in scores)
    # Several contexts, and one text behind them: the target is not their number, but credit tells which is right.
    inputs, credit = len({*contexts}) > 1, sample.get("acc")
    right = _credited(scores, credit) if inputs else _right(sample["target"], texts, scores, credit)
    return Scored(contexts[0], contexts if inputs else texts, scores, right, "", where)


def _written(sample: Mapping[str, Any], requests: Sequence[Sequence[Any]], where: str) -> Given:
    """The answer that was written, or found in what was; what the harness took for the target is that."""
    answers, ((context, *_),) = sample["filtered_resps"], requests
    if isinstance(context, list) and len(context) == 1:  # of a server: the messages, as JSON
        (context,) = context
    if len(answers) != 1 or not isinstance(answers[0], str) or not isinstance(context, str):
        raise ValueError(f"one answer is read, not {answers!r:.60}")
    answer = answers[0]
    target = str(sample["target"])
    targets = _literal(target) if target.startswith("[") else [target]
    targets = targets if isinstance(targets, list) else [target]
    right = tuple(dict.fromkeys(text for each in targets if (text := str(each).strip())))
    if right and any(float(sample.get(metric) or 0) == 1 for metric in EXACT):
        answer = right[0]
    own = None if answer.strip() in ("", "[invalid]") else answer.strip()
    return Given((own,), right, (), context, "", where)


def _literal(text: Any) -> Any:
    """What a text spells as a literal of Python; the text where it spells none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def _credited(scores: Sequence[float], credit: float | None) -> tuple[int, ...]:
    """The index of what is right, as far as credit for the likeliest tells: of two candidates always."""
    best = max(range(len(scores)), key=scores.__getitem__)
    if credit == 1:
        return (best,)
    return (1 - best,) if credit == 0 and len(scores) == 2 else ()


def _right(
    target: str, candidates: Sequence[str], scores: Sequence[float], credit: float | None
) -> tuple[int, ...]:
    """The index, the list of several, or the text of what is right, as a log has it; () where that is not told, or is
    not what the harness gave credit for."""
    texts = [text.strip() for text in candidates]
    value = _literal(target)
    numbers = value if isinstance(value, list | tuple) else [value]
    if not all(type(number) is int for number in numbers):
        text = str(target).strip()
        numbers = [texts.index(text)] if text in texts else []
    if not all(0 <= number < len(texts) for number in numbers):
        return ()
    best = max(range(len(texts)), key=scores.__getitem__)
    return tuple(dict.fromkeys(numbers)) if credit is None or (best in numbers) == bool(credit) else ()
