"""What anyone can write: JSON lines, a question in a language each, `{"id", "language", "scores": [...]}`.

Further fields: "model", "task", "prompt", "candidates" (texts), "gold" (a number or a list of them), "group". Higher
scores are better; log-probabilities in nats make every figure mean what it says. Where no more than the answer is
known, "answer" takes the place of "scores": "B", null for none, or a list where several were drawn. "gold" is then one
of them, or several: of "candidates"; or, where there are none, words for the one that is right. Answers are one where
these stand at one place, or where texts are one.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consistency_jax.data.items import DataError
from consistency_jax.data.sources.files import json_lines
from consistency_jax.logs.answers import joined, joined_answers
from consistency_jax.logs.matching import Match
from consistency_jax.logs.told import Given, Logged, Scored

NAME = re.compile(r".+\.jsonl")
MEND = "Give the same questions one id, with candidates in one order"


def read(
    path: Path, files: Sequence[Path], tasks: str = "", join: str = "", match: Match | None = None
) -> Logged:
    """What the files hold, together.

    Raises:
      DataError: a line that is none of these, or languages that do not ask the same.
    """
    answers: dict[str, dict[str, dict[str, Scored | Given]]] = {}
    wanted, models = tasks.split("+") if tasks else [], set[str]()
    for file in files:
        for line in json_lines(file):
            record = line.get()
            try:
                task, language, key = record.get("task", "answers"), record["language"], record[join or "id"]
                if not all(isinstance(text, str) and text.strip() for text in (task, language)):
                    raise ValueError(f"task {task!r}, language {language!r}")
                told = (_scored if "scores" in record or "answer" not in record else _given)(
                    record, line.where
                )
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                mend = 'Write {"id": "q1", "language": "en", "scores": [-1.5, -3.2]}, or "answer": "B"'
                told = f"no field {error}" if isinstance(error, KeyError) else str(error)
                raise DataError.at(line.where, f"no answer can be read: {told}", mend) from error
            models |= {str(record["model"])} if record.get("model") else set()
            if len(models) > 1:
                told = f"answers of several models, {' and '.join(sorted(models))}"
                raise DataError.at(line.where, told, "Name the file of one")
            own = answers.setdefault(task, {}).setdefault(language, {})
            if str(key) in own:
                first = own[str(key)].where
                raise DataError.at(
                    line.where, f"id {key!r} stands in {language!r} at {first}, too", "Keep one of them"
                )
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
            kinds = {type(told): told.where for each in ordered.values() for told in each.values()}
            if len(kinds) > 1:
                raise DataError.at(
                    kinds[Given], f"an answer, where {kinds[Scored]} has scores", "Give one kind"
                )
            items[task], tables[task], odd = (
                joined_answers(task, ordered, MEND, match) if Given in kinds else joined(task, ordered, MEND)
            )
            notes += odd
    return Logged(models.pop() if models else path.stem, items, tables, notes)


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
        raise ValueError(f"{len(scores)} scores of {len(texts)} candidates; two or more are compared")
    if not all(type(number) is int and 0 <= number < len(scores) for number in right):
        raise ValueError(f"gold is {gold!r}, and should be the number of a candidate, 0 to {len(scores) - 1}")
    return Scored(str(record.get("prompt", "")), texts, scores, right, str(record.get("group", "")), where)


def _given(record: Any, where: str) -> Given:
    if not isinstance(record.get("candidates", []), list):
        raise ValueError("candidates is no list")
    texts, gold = tuple(map(str, record.get("candidates", ()))), record.get("gold")
    right = () if gold is None else gold if isinstance(gold, list) else [gold]
    answers = record["answer"] if isinstance(record["answer"], list) else [record["answer"]]
    if not answers:
        raise ValueError("answer is a list of none; null is no answer")
    answers = tuple(None if answer is None else _named(answer, texts) for answer in answers)
    right = tuple(dict.fromkeys(_named(text, texts) for text in right))
    prompt, group = str(record.get("prompt", "")), str(record.get("group", ""))
    return Given(answers, right, texts, prompt, group, where)


def _named(answer: Any, texts: Sequence[str]) -> str:
    """The text of an answer, which may be given by its number among the candidates; as these are written."""
    if type(answer) is int and texts:
        if not 0 <= answer < len(texts):
            raise ValueError(f"{answer} is no number of {len(texts)} candidates, which begin at 0")
        return texts[answer]
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(
            f"answer and gold should be texts, or numbers of candidates, not {answer!r}; null for none"
        )
    return next((text for text in texts if text.strip() == answer.strip()), answer.strip())
