"""Scored answers of one task in several languages -> parallel items and their table."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from consistency_jax.data.items import DataError, Items, ParallelItem, check_names, right_answers
from consistency_jax.metrics.generation import normalised
from consistency_jax.table import Table


class Scored(NamedTuple):
    """One question in one language, as it was logged.

    scores: of each candidate, higher is better: log-probabilities, nats; None of one that the language does not have.
    right: indices of those that are right; () where that is not told.
    where: file:line.
    """

    prompt: str
    candidates: tuple[str, ...]
    scores: tuple[float | None, ...]
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


RIGHT = "right"  # key of what is right
# A candidate of a language that gave none: never right, and another one in each, so that silence is no agreement.
NOTHING = "(no answer)"
_THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_DECIMAL = re.compile(r"-?\d+(?:[.,]\d+)?")


def scored(answers: Mapping[str, Mapping[str, Given]], mend: str) -> tuple[dict[str, dict[str, Scored]], str]:
    """Answers alone as scores, 0 for the one that was given and -1 for all others, and what is known of them (KNOWN).

    Where candidates are not told, what was answered to a question stands for them, what is right first. Answers are
    then the same as `spelling` has them, and what is right is one answer, in whatever words of a language.

    Raises:
      DataError: an answer, or a right one, that is none of its candidates; or languages in which another letter or
        number is right.
    """
    every = [told for own in answers.values() for told in own.values()]
    known = "answers" if all(told.candidates for told in every) else "texts"
    mixed = next((told for told in every if told.candidates), None)
    if known == "texts" and mixed:
        raise DataError.at(
            mixed.where, "candidates, which other lines do not have", "Give them in all, or in none"
        )
    found: dict[str, dict[str, Scored]] = {language: {} for language in answers}
    for key in dict.fromkeys(key for own in answers.values() for key in own):
        asked = {language: own[key] for language, own in answers.items() if key in own}
        for language, told in (_placed(asked) if known == "answers" else _together(asked, mend)).items():
            found[language][key] = told
    return found, known


def _placed(asked: Mapping[str, Given]) -> dict[str, Scored]:
    """The places of answers to one question among its candidates."""
    for told in asked.values():
        for text in (told.answer, *told.right):
            if text is not None and text not in told.candidates:
                reason = f"{text!r} is none of the candidates {', '.join(told.candidates)}"
                raise DataError.at(told.where, reason, "Give the text of a candidate of this language")
    return {
        language: _scored(
            told, told.candidates, told.answer, tuple(map(told.candidates.index, told.right)), place
        )
        for language, told, place in _with_places(asked)
    }


def _together(asked: Mapping[str, Given], mend: str) -> dict[str, Scored]:
    """The places of answers to one question among all that was answered to it; what is right has the first."""
    known = next((told for told in asked.values() if told.right), None)
    names: dict[str, str] = {RIGHT: known.right[0]} if known else {}
    answers: dict[str, str | None] = {}
    for language, told in asked.items():
        right = {spelling(text) for text in told.right}
        if right and not right & {spelling(text) for text in known.right} and _one_for_all(told, known):
            reason = f"the right answer is {told.right[0]}, at {known.where} it is {known.right[0]}"
            raise DataError.at(told.where, reason, f"{mend}; or give candidates, where these are letters")
        own = None if told.answer is None else spelling(told.answer)
        answers[language] = None if own is None else RIGHT if own in right else f"={own}"
        if own is not None:
            names.setdefault(answers[language], told.answer)
    order = tuple(names)
    return {
        language: _scored(told, order, answers[language], (0,) if told.right else (), place)._replace(
            candidates=_in_own_words(told, names, answers[language]) + (NOTHING,) * len(place)
        )
        for language, told, place in _with_places(asked)
    }


def _with_places(asked: Mapping[str, Given]) -> Iterator[tuple[str, Given, list[bool]]]:
    """Each language with its places behind the candidates: one for each language that gave no answer, its own True."""
    empty = [language for language, told in asked.items() if told.answer is None]
    for language, told in asked.items():
        yield language, told, [own == language for own in empty]


def _scored(
    told: Given, names: tuple[str, ...], answer: str | None, right: tuple[int, ...], empty: Sequence[bool]
) -> Scored:
    scores = [0.0 if name == answer else -1.0 for name in names] + [0.0 if own else None for own in empty]
    texts = names + (NOTHING,) * len(empty)
    return Scored(told.prompt, texts, tuple(scores), right, told.group, told.where)


def _in_own_words(told: Given, names: Mapping[str, str], answer: str | None) -> tuple[str, ...]:
    own = {RIGHT: told.right[0]} if told.right else {}
    own |= {answer: told.answer} if answer is not None else {}
    return tuple((dict(names) | own).values())


def _one_for_all(told: Given, known: Given) -> bool:
    """Whether what is right is a letter or a number in both, which is no word of a language."""
    return all(
        any(len(own) == 1 and own.isascii() or _DECIMAL.fullmatch(own) for own in map(spelling, each.right))
        for each in (told, known)
    )


def spelling(text: str) -> str:
    """A text without what does not make it another answer (`metrics.normalised`); a number as its value, in any digits:
    1,000.0 and $1000 as 1000, 1,5 as 1.5."""
    folded = unicodedata.normalize("NFKC", text).strip()
    number = "".join(str(unicodedata.decimal(letter, letter)) for letter in folded)
    number = number.strip("$€£¥% ").rstrip(". ").replace("−", "-")
    number = number.replace(",", "") if _THOUSANDS.fullmatch(number) else number
    if _DECIMAL.fullmatch(number):
        return f"{Decimal(number.replace(',', '.')).normalize():f}"
    if any(letter.isdecimal() for letter in folded):  # 10:30, 3/4: what parts digits is not dropped
        return " ".join(folded.casefold().split()).strip(".,;:!?()[]'\" ")
    return normalised(text)


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
    task: str, answers: Mapping[str, Mapping[str, Scored]], mend: str, known: str = "scores"
) -> tuple[Items, Table, list[str]]:
    """The items and the table of a task, and what is odd about them.

    Args:
      answers: language -> key of the question -> what was logged. A language may lack some.
      mend: what helps where the languages do not ask the same under one key.
      known: what scores tell, of `table.KNOWN`.

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
                mask[n, l, :count] = [score is not None for score in told.scores]
                logp[n, l, :count] = [score or 0.0 for score in told.scores]
                size[n, l, :count] = [len(text.encode()) for text in told.candidates]
    length = np.zeros(shape, np.int32)  # in tokens: not logged
    ids, right = tuple(item.id for item in items), right_answers(items, shape[2])
    table = Table(ids, tuple(answers), logp, length, size, mask, right, known=known)
    odd = list(_odd(task, items, len(every), len(answers), known))
    if known != "scores":
        less = " and with what else could be answered unknown, no kappas" * (known == "texts")
        odd.append(f"{task}: nothing but the answer is known: agreement and accuracy, no CLC{less}")
        every = [told for own in answers.values() for told in own.values()]
        none = sum(told.candidates[told.scores.index(0)] == NOTHING for told in every)
        silent = f"{task}: {none:,} of {len(every):,} answers are empty: wrong, and no agreement"
        odd += [silent] if none else []
    elif (table.logp[table.mask] > 0).any():
        odd.append(
            f"{task}: scores above 0 are no log-probabilities; divergences and what is drawn mean nothing"
        )
    return items, table, odd


def _odd(task: str, items: Items, asked: int, languages: int, known: str) -> Iterator[str]:
    whole = sum(len(item.prompts) == languages for item in items)
    if whole < asked:
        yield f"{task}: {whole:,} of {asked:,} questions are there in all languages"
    right = [item.right for item in items]
    if unknown := right.count(()):
        yield f"{task}: what is right is not told of {unknown:,} of {len(items):,} questions"
    elif known != "texts" and len(items) > 9 and len({*right}) == 1:
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
            if not np.isfinite(np.array([score or 0.0 for score in told.scores], np.float32)).all():
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
