"""Scores that anyone can write: JSON lines, a question in a language each, `{"id", "language", "scores": [...]}`.

Further fields: "task", "prompt", "candidates" (texts), "gold" (a number or a list of them), "group". Higher scores are
better; log-probabilities in nats make every figure mean what it says.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.files import json_lines
from consistency_jax.logs.answers import Logged, Scored, joined

NAME = re.compile(r".+\.jsonl")
MEND = "Give the same questions one id, with candidates in one order"


def read(path: Path, files: Sequence[Path], tasks: str = "", join: str = "") -> Logged:
    """What the files hold, together.

    Raises:
      DataError: a line that is none of these, or languages that do not ask the same.
    """
    answers: dict[str, dict[str, dict[str, Scored]]] = {}
    wanted = tasks.split("+") if tasks else []
    for file in files:
        for line in json_lines(file):
            record = line.get()
            try:
                task, language, key = record.get("task", "answers"), record["language"], record[join or "id"]
                if not all(isinstance(text, str) and text.strip() for text in (task, language)):
                    raise ValueError(f"task {task!r}, language {language!r}")
                told = _scored(record, line.where)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                mend = 'Write {"id": "q1", "language": "en", "scores": [-1.5, -3.2]}'
                raise DataError.at(line.where, f"no answer can be read ({error!r})", mend) from error
            own = answers.setdefault(task, {}).setdefault(language, {})
            if str(key) in own:
                raise DataError.at(line.where, f"id {key!r} stands twice in {language!r}", MEND)
            own[str(key)] = told
    if missing := [task for task in wanted if task not in answers]:
        raise DataError.at(
            str(path), f"no task {missing[0]}; there are {', '.join(answers)}", "Name one of these"
        )
    items, tables, notes = {}, {}, []
    for task, own in answers.items():
        if not wanted or task in wanted:
            # in one order, however a file was written, so that audits can be compared
            ordered = {language: dict(sorted(own[language].items())) for language in sorted(own)}
            items[task], tables[task], odd = joined(task, ordered, MEND)
            notes += odd
    return Logged(path.stem, items, tables, notes)


def _scored(record: Any, where: str) -> Scored:
    for name in ("scores", "candidates"):
        if not isinstance(record.get(name, []), list):
            raise ValueError(f"{name} is no list")
    if not all(type(score) in (int, float) for score in record["scores"]):
        raise ValueError("scores are no numbers")
    scores = tuple(map(float, record["scores"]))
    texts = tuple(map(str, record.get("candidates", [f"answer {k + 1}" for k in range(len(scores))])))
    gold = record.get("gold")
    right = () if gold is None else tuple(dict.fromkeys(gold)) if isinstance(gold, list) else (gold,)
    if len(scores) < 2 or len(texts) != len(scores):
        raise ValueError(f"{len(scores)} scores of {len(texts)} candidates")
    if not all(type(number) is int and 0 <= number < len(scores) for number in right):
        raise ValueError(f"gold is {gold!r}")
    return Scored(str(record.get("prompt", "")), texts, scores, right, str(record.get("group", "")), where)
