"""Scored answers of one task in several languages -> parallel items and their table."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from consistency_jax.data.items import DataError, Items, ParallelItem, check_names, right_answers
from consistency_jax.logs.matching import DECIMAL, Match, Said, spelling, tried
from consistency_jax.metrics.written import chrf
from consistency_jax.table import NEVER, Table


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

    answers: their texts, several where several were drawn; None: there was none.
    right: those that are right, or, where candidates are not told, words for what is right; () where that is not told.
    candidates: in one order in all languages; () where they are not told.
    where: file:line.
    """

    answers: tuple[str | None, ...]
    right: tuple[str, ...]
    candidates: tuple[str, ...]
    prompt: str
    group: str
    where: str


RIGHT = "right"  # key of what is right
# A candidate of a language that gave none: never right, and another one in each, so that silence is no agreement.
NOTHING = "(no answer)"


def joined_answers(
    task: str, answers: Mapping[str, Mapping[str, Given]], mend: str, match: Match | None = None
) -> tuple[Items, Table, list[str]]:
    """As `joined`, of answers alone.

    Raises:
      DataError: as `joined`; an answer, or a right one, that is none of its candidates, where there is no `match`; or
        languages in which another letter or number is right.
    """
    placed, known, notes = _as_scores(answers, mend, match)
    items, table, odd = joined(task, placed, mend, known)
    if known == "texts":
        table = dataclasses.replace(table, **_as_written(table, answers, match))
    return items, table, [*(f"{task}: {note}" for note in notes), *odd]


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


def _as_scores(
    answers: Mapping[str, Mapping[str, Given]], mend: str, match: Match | None
) -> tuple[dict[str, dict[str, Scored]], str, list[str]]:
    """Answers alone as scores, the log of a candidate's share of them; what is known of them (KNOWN); and what is odd.

    Where candidates are not told, or answers are none of them, what was answered to a question stands for them, what is
    right first. Answers are then the same as `spelling` has them, and as `match` says, and what is right is one answer,
    in whatever words of a language.
    """
    every = [told for own in answers.values() for told in own.values()]
    named = [told for told in every if told.candidates]
    odd = next((error for error in map(_loose, named) if error), None)
    if 0 < len(named) < len(every):
        mend = "Give them in all, or in none"
        odd = DataError.at(named[0].where, "candidates, which other lines do not have", mend)
    if odd and not match:
        raise odd
    loose = bool(odd) or not named
    keys = dict.fromkeys(key for own in answers.values() for key in own)
    asked = [{language: own[key] for language, own in answers.items() if key in own} for key in keys]
    notes: list[str] = []
    if loose:
        questions = [_Question(own, mend) for own in asked]
        if match:
            notes = tried(match, [question.right for question in questions])
            labels = [label for question in questions for own in question.labels.values() for label in own]
            known = np.mean([label is not None and not label.startswith("=") for label in labels])
            notes += [f"{known:.1%} of the answers are candidates, which says what they are"] if named else []
            _settle(questions, match)
        placed = [question.placed() for question in questions]
    else:
        placed = [_placed(own) for own in asked]
    found = {
        language: {key: own[language] for key, own in zip(keys, placed) if language in own}
        for language in answers
    }
    return found, "texts" if loose else "answers", notes


def _loose(told: Given) -> DataError | None:
    """Why an answer has no place among its candidates; None where all have."""
    for text in (*told.answers, *told.right):
        if text is not None and text not in told.candidates:
            reason = f"{text!r} is none of the candidates {', '.join(told.candidates)}"
            mend = "Give the text of a candidate of this language; or a --match, where answers are words of any kind"
            return DataError.at(told.where, reason, mend)
    return None


def _placed(asked: Mapping[str, Given]) -> dict[str, Scored]:
    """The places of answers to one question among its candidates."""
    return {
        language: _scored(
            told, told.candidates, told.answers, tuple(map(told.candidates.index, told.right)), own
        )
        for language, told, own in _with_places(asked)
    }


class _Question:
    """What was answered to one question in words: an answer is known by a label, RIGHT where it is right.

    labels: of each language's answers, None for none; said: by label, the first that said so.
    """

    def __init__(self, asked: Mapping[str, Given], mend: str):
        known = next((told for told in asked.values() if told.right), None)
        self.asked, self.same = asked, dict[str, str]()
        self.right = {
            name: Said(name, told.prompt, told.right[0]) for name, told in asked.items() if told.right
        }
        self.said = {RIGHT: next(iter(self.right.values()))} if known else {}
        self.labels: dict[str, list[str | None]] = {}
        for language, told in asked.items():
            right = {spelling(text) for text in told.right}
            if right and not right & {spelling(text) for text in known.right} and _one_for_all(told, known):
                reason = f"the right answer is {told.right[0]}, at {known.where} it is {known.right[0]}"
                raise DataError.at(told.where, reason, f"{mend}; or give candidates, where these are letters")
            places = {spelling(text): f"#{k}" for k, text in enumerate(told.candidates)} | dict.fromkeys(
                right, RIGHT
            )
            self.labels[language] = [
                None if text is None else places.get(own := spelling(text), f"={own}")
                for text in told.answers
            ]
            for label, text in zip(self.labels[language], told.answers):
                if label is not None:
                    self.said.setdefault(label, Said(language, told.prompt, text))

    def placed(self) -> dict[str, Scored]:
        """The places of the answers among all that was answered; what is right has the first."""
        labels = {
            language: [self.same.get(label, label) for label in own] for language, own in self.labels.items()
        }
        order = tuple(label for label in self.said if label not in self.same)
        found = {}
        for language, told, empty in _with_places(self.asked):
            said = ({RIGHT: told.right[0]} if told.right else {}) | dict(zip(labels[language], told.answers))
            right = (0,) if told.right else ()
            texts = tuple(said.get(label, self.said[label].text) for label in order) + (NOTHING,) * len(empty)
            found[language] = _scored(told, order, labels[language], right, empty)._replace(candidates=texts)
        return found


def _settle(questions: Sequence[_Question], match: Match) -> None:
    """Has a way to tell say which labels of a question are the same; many questions are asked about at once.

    An answer is held against what is right, in its own language where that is known; then, one after another, against
    those that came before it and were not the same.
    """
    wrong = [[label for label in question.said if label != RIGHT] for question in questions]
    asked = [(question, label) for question, own in zip(questions, wrong) if question.right for label in own]
    pairs = [
        (question.said[label], question.right.get(question.said[label].language, question.said[RIGHT]))
        for question, label in asked
    ]
    for (question, label), same in zip(asked, match.same(pairs), strict=True):
        if same:
            question.same[label] = RIGHT
    left = [[label for label in own if label not in question.same] for question, own in zip(questions, wrong)]
    for place in range(1, max(map(len, left), default=0)):
        asked = [
            (question, own[place], before)
            for question, own in zip(questions, left)
            for before in own[:place]
            if len(own) > place and before not in question.same
        ]
        pairs = [(question.said[label], question.said[before]) for question, label, before in asked]
        for (question, label, before), same in zip(asked, match.same(pairs), strict=True):
            if same:
                question.same.setdefault(label, before)


def _with_places(asked: Mapping[str, Given]) -> Iterator[tuple[str, Given, list[bool]]]:
    """Each language with its places behind the candidates: one for each language that gave no answer, its own True."""
    empty = [language for language, told in asked.items() if None in told.answers]
    for language, told in asked.items():
        yield language, told, [own == language for own in empty]


def _scored(
    told: Given,
    names: tuple[str, ...],
    answers: Sequence[str | None],
    right: tuple[int, ...],
    empty: Sequence[bool],
) -> Scored:
    counts = Counter(answers)
    share = {answer: math.log(count / len(answers)) for answer, count in counts.items()}
    scores = [share.get(name, NEVER) for name in names] + [share[None] if own else None for own in empty]
    texts = names + (NOTHING,) * len(empty)
    return Scored(told.prompt, texts, tuple(scores), right, told.group, told.where)


def _one_for_all(told: Given, known: Given) -> bool:
    """Whether what is right is a letter or a number in both, which is no word of a language."""
    return all(
        any(len(own) == 1 and own.isascii() or DECIMAL.fullmatch(own) for own in map(spelling, each.right))
        for each in (told, known)
    )


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
        silent = [
            math.exp(score)
            for told in every
            for text, score in zip(told.candidates, told.scores)
            if text == NOTHING and score is not None
        ]
        if silent:
            share = f"{task}: {sum(silent):,.4g} of {len(every):,} answers are empty"
            odd.append(f"{share}: wrong, and no agreement")
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
