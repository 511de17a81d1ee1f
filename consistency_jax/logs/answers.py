"""Scored answers of one task in several languages -> parallel items and their table."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from consistency_jax.data.items import DataError, Items, ParallelItem, check_names, right_answers
from consistency_jax.metrics.generation import normalised
from consistency_jax.table import Table


class Scored(NamedTuple):
    """One question in one language, as it was logged.

    scores: of each candidate, higher is better: log-probabilities, nats.
    right: indices of those that are right; () where that is not told.
    where: file:line.
    """

    prompt: str
    candidates: tuple[str, ...]
    scores: tuple[float, ...]
    right: tuple[int, ...]
    group: str
    where: str


class Given(NamedTuple):
    """One question in one language, of which the answer that was given is all that was logged.

    answer: its text; None: there was none.
    right: those that are right, or, where candidates are not told, words for what is right; () where that is not told.
    candidates: in one order in all languages; () where they are not told.
    where: file:line.
    """

    answer: str | None
    right: tuple[str, ...]
    candidates: tuple[str, ...]
    prompt: str
    group: str
    where: str


_NUMBER, _THOUSANDS = re.compile(r"-?\d+(?:\.\d+)?"), re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
MOST = 26  # answers of a task that are taken for its options
NOTHING = "(no answer)"  # a candidate of its own: never right, and the same in all languages


def scored(answers: Mapping[str, Mapping[str, Given]]) -> dict[str, dict[str, Scored]]:
    """Answers alone as scores, 0 for the one that was given and -1 for all others, for `joined(..., ranked=False)`.

    Where candidates are not told, all answers of the task stand for them: A, B, C and D, say; where these are more than
    MOST, those of the question. Answers are then the same as `spelling` has them, and what is right is one answer, in
    whatever words of a language.

    Raises:
      DataError: an answer, or a right one, that is none of its candidates.
    """
    first: dict[str, str] = {}  # how each is written where it comes first
    right: dict[str, tuple[str, ...]] = {}
    for own in answers.values():
        for key, told in own.items():
            right[key] = right.get(key) or tuple(
                first.setdefault(spelling(text), text) for text in told.right[:1]
            )
    answers = {
        language: {key: _in_words_of(told, right[key], first) for key, told in own.items()}
        for language, own in answers.items()
    }
    every = [(key, told) for own in answers.values() for key, told in own.items()]
    texts: dict[str, set[str]] = {}
    for key, told in every:
        texts.setdefault(key, set()).update(text for text in (told.answer, *told.right) if text is not None)
    closed = sorted(set().union(*texts.values()))
    empty = (NOTHING,) if any(told.answer is None for _, told in every) else ()
    return {
        language: {
            key: _scored(told, closed if len(closed) <= MOST else sorted(texts[key]), empty)
            for key, told in own.items()
        }
        for language, own in answers.items()
    }


def spelling(text: str) -> str:
    """A text without what does not make it another answer (`metrics.normalised`); a number as its value: 1,000.0 and
    $1000 as 1000, 1,5 as 1.5."""
    number = text.strip().strip("$€£¥%").strip().rstrip(".")
    number = number.replace(",", "") if _THOUSANDS.fullmatch(number) else number.replace(",", ".")
    if not _NUMBER.fullmatch(number):
        return normalised(text)
    return number.rstrip("0").rstrip(".") if "." in number else number


def _in_words_of(told: Given, right: tuple[str, ...], first: dict[str, str]) -> Given:
    """The same as other languages write it, where no candidates tell what belongs together."""
    if told.candidates:
        return told
    answer = told.answer
    if answer is not None:
        known = spelling(answer) in {spelling(text) for text in told.right}
        answer = right[0] if known else first.setdefault(spelling(answer), answer)
    return told._replace(answer=answer, right=right if told.right else ())


def _scored(told: Given, texts: Sequence[str], empty: tuple[str, ...]) -> Scored:
    names = told.candidates or tuple(texts)
    for text in (told.answer, *told.right):
        if text is not None and text not in names:
            reason = f"{text!r} is none of the candidates {', '.join(names)}"
            raise DataError.at(told.where, reason, "Give the text of a candidate of this language")
    answer = NOTHING if told.answer is None else told.answer
    scores = tuple(0.0 if name == answer else -1.0 for name in (*names, *empty))
    right = tuple(names.index(text) for text in told.right)
    return Scored(told.prompt, (*names, *empty), scores, right, told.group, told.where)


class Logged(NamedTuple):
    """What was logged of one model, by task.

    model: its name, as the log tells it.
    notes: what was left out.
    """

    model: str
    items: dict[str, Items]
    tables: dict[str, Table]
    notes: list[str]


def joined(
    task: str, answers: Mapping[str, Mapping[str, Scored]], mend: str, ranked: bool = True
) -> tuple[Items, Table, list[str]]:
    """The items and the table of a task, and what is odd about them.

    Args:
      answers: language -> key of the question -> what was logged. A language may lack some.
      mend: what helps where the languages do not ask the same under one key.
      ranked: whether scores tell more than which answer was given (`scored`).

    Raises:
      DataError: languages that differ in the number of candidates of a question, or in what is right; no question that
        two languages have; or a name or a score that cannot be one.
    """
    every = dict.fromkeys(key for own in answers.values() for key in own)
    keys = [key for key in every if sum(key in own for own in answers.values()) > 1]
    if not keys:
        raise DataError.at(task, f"no question is there in two languages of {', '.join(answers)}", mend)
    items = Items(
        _item(key, {name: own[key] for name, own in answers.items() if key in own}, mend) for key in keys
    )
    shape = (len(items), len(answers), max(item.num_candidates for item in items))
    logp, size, mask = np.zeros(shape, np.float32), np.zeros(shape, np.int32), np.zeros(shape, bool)
    for n, key in enumerate(keys):
        for l, own in enumerate(answers.values()):
            if key in own:
                told = own[key]
                count = len(told.candidates)
                logp[n, l, :count], mask[n, l, :count] = told.scores, True
                size[n, l, :count] = [len(text.encode()) for text in told.candidates]
    length = np.zeros(shape, np.int32)  # in tokens: not logged
    ids, right = tuple(item.id for item in items), right_answers(items, shape[2])
    table = Table(ids, tuple(answers), logp, length, size, mask, right, ranked=ranked)
    odd = list(_odd(task, items, len(every), len(answers)))
    if not ranked:
        odd.append(f"{task}: nothing but the first answer is known: agreement and accuracy, no CLC")
        every = [told for own in answers.values() for told in own.values()]
        none = sum(told.candidates[told.scores.index(0)] == NOTHING for told in every)
        odd += [f"{task}: {none:,} answers are empty, and count as one that is wrong"] if none else []
        if len({item.num_candidates for item in items}) > 1:
            odd.append(f"{task}: with what else could be answered unknown, kappa, alpha and CAPA mean little")
    return items, table, odd


def _odd(task: str, items: Items, asked: int, languages: int) -> Iterator[str]:
    whole = sum(len(item.prompts) == languages for item in items)
    if whole < asked:
        yield f"{task}: {whole:,} of {asked:,} questions are there in all languages"
    right = [item.right for item in items]
    if unknown := right.count(()):
        yield f"{task}: what is right is not told of {unknown:,} of {len(items):,} questions"
    elif len(items) > 9 and len({*right}) == 1:
        yield f"{task}: every right answer is {right[0][0]}, which cannot show whether the languages ask the same"


def _item(key: str, own: Mapping[str, Scored], mend: str) -> ParallelItem:
    first = next(iter(own.values()))
    known = next((told for told in own.values() if told.right), first)
    check_names([key, *own], first.where)
    for told in own.values():
        if len(told.candidates) != len(first.candidates):
            reason = f"{len(told.candidates)} candidates, where {first.where} has {len(first.candidates)}"
            raise DataError.at(told.where, reason, mend)
        if told.right and set(told.right) != set(known.right):
            reason = f"the right answer is {_named(told.right)}, at {known.where} it is {_named(known.right)}"
            raise DataError.at(told.where, reason, mend)
        with np.errstate(over="ignore"):
            if not np.isfinite(np.array(told.scores, np.float32)).all():
                raise DataError.at(told.where, "a score is no finite number", "Have the model measured again")
    return ParallelItem(
        id=key,
        group=first.group,
        prompts={language: told.prompt for language, told in own.items()},
        candidates={language: told.candidates for language, told in own.items()},
        gold=known.right[0] if known.right else None,
        also=known.right[1:],
        where=first.where,
    )


def _named(right: Sequence[int]) -> str:
    return " and ".join(map(str, right))
