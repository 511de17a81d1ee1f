"""Samples that lm-evaluation-harness writes with --log_samples: samples_TASK_DATE.jsonl, a line a document.

Of a task of multiple choice each line holds the requests (context, candidate) and the log-probability of each. Which
tasks are one in several languages is told by their names, xcopa_sw and xcopa_it, where another part is the same.
"""

import ast
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.files import json_lines
from consistency_jax.data.sources.language_files import looks_like_language
from consistency_jax.logs.answers import Logged, Scored, joined

FILES = "samples_*.jsonl"
LANGUAGE = "{language}"
_NAME = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
MEND = "Name the field of a document that tells which belong together: --join=FIELD"


def read(path: Path, files: Sequence[Path], tasks: str = "", join: str = "") -> Logged:
    """What the samples of one model say; the newest ones of each task.

    Raises:
      DataError: no samples of one task in two languages, of several models, or that do not ask the same.
    """
    newest: dict[str, tuple[str, Path]] = {}
    for file in files:
        if named := _NAME.fullmatch(file.name):
            task, date = named.groups()
            newest[task] = max(newest.get(task, ("", file)), (date, file))
    if len(folders := {file.parent for _, file in newest.values()}) > 1:
        told = ", ".join(sorted(str(folder.relative_to(path)) for folder in folders))
        raise DataError.at(str(path), f"samples of several models or runs, {told}", "Name the folder of one")
    items, tables, notes = {}, {}, []
    families = _families(newest, tasks.split("+") if tasks else [])
    if not families:
        mend = "Say where a task's name has its language: --tasks=xcopa_{language}"
        raise DataError.at(str(path), f"no task is there in two languages: {', '.join(newest)}", mend)
    for family, names in families.items():
        answers: dict[str, dict[str, Scored]] = {}
        for language, task in names.items():
            own = _answers(newest[task][1], join)
            if own:
                answers[language] = own
            else:
                notes.append(f"task {task} has no log-probabilities of candidates: left out")
        if len(answers) > 1:
            name = family.replace(f"_{LANGUAGE}", "").replace(f"{LANGUAGE}_", "")
            items[name], tables[name] = joined(name, answers, MEND)
    used = {task for names in families.values() for task in names.values()}
    if alone := sorted(set(newest) - used):
        notes.append(f"in one language alone, left out: {', '.join(alone)}")
    if not items:
        raise DataError.at(str(path), "; ".join(notes), "Log tasks of multiple choice")
    model = next(iter(newest.values()))[1].parent.name
    return Logged(model, items, tables, notes)


def _families(tasks: Sequence[str], wanted: Sequence[str]) -> dict[str, dict[str, str]]:
    """Pattern -> language -> task, of two languages or more: those wanted, or those that share the most tasks."""
    found = {task: list(_patterns(task)) for task in tasks}
    if wanted:
        patterns = [re.compile(re.escape(own).replace(re.escape(LANGUAGE), "(.+)")) for own in wanted]
        found = {
            task: [
                (own, match[1])
                for own, pattern in zip(wanted, patterns)
                if (match := pattern.fullmatch(task))
            ]
            for task in tasks
        }
    counts = Counter(pattern for own in found.values() for pattern, _ in own)
    families: dict[str, dict[str, str]] = {}
    for task, own in found.items():
        if own:
            pattern, language = max(own, key=lambda each: counts[each[0]])  # the first of several
            families.setdefault(pattern, {})[language] = task
    return {pattern: names for pattern, names in families.items() if len(names) > 1}


def _patterns(task: str) -> list[tuple[str, str]]:
    """(the name with {language} in it, the language) for each part that may be one, from the right; eng_Latn is two."""
    words = task.split("_")
    spans = [(end - length, end) for end in range(len(words), 0, -1) for length in (2, 1) if end >= length]
    found = []
    for start, end in spans:
        language = "_".join(words[start:end])
        if len(words) > end - start and looks_like_language(language):
            found.append(("_".join([*words[:start], LANGUAGE, *words[end:]]), language))
    return found


def _answers(file: Path, join: str) -> dict[str, Scored]:
    """Key -> what was logged; nothing where the task is none of log-probabilities."""
    found: dict[str, Scored] = {}
    first = None  # of several filters
    for line in json_lines(file):
        sample = line.get()
        try:
            first = sample["filter"] if first is None else first
            if sample["filter"] != first:
                continue
            requests = [list(own.values()) for own in sample["arguments"].values()]
            if any(len(own) < 2 or not isinstance(own[1], str) for own in requests):
                return {}
            scores = [float(own[0]) for own in sample["filtered_resps"]]
            if not scores or len(scores) != len(requests):
                raise ValueError(f"{len(scores)} answers to {len(requests)} requests")
            key = str(sample["doc"][join] if join else sample["doc_id"])
            contexts, texts = (tuple(own[place] for own in requests) for place in (0, 1))
            count = _count(contexts, texts)
            right = _right(sample["target"], texts[:count])
            told = Scored(contexts[0], texts[:count], tuple(scores[:count]), right, "", line.where)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            mend = MEND if join else "Take what lm_eval --log_samples writes"
            raise DataError.at(line.where, f"no sample of lm_eval ({error!r})", mend) from error
        if key in found:
            raise DataError.at(line.where, f"{join or 'doc_id'} {key!r} stands twice", MEND)
        found[key] = told
    return found


def _count(contexts: Sequence[str], texts: Sequence[str]) -> int:
    """Candidates among the requests: behind them may stand the same ones without their context (acc_mutual_info)."""
    half = len(texts) // 2
    alone = half and texts[:half] == texts[half:] and contexts[0] not in contexts[half:]
    return half if alone else len(texts)


def _right(target: str, candidates: Sequence[str]) -> tuple[int, ...]:
    """The index, the list of several, or the text of what is right, as a log has it; () for another."""
    try:
        value: Any = ast.literal_eval(target)
    except (ValueError, SyntaxError):
        value = target
    texts = [text.strip() for text in candidates]
    if isinstance(value, str):
        value = texts.index(value.strip()) if value.strip() in texts else None
    numbers = value if isinstance(value, list | tuple) else [value]
    if all(type(number) is int and 0 <= number < len(texts) for number in numbers):
        return tuple(dict.fromkeys(numbers))
    return ()
