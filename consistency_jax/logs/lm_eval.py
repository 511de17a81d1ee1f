"""Samples that lm-evaluation-harness writes with --log_samples: samples_TASK_DATE.jsonl, a line a document.

Of a task of multiple choice each line holds the requests (context, candidate) and the log-probability of each. Which
tasks are one in several languages is told by their names, xcopa_sw and xcopa_it, where another part is the same.
"""

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError, Items
from consistency_jax.data.sources.files import json_lines
from consistency_jax.data.sources.language_files import looks_like_language
from consistency_jax.logs.answers import Logged, Scored, joined
from consistency_jax.report.names import language_name
from consistency_jax.table import Table

LANGUAGE = "{language}"
NAME = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
MEND = "Name the field of a document that tells which belong together: --join=FIELD"


def read(path: Path, files: Sequence[Path], tasks: str = "", join: str = "") -> Logged:
    """What the samples of one model say; the newest ones of each task.

    Raises:
      DataError: no samples of one task in two languages, of several models, or that do not ask the same. A task that
        was not asked for by name is then left out, and told.
    """
    newest: dict[str, tuple[str, Path]] = {}
    named = [(*match.groups(), file) for file in files if (match := NAME.fullmatch(file.name))]
    for task, date, file in named:
        newest[task] = max(newest.get(task, ("", file)), (date, file))
    if len(folders := {file.parent for *_, file in named}) > 1:
        told = ", ".join(sorted(str(folder.relative_to(path)) for folder in folders))
        raise DataError.at(str(path), f"samples of several models or runs, {told}", "Name the folder of one")
    items, tables, notes = {}, {}, []
    families = _families(newest, tasks.split("+") if tasks else [], str(path))
    if not families:
        mend = "Say where a task's name has its language: --tasks=xcopa_{language}"
        raise DataError.at(str(path), f"no task is there in two languages: {', '.join(newest)}", mend)
    for family, names in families.items():
        name = family.replace(f"_{LANGUAGE}", "").replace(f"{LANGUAGE}_", "")
        name = family if name in items else name
        try:
            items[name], tables[name], odd = _joined(
                name, {language: newest[task][1] for language, task in names.items()}, join
            )
        except DataError as error:
            if tasks or len(families) == 1:
                raise
            notes.append(f"{name} ({', '.join(names)}) is left out: {error}")
            continue
        notes += odd
        if len(dates := {newest[task][0] for task in names.values()}) > 1:
            notes.append(f"{name}: its languages were measured in {len(dates)} runs of the harness")
    used = {task for names in families.values() for task in names.values()}
    if alone := sorted(set(newest) - used):
        notes.append(f"in one language alone, left out: {', '.join(alone)}")
    if not items:
        raise DataError.at(
            str(path), "; ".join(notes), "Log tasks of multiple choice, or say which: --tasks=..."
        )
    return Logged(next(iter(folders)).name, items, tables, notes)


def _joined(name: str, files: Mapping[str, Path], join: str) -> tuple[Items, Table, list[str]]:
    answers = {language: _answers(file, join) for language, file in files.items()}
    none = [language for language, own in answers.items() if not own]
    notes = [f"{name} is no multiple choice in {', '.join(none)}, left out"] if none else []
    answers = {language: own for language, own in answers.items() if own}
    if len(answers) < 2:
        raise DataError.at(name, "it is no task of multiple choice", "Name others: --tasks=xcopa_{language}")
    items, table, odd = joined(name, answers, MEND)
    return items, table, notes + odd


def _families(tasks: Sequence[str], wanted: Sequence[str], where: str) -> dict[str, dict[str, str]]:
    """Pattern -> language -> task, of two languages or more: those wanted, or those that share the most tasks."""
    found = {task: list(_patterns(task)) for task in tasks}
    for pattern in wanted:
        if pattern.count(LANGUAGE) != 1:
            raise DataError.at(
                where, f"--tasks={pattern} has no place for its language", "Write xcopa_{language}"
            )
        if not any(pattern == own for patterns in found.values() for own, _ in patterns):
            raise DataError.at(
                where, f"--tasks={pattern} is no task; there are {', '.join(tasks)}", "Name these"
            )
    if wanted:
        found = {task: [own for own in patterns if own[0] in wanted] for task, patterns in found.items()}
    counts = Counter(pattern for own in found.values() for pattern, _ in own)
    families: dict[str, dict[str, str]] = {}
    for task, own in found.items():
        if own:
            pattern, language = max(own, key=lambda each: counts[each[0]])  # the first of several
            families.setdefault(pattern, {})[language] = task
    return {pattern: names for pattern, names in families.items() if len(names) > 1}


def _patterns(task: str) -> list[tuple[str, str]]:
    """(the name with {language} in it, the language) for each part that may be one, from the right; eng_Latn is two."""
    words = re.split("([_-])", task)
    spans = [(end - length, end) for end in range(len(words), 0, -2) for length in (3, 1) if end >= length]
    found = []
    for start, end in spans:
        language = "".join(words[start:end])
        known = len(language) > 3 or language_name(language) != language  # quy_Latn is a language by its form
        if len(words) > end - start and looks_like_language(language) and known:
            found.append(("".join([*words[:start], LANGUAGE, *words[end:]]), language))
    return found


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
