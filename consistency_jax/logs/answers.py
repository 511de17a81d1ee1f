"""Scored answers of one task in several languages -> parallel items and their table."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from consistency_jax.data.items import (
    DataError,
    Items,
    ParallelItem,
    check_characters,
    check_names,
    right_answers,
)
from consistency_jax.logs.matching import Match
from consistency_jax.logs.told import Given, Scored
from consistency_jax.logs.words import as_scores
from consistency_jax.metrics.written import chrf
from consistency_jax.table import Table


def joined_answers(
    task: str, answers: Mapping[str, Mapping[str, Given]], mend: str, match: Match | None = None
) -> tuple[Items, Table, list[str]]:
    """As `joined`, of answers alone; errors are those of `joined` and of `as_scores`."""
    keys = dict.fromkeys(key for own in answers.values() for key in own)
    _shared(task, answers, mend)
    asked = [{language: own[key] for language, own in answers.items() if key in own} for key in keys]
    placed, known, notes = as_scores(asked, mend, match)
    scores = {
        language: {key: own[language] for key, own in zip(keys, placed) if language in own}
        for language in answers
    }
    items, table, odd = joined(task, scores, mend, known)
    if known == "texts":
        table = dataclasses.replace(table, **_as_written(table, answers, match))
        items = items.only(_with_targets(item, answers) for item in items)
    given = [text for own in answers.values() for told in own.values() for text in told.answers]
    if silent := given.count(None):
        odd.append(f"{task}: {silent:,} of {len(given):,} answers are empty: wrong, and no agreement")
    return items, table, [*(f"{task}: {note}" for note in notes), *odd]


def _shared(task: str, answers: Mapping[str, Mapping[str, object]], mend: str) -> list[str]:
    """The questions that two languages have.

    Raises:
      DataError: there is none.
    """
    every = dict.fromkeys(key for own in answers.values() for key in own)
    keys = [key for key in every if sum(key in own for own in answers.values()) > 1]
    if not keys:
        raise DataError.at(task, f"no question is there in two languages of {', '.join(answers)}", mend)
    return keys


def _with_targets(item: ParallelItem, answers: Mapping[str, Mapping[str, Given]]) -> ParallelItem:
    """The item with what is right, by which audits of models are known to have asked the same."""
    right = {language: answers[language][item.id].right for language in item.prompts}
    return dataclasses.replace(item, targets={language: own for language, own in right.items() if own})


def _as_written(
    table: Table, answers: Mapping[str, Mapping[str, Given]], match: Match | None
) -> dict[str, np.ndarray]:
    """How near answers are to what is right, and their vectors; means over several answers."""
    cells = [
        (n, place, answers[language][key])
        for n, key in enumerate(table.ids)
        for place, language in enumerate(table.languages)
        if key in answers[language]
    ]
    found = {"chrf": np.full(table.mask.shape[:2], np.nan, np.float32)}
    for n, place, told in cells:
        if told.right:
            found["chrf"][n, place] = np.mean([chrf(text or "", told.right) for text in told.answers])
    said = [(n, place, [text for text in told.answers if text]) for n, place, told in cells]
    if match and match.encode and (texts := [text for *_, own in said for text in own]):
        width = match.encode(texts).shape[1]
        found["vectors"] = np.full((*table.mask.shape[:2], width), np.nan, np.float32)
        for n, place, own in said:
            if own:
                found["vectors"][n, place] = match.encode(own).mean(0)
    return found


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
    keys = _shared(task, answers, mend)
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
    every = {key for own in answers.values() for key in own}
    odd = list(_odd(task, items, len(every), len(answers), known))
    if known != "scores":
        less = " and with what else could be answered unknown, no kappas" * (known == "texts")
        odd.append(f"{task}: nothing but the answer is known: agreement and accuracy, no CLC{less}")
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
        blind = ", so that nothing shows whether the languages ask the same" * (unknown == len(items))
        yield f"{task}: what is right is not told of {unknown:,} of {len(items):,} questions{blind}"
    elif known != "texts" and len(items) > 9 and len({*right}) == 1:
        yield f"{task}: every right answer is {right[0][0]}, which cannot show whether the languages ask the same"


def _item(key: str, own: Mapping[str, Scored], mend: str) -> ParallelItem:
    first = next(iter(own.values()))
    known = next((told for told in own.values() if told.right), first)
    check_names([key, *own], first.where)
    for told in own.values():
        texts = (("the prompt", told.prompt), *(("an answer", text) for text in told.candidates))
        check_characters([("the id", key), ("the group", told.group), *texts], told.where)
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
