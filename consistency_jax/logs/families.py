"""Which tasks are one in several languages: their names, xcopa_sw and xcopa_it, are the same but for the language."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from babel import Locale

from consistency_jax.data.examples import ANCHOR
from consistency_jax.data.items import DataError, Items
from consistency_jax.data.sources.language_files import looks_like_language
from consistency_jax.logs.told import Logged
from consistency_jax.report.names import language_name
from consistency_jax.table import Table

LANGUAGE = "{language}"
ENGLISH = ("eng", "eng_latn", "eng-latn", "english")  # names of the anchor, in small letters


class Run(NamedTuple):
    """A task as it was measured: by which model, when, where that is logged, and whether to its end."""

    model: str
    date: str
    file: Path
    whole: bool = True


def newest(path: Path, runs: Mapping[Path, tuple[str, Run]]) -> dict[str, Run]:
    """Task -> its newest run that came to its end, else its newest, of logs (file -> task and run) below a path.

    Raises:
      DataError: runs of several models.
    """
    if len(models := sorted({run.model for _, run in runs.values()})) > 1:
        told = ", ".join(models)
        raise DataError.at(str(path), f"samples of several models or runs, {told}", "Name the folder of one")
    found: dict[str, Run] = {}
    for task, run in runs.values():
        best = found.get(task, run)
        found[task] = max(best, run, key=lambda own: (own.whole, own.date, own.file))
    return found


def read_families(
    path: Path,
    runs: Mapping[str, Run],
    tasks: str,
    joined: Callable[[str, Mapping[str, Path]], tuple[Items, Table, list[str]]],
    one_run: bool = True,
) -> Logged:
    """What the runs of one model say, a task in several languages each.

    Args:
      runs: by task, not empty.
      tasks: which, joined by +, with {language} in their names; "": every one that is there in two languages.
      joined: makes items, table and notes of a task's name and the file of each language.
      one_run: whether the tool measures several tasks in one run; that they were measured in several is then told.

    Raises:
      DataError: no task in two languages, or as `joined`; a task that was not asked for by name is then left out, and
        told.
    """
    items, tables, notes = {}, {}, []
    families = _families(list(runs), tasks.split("+") if tasks else [], str(path))
    if not families:
        mend = "Say where a task's name has its language: --tasks=xcopa_{language}"
        raise DataError.at(str(path), f"no task is there in two languages: {', '.join(runs)}", mend)
    for family, names in families.items():
        name = family.replace(f"_{LANGUAGE}", "").replace(f"{LANGUAGE}_", "")
        name = family if name in items else name
        try:
            items[name], tables[name], odd = joined(
                name, {language: runs[task].file for language, task in names.items()}
            )
        except DataError as error:
            if tasks or len(families) == 1:
                raise
            notes.append(f"{name} ({', '.join(names)}) is left out: {error}")
            continue
        notes += odd
        if one_run and len(dates := {runs[task].date for task in names.values()}) > 1:
            notes.append(f"{name}: its languages were measured in {len(dates)} runs of the harness")
    used = {task for names in families.values() for task in names.values()}
    if alone := sorted(set(runs) - used):
        notes.append(f"in one language alone, left out: {', '.join(alone)}")
    if not items:
        raise DataError.at(
            str(path), "; ".join(notes), "Log tasks of multiple choice, or say which: --tasks=..."
        )
    return Logged(next(iter(runs.values())).model, items, tables, notes)


def _families(tasks: Sequence[str], wanted: Sequence[str], where: str) -> dict[str, dict[str, str]]:
    """Pattern -> language -> task, of two languages or more: those wanted, or those that share the most tasks. English
    has its code, whatever a harness calls it."""
    found = {task: list(patterns(task)) for task in tasks}
    if wanted:
        found = {task: [] for task in tasks}
    for pattern in wanted:
        if pattern.count(LANGUAGE) != 1:
            raise DataError.at(
                where, f"--tasks={pattern} has no place for its language", "Write xcopa_{language}"
            )
        places = {task: code for task in tasks for own, code in patterns(task) if own == pattern}
        if len(places) < 2:  # languages by other names: albanian
            places = {task: word for task in tasks if (word := _word_in(task, pattern))} | places
        if not places:
            raise DataError.at(
                where, f"--tasks={pattern} is no task; there are {', '.join(tasks)}", "Name these"
            )
        for task, language in places.items():
            found[task].append((pattern, language))
    counts = Counter(pattern for own in found.values() for pattern, _ in own)
    families: dict[str, dict[str, str]] = {}
    for task, own in found.items():
        if own:
            pattern, language = max(own, key=lambda each: counts[each[0]])  # the first of several
            families.setdefault(pattern, {})[language] = task
    for pattern, names in families.items():
        english = [language for language in names if language.lower() in ENGLISH]
        if len(english) == 1 and ANCHOR not in names:
            families[pattern] = {ANCHOR if own == english[0] else own: task for own, task in names.items()}
    # in one order, whichever was measured first
    return {pattern: dict(sorted(names.items())) for pattern, names in families.items() if len(names) > 1}


def _word_in(task: str, pattern: str) -> str:
    """The word that stands in a task's name where a pattern has {language}; "" where none does."""
    before, _, after = pattern.partition(LANGUAGE)
    found = re.fullmatch(f"{re.escape(before)}([^_-]+){re.escape(after)}", task)
    return found[1] if found else ""


def patterns(task: str) -> list[tuple[str, str]]:
    """(the name with {language} in it, the language) for each part that may be one, from the right; eng_Latn is two."""
    words = re.split("([_-])", task)
    spans = [(end - length, end) for end in range(len(words), 0, -2) for length in (3, 1) if end >= length]
    found = []
    for start, end in spans:
        language = "".join(words[start:end])
        if end - start == 3 and words[end - 1].title() in Locale("en").scripts:
            language = "".join([*words[start : end - 1], words[end - 1].title()])  # jpn_jpan
        known = len(language) > 3 or language_name(language) != language  # quy_Latn is a language by its form
        if len(words) > end - start and looks_like_language(language) and known:
            found.append(("".join([*words[:start], LANGUAGE, *words[end:]]), language))
    return found
