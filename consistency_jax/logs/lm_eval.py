"""Samples that lm-evaluation-harness writes with --log_samples: samples_TASK_DATE.jsonl, a line a document.

Of a task of multiple choice each line holds the requests (context, candidate) and the log-probability of each.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError, Items
from consistency_jax.data.sources.files import json_lines
from consistency_jax.logs.answers import Logged, Scored, joined
from consistency_jax.logs.families import Run, newest, read_families
from consistency_jax.table import Table

NAME = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
MEND = "Name the field of a document that tells which belong together: --join=FIELD"


def read(path: Path, files: Sequence[Path], tasks: str = "", join: str = "") -> Logged:
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
    logged = read_families(path, newest(path, runs), tasks, lambda name, own: _joined(name, own, join))
    return logged._replace(model=files[0].parent.name)


def _joined(name: str, files: Mapping[str, Path], join: str) -> tuple[Items, Table, list[str]]:
    answers = {language: _answers(file, join) for language, file in files.items()}
    none = [language for language, own in answers.items() if not own]
    notes = [f"{name} is no multiple choice in {', '.join(none)}, left out"] if none else []
    answers = {language: own for language, own in answers.items() if own}
    if len(answers) < 2:
        raise DataError.at(name, "it is no task of multiple choice", "Name others: --tasks=xcopa_{language}")
    items, table, odd = joined(name, answers, MEND)
    return items, table, notes + odd


def _answers(file: Path, join: str) -> dict[str, Scored]:
    """Key -> what was logged; nothing where the task is none of multiple choice."""
    found: dict[str, Scored] = {}
    first = None  # of several filters
    for line in json_lines(file):
        sample = line.get()
        try:
            first = sample.get("filter", "none") if first is None else first
            if sample.get("filter", "none") != first:
                continue
            requests = [list(own.values()) for own in sample["arguments"].values()]
            if any(len(own) < 2 or not isinstance(own[1], str) for own in requests):
                return {}
            scores = tuple(float(own[0]) for own in sample["filtered_resps"])
            if not scores or len(scores) != len(requests):
                raise ValueError(f"{len(scores)} answers to {len(requests)} requests")
            if join and join not in sample["doc"]:
                raise KeyError(f"{join}, a document has {', '.join(sample['doc'])}")
            key = str(sample["doc"][join] if join else sample["doc_id"])
            contexts, texts = (tuple(own[place] for own in requests) for place in (0, 1))
            half = len(texts) // 2
            # The same once more without their context: acc_mutual_info.
            if any(contexts[:half]) and not any(contexts[half:]):
                contexts, texts, scores = (own[:half] for own in (contexts, texts, scores))
            # Several contexts, and one text behind them: what is right is not logged.
            inputs = len({*contexts}) > 1
            right = () if inputs else _right(sample["target"], texts, scores, sample.get("acc"))
            told = Scored(contexts[0], contexts if inputs else texts, scores, right, "", line.where)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            mend = MEND if join else "Take what --log_samples of lm_eval 0.4 writes"
            raise DataError.at(line.where, f"no sample of lm_eval ({error!r})", mend) from error
        if key in found:
            raise DataError.at(line.where, f"{join or 'doc_id'} {key!r} stands twice", MEND)
        found[key] = told
    return found if any(len(told.candidates) > 1 for told in found.values()) else {}


def _right(
    target: str, candidates: Sequence[str], scores: Sequence[float], credit: float | None
) -> tuple[int, ...]:
    """The index, the list of several, or the text of what is right, as a log has it; () where that is not told, or is
    not what the harness gave credit for."""
    texts = [text.strip() for text in candidates]
    try:
        value: Any = ast.literal_eval(target)
    except (ValueError, SyntaxError):
        value = target
    numbers = value if isinstance(value, list | tuple) else [value]
    if not all(type(number) is int for number in numbers):
        text = str(target).strip()
        numbers = [texts.index(text)] if text in texts else []
    if not all(0 <= number < len(texts) for number in numbers):
        return ()
    best = max(range(len(texts)), key=scores.__getitem__)
    return tuple(dict.fromkeys(numbers)) if credit is None or (best in numbers) == bool(credit) else ()
