"""Answers alone -> the scores of a table: 0 for what was answered; of several answers the log of each one's share."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from consistency_jax.data.items import DataError
from consistency_jax.logs.matching import SPELLING, Match, Said, is_number, spelling, tried
from consistency_jax.logs.told import Given, Scored
from consistency_jax.table import NEVER

# A candidate of a language that gave none: never right, and another one in each, so that silence is no agreement.
NOTHING = "(no answer)"


class Label(NamedTuple):
    """What an answer is: right; a candidate that is not; or words, as they are spelt."""

    kind: str
    text: str = ""


RIGHT = Label("right")
Questions = Sequence[Mapping[str, Given]]  # language -> what was answered, of each question


def as_scores(
    asked: Questions, mend: str, match: Match | None
) -> tuple[list[dict[str, Scored]], str, list[str]]:
    """The scores of each question; what is known of it all (`table.KNOWN`); and what is odd.

    Where candidates are not told, or answers are none of them, what was answered to a question stands for them, what is
    right first. Of words those are one answer that are spelt alike, and those that `match` holds to be the same. What
    is right is one answer, in whatever words of a language.

    Raises:
      DataError: an answer, or a right one, that is none of its candidates, where there is no `match`; languages that
        differ in the number of candidates, or in what is right.
    """
    every = [told for own in asked for told in own.values()]
    named = [told for told in every if told.candidates]
    for told in named:
        if error := _unplaced(told, told.right, ""):  # a match tells what answers are, not what is right
            raise error
    free = "; or a --match, where answers are words of any kind"
    odd = next(filter(None, (_unplaced(told, told.answers, free) for told in named)), None)
    if 0 < len(named) < len(every):
        reason = "candidates, which other lines do not have"
        odd = DataError.at(named[0].where, reason, "Give them in all, or in none")
    if odd and not match:
        raise odd
    if named and not odd:
        return [_placed(own) for own in asked], "answers", []
    notes = _clashes(asked, mend)
    questions = [_Question(own) for own in asked]
    borrowed = sum(
        bool(question.right[name]) and not own.right
        for question in questions
        for name, own in question.asked.items()
    )
    if borrowed:
        notes.append(
            f"of {borrowed:,} answers it is not told what is right in their language: the others' words are taken"
        )
    if match and match.name != SPELLING:
        shared = [question for question in questions if len(question.asked) > 1]
        known = [
            {language: question.right[language] for language, own in question.asked.items() if own.right}
            for question in shared
        ]
        notes += tried(match, known)
        _settle(shared, match)
        notes += match.odd() if match.odd else []
    if named:
        labels = [
            label for question in questions for own in question.labels.values() for label in own if label
        ]
        placed = sum(label.kind != "words" for label in labels)
        notes.append(f"{placed:,} of {len(labels):,} answers are candidates, or are held to be")
    return [question.placed() for question in questions], "texts", notes


def _unplaced(told: Given, texts: Sequence[str | None], more: str) -> DataError | None:
    """Why a text has no place among the candidates, with what more may help; None where all have."""
    for text in texts:
        if text is not None and text not in told.candidates:
            reason = f"{text!r} is none of the candidates {', '.join(told.candidates)}"
            return DataError.at(told.where, reason, f"Give the text of a candidate of this language{more}")
    return None


def _placed(asked: Mapping[str, Given]) -> dict[str, Scored]:
    """The places of answers to one question among its candidates."""
    agreed = _agreed(asked)
    return {
        language: _scored(
            told,
            told.candidates,
            told.answers,
            agreed if agreed and told.right else tuple(map(told.candidates.index, told.right)),
            own,
        )
        for language, told, own in _with_places(asked)
    }


def _clashes(asked: Questions, mend: str) -> list[str]:
    """A note on right answers that are another letter or number in two languages: neither is a word of a language.

    Raises:
      DataError: most are; the languages do not ask the same.
    """
    found, count = [], 0
    for own in asked:
        told = {language: each for language, each in own.items() if each.right and not each.candidates}
        spelt = {
            language: {spelling(text, language) for text in each.right} for language, each in told.items()
        }
        bare = [language for language, texts in spelt.items() if any(map(_is_no_word, texts))]
        count += len(bare) > 1
        for other in bare[1:]:
            if not spelt[other] & spelt[bare[0]]:
                one, first = told[other], told[bare[0]]
                reason = f"the right answer is {one.right[0]}, at {first.where} it is {first.right[0]}"
                found.append(
                    DataError.at(one.where, reason, f"{mend}; or give candidates, where these are letters")
                )
                break
    if 2 * len(found) > count:
        raise found[0]
    told = f"{len(found):,} right answers are other numbers or letters in two languages, the first: "
    return [told + str(error) for error in found[:1]]


def _is_no_word(text: str) -> bool:
    """Whether a `spelling` is a letter or a number."""
    return len(text) == 1 and text.isascii() or is_number(text)


class _Question:
    """What was answered to one question in words.

    labels: of each language's answers, None for none; right: of each language the texts that are, where none is told
      those of the others; open: the words that are no candidate, by language and label; said: the first of each label.
    """

    def __init__(self, asked: Mapping[str, Given]):
        self.asked = asked
        known = [Said(language, own.prompt, text) for language, own in asked.items() for text in own.right]
        places = _right_places(asked)
        self.right = {
            language: [Said(language, own.prompt, text) for text in own.right or _at(own, places)] or known
            for language, own in asked.items()
        }
        tables = {language: _candidates(own, language) for language, own in asked.items()}
        # A candidate may be called as another language calls it; what is right has to be said in one's own.
        called: dict[str, set[Label]] = {}
        for spelt, label in (pair for table in tables.values() for pair in table.items()):
            called.setdefault(spelt, set()).add(label)
        right = {Label("candidate", str(k)) for k in places}
        abroad = {spelt: min(own) for spelt, own in called.items() if len(own) == 1 and not own & right}
        self.said: dict[Label, Said] = {RIGHT: known[0]} if known else {}
        self.labels: dict[str, list[Label | None]] = {}
        self.open: dict[tuple[str, Label], Said] = {}
        for language, own in asked.items():
            called_here = {spelling(text, language) for text in own.candidates}
            table = {spelt: label for spelt, label in abroad.items() if spelt not in called_here}
            wrong = tables[language].keys() - {
                spelling(own.candidates[k], language) for k in places if own.candidates
            }
            texts = {said.text: RIGHT for said in self.right[language]}
            spelt_right = {spelling(said.text, said.language) for said in self.right[language]} - wrong
            table |= tables[language] | dict.fromkeys(spelt_right, RIGHT)
            # Of two that are called alike neither is meant more than the other.
            exact = {
                text: Label("candidate", str(k))
                for k, text in enumerate(own.candidates)
                if own.candidates.count(text) == 1
            } | texts
            self.labels[language] = []
            for text in own.answers:
                spelt = None if text is None else spelling(text, language)
                label = None if text is None else exact.get(text) or table.get(spelt, Label("words", spelt))
                self.labels[language].append(label)
                if label:
                    said = Said(language, own.prompt, text)
                    self.said.setdefault(label, said)
                    if label.kind == "words":
                        self.open.setdefault((language, label), said)

    def become(self, verdicts: Mapping[tuple[str, Label], Label]) -> None:
        """Puts other labels in the place of words."""
        self.labels = {
            language: [verdicts.get((language, label), label) for label in own]
            for language, own in self.labels.items()
        }
        self.open = {place: said for place, said in self.open.items() if place not in verdicts}

    def placed(self) -> dict[str, Scored]:
        """The places of the answers among all that was answered; what is right has the first."""
        told = [label for own in self.labels.values() for label in own if label]
        order = tuple(dict.fromkeys([*(label for label in self.said if label == RIGHT), *told]))
        found = {}
        for language, own, empty in _with_places(self.asked):
            said = ({RIGHT: own.right[0]} if own.right else {}) | dict(
                zip(self.labels[language], own.answers)
            )
            texts = tuple(said.get(label, self.said[label].text) for label in order) + (NOTHING,) * len(empty)
            right = (0,) if own.right else ()
            found[language] = _scored(own, order, self.labels[language], right, empty)._replace(
                candidates=texts
            )
        return found


def _agreed(asked: Mapping[str, Given]) -> tuple[int, ...]:
    """The places of what is right, where all languages that tell it agree, else (). Where two candidates are called
    alike in one language, the others tell which it is."""
    told = [own for own in asked.values() if own.right and own.candidates]
    every = [{k for k, text in enumerate(own.candidates) if text in own.right} for own in told]
    common = set.intersection(*every) if every else set()
    for own, places in zip(told, every):
        if not {own.candidates[k] for k in places} <= {own.candidates[k] for k in common}:
            return ()
    return tuple(sorted(common))


def _right_places(asked: Mapping[str, Given]) -> list[int]:
    """The places of what is right among the candidates; [] where these are not told.

    Raises:
      DataError: languages that differ in the number of candidates, or in these places.
    """
    found: list[int] = []
    agreed = list(_agreed(asked))
    named = [own for own in asked.values() if own.candidates]
    for own in named:
        places = [k for k, text in enumerate(own.candidates) if text in own.right]
        differ = places and found and places != found and not agreed
        if len(own.candidates) != len(named[0].candidates) or differ:
            told = [
                f"{len(each.candidates)} candidates, right {', '.join(each.right)}"
                for each in (own, named[0])
            ]
            reason = f"{told[0]}; at {named[0].where} {told[1]}"
            raise DataError.at(own.where, reason, "Give the same candidates in one order, in all languages")
        found = found or places
    return agreed or found


def _candidates(own: Given, language: str) -> dict[str, Label]:
    """Candidates by their spelling, but for those that are spelt alike: C and C#."""
    spelt = [spelling(text, language) for text in own.candidates]
    return {text: Label("candidate", str(k)) for k, text in enumerate(spelt) if spelt.count(text) == 1}


def _at(own: Given, places: Sequence[int]) -> list[str]:
    return [own.candidates[k] for k in places] if own.candidates else []


def _settle(questions: Sequence[_Question], match: Match) -> None:
    """Has a way to tell say what words are: right, in their language; or a candidate of theirs, if one alone fits; or,
    of what is left, one answer with others that it holds to be the same, and what these are the same as.

    Candidates are what they are. Each of the three is asked of all questions at once.
    """
    asked = [
        (question, place, (said, right))
        for question in questions
        for place, said in question.open.items()
        for right in question.right[place[0]]
    ]
    for question, fits in _fits(questions, asked, match):
        question.become({place: RIGHT for place in fits})
    asked = [
        (question, (*place, Label("candidate", str(k))), (said, said._replace(text=text)))
        for question in questions
        for place, said in question.open.items()
        for k, text in enumerate(question.asked[place[0]].candidates)
        if text not in {right.text for right in question.right[place[0]]}
    ]
    for question, fits in _fits(questions, asked, match):
        counts = Counter(fit[:2] for fit in fits)
        found = {fit[:2]: fit[2] for fit in fits if counts[fit[:2]] == 1}
        for place, label in found.items():
            question.said.setdefault(label, question.open[place])
        question.become(found)
    asked = [
        (question, (one, two), (question.open[one], question.open[two]))
        for question in questions
        for one, two in combinations(question.open, 2)
        if one[1] != two[1]
    ]
    for question, fits in _fits(questions, asked, match):
        same = {label: label for _, label in question.open}
        for (_, one), (_, two) in fits:
            old, new = sorted((same[one], same[two]), key=list(same).index, reverse=True)
            same = {label: new if kept == old else kept for label, kept in same.items()}
        question.become({(language, label): same[label] for language, label in question.open})


def _fits(
    questions: Sequence[_Question], asked: Sequence[tuple[_Question, tuple, tuple[Said, Said]]], match: Match
) -> list[tuple[_Question, list[tuple]]]:
    """Of each question the keys of its pairs that are the same."""
    verdicts = match.same([pair for *_, pair in asked])
    found: dict[int, list[tuple]] = {id(question): [] for question in questions}
    for (question, key, _), same in zip(asked, verdicts, strict=True):
        if same:
            found[id(question)].append(key)
    return [(question, found[id(question)]) for question in questions]


def _with_places(asked: Mapping[str, Given]) -> Iterator[tuple[str, Given, list[bool]]]:
    """Each language with its places behind the candidates: one for each language that gave no answer, its own True."""
    empty = [language for language, told in asked.items() if None in told.answers]
    for language, told in asked.items():
        yield language, told, [own == language for own in empty]


def _scored(
    told: Given, names: Sequence, answers: Sequence, right: tuple[int, ...], empty: Sequence[bool]
) -> Scored:
    share = {answer: math.log(count / len(answers)) for answer, count in Counter(answers).items()}
    scores = [share.get(name, NEVER) for name in names] + [share[None] if own else None for own in empty]
    texts = (*map(str, names), *[NOTHING] * len(empty))
    return Scored(told.prompt, texts, tuple(scores), right, told.group, told.where)
