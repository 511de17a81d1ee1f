"""Parallel items: one question, asked in several languages, with candidate answers aligned by index.

Everything downstream (trees, tables, losses, metrics) relies on what `validate` promises: candidate k means
the same thing in every language, every text holds something and is UTF-8, and a cloze has exactly one mask.
"""

import contextlib
import gc
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import chain

import numpy as np

from consistency_jax.errors import UserError

MASK = "<mask>"
# Who decides about the space between a prompt and its answer; each source states one as its `leading_space`.
SPACINGS = {
    "candidate": "every candidate begins with the space, in every language",
    "mask": "the sentence around the mask has the space or not, as its language writes; no candidate begins with one",
    "either": "of a cloze as in 'mask', of any other prompt as in 'candidate'",
    "written": "as the file has it, prompt and candidate joined as they are",
}
# Scripts without spaces between words, as Unicode names begin.
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
LONGEST_NAME = 1000  # characters: a table holds every id at the width of the longest


class DataError(UserError):
    """Bad data. The message reads `place: reason. mend`; the place is `file:line` where there is a line."""

    @classmethod
    def at(cls, where: str, reason: str, mend: str) -> "DataError":
        """The error for `where`, with what is wrong and what to do about it."""
        return cls(f"{where}: {reason}. {mend}")


@dataclass(frozen=True)
class ParallelItem:
    """One question in several languages.

    Attributes:
        id: unique within its data set and stable over filters and splits.
        group: what to average or split by (a relation, a subject), "" where unknown.
        prompts: language -> prompt; `<mask>` in it marks a cloze, whose gap the candidate fills.
        candidates: language -> K strings, put after the prompt (or into the gap) exactly as they are. A bare prompt
            (an instruction, a safety prompt) has none, K = 0 in every language; see `facts.require_answers`.
        gold: index of the true candidate, None where unknown (DCO never needs it); of several, that which is learnt.
        context: language -> text put before the prompt, with a blank line between them.
        written: whether the candidates are answers that someone wrote, whole, and not names to be ranked.
        also: indices of further candidates that are right, in no order.
        targets: language -> texts of which each is right, of a bare prompt that is answered in words; {}: not known.
        where: the place that it was read from, `file:line`, for messages; "" where there is none.
    """

    id: str
    group: str
    prompts: Mapping[str, str]
    candidates: Mapping[str, tuple[str, ...]]
    gold: int | None = None
    context: Mapping[str, str] | None = None
    written: bool = False
    also: tuple[int, ...] = ()
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    where: str = field(default="", compare=False, repr=False)

    @property
    def languages(self) -> tuple[str, ...]:
        """The item's languages, in the order of its prompts."""
        return tuple(self.prompts)

    @property
    def num_candidates(self) -> int:
        """K, the same in every language."""
        return len(next(iter(self.candidates.values())))

    @property
    def right(self) -> tuple[int, ...]:
        """Every candidate that is right, the gold one first; none where that is unknown."""
        return () if self.gold is None else (self.gold, *self.also)

    @property
    def wrong(self) -> tuple[int, ...]:
        """Every candidate that is not right, nor in some language spelt as one that is."""
        every, texts = range(self.num_candidates), self.candidates.values()
        return tuple(
            k for k in every if not any(own[k] == own[right] for own in texts for right in self.right)
        )


class ItemSequence:
    """Items, with what was left out and what was odd.

    Attributes:
        skipped: one message a row left out because `on_error` was "skip".
        warnings: one message a row that is odd but was kept.
    """

    skipped: list[str]
    warnings: list[str]

    def __repr__(self) -> str:
        """In a few lines: how many, in which languages, and the first."""
        left = [f"{len(own):,} {name}" for name in ("skipped", "warnings") if (own := getattr(self, name))]
        told = f"{len(self):,} items in {len(self.languages)} languages ({', '.join(self.languages)})"
        told = ", ".join([told, *left])
        if not self:
            return f"Items({told})"
        first, language = self[0], next(iter(self[0].prompts))
        answers = " | ".join(text.strip() for text in first.candidates[language][:5])
        return f"Items({told}; the first, {first.id!r}: {first.prompts[language][-80:]!r} -> {answers})"

    def _repr_html_(self) -> str:
        """The first ones as a table, in notebooks: a column a language, the right answers bold."""
        languages, rows = self.languages, []
        for item in self[:10]:
            cells = [item.id]
            for language in languages:
                answers = [
                    f"<b>{escape(text)}</b>" if k in item.right else escape(text)
                    for k, text in enumerate(item.candidates.get(language, ()))
                ]
                prompt = escape(open_prompt(item, language)) if language in item.prompts else ""
                cells.append(f"{prompt}<br>{' | '.join(answers)}")
            rows.append("".join(f"<td>{cell}</td>" for cell in [escape(cells[0]), *cells[1:]]))
        head = "".join(f"<th>{escape(name)}</th>" for name in ("id", *languages))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<p>{len(self):,} items</p><table><tr>{head}</tr>{body}</table>"

    def only(self, items: Iterable[ParallelItem]) -> "Items":
        """These of them, with what was left out and odd of all."""
        return Items(items, skipped=self.skipped, warnings=self.warnings)

    def take(self, places: Iterable[int]) -> "ItemSequence":
        """Those at these places, in this order, with what was left out and odd of all."""
        return self.only(self[n] for n in places)

    @property
    def languages(self) -> tuple[str, ...]:
        """Every language that some item has, in order of first appearance."""
        return tuple(dict.fromkeys(language for item in self for language in item.prompts))


class Items(ItemSequence, list[ParallelItem]):
    """What `load_items` returns: a list of items, with what was left out and what was odd."""

    def __init__(
        self,
        items: Iterable[ParallelItem] = (),
        *,
        skipped: Iterable[str] = (),
        warnings: Iterable[str] = (),
    ):
        super().__init__(items)
        self.skipped = list(skipped)
        self.warnings = list(warnings)


def pick(
    item: ParallelItem,
    candidates: Sequence[int],
    *,
    languages: Sequence[str] | None = None,
    suffix: str = "",
) -> ParallelItem:
    """The item with these of its candidates, in this order, and these of its languages (None: all).

    What is right follows its candidates, and is unknown where none of them is; `suffix` is put behind the id.
    """
    languages = item.languages if languages is None else languages
    context = item.context and {k: text for k, text in item.context.items() if k in languages}
    right = [candidates.index(k) for k in item.right if k in candidates]
    return ParallelItem(
        id=item.id + suffix,
        group=item.group,
        prompts={language: item.prompts[language] for language in languages},
        candidates={
            language: tuple(item.candidates[language][k] for k in candidates) for language in languages
        },
        gold=right[0] if right else None,
        context=context or None,
        written=item.written,
        also=tuple(right[1:]),
        targets={language: texts for language, texts in item.targets.items() if language in languages},
        where=item.where,
    )


def right_answers(items: Sequence[ParallelItem], candidates: int) -> np.ndarray:
    """i32[n], the index of each item's right candidate, -1 unknown; where some item has several, bool[n, K], which of
    this many candidates are right. Metrics take either."""
    if not any(item.also for item in items):
        return np.array([-1 if item.gold is None else item.gold for item in items], np.int32)
    return np.array([[k in item.right for k in range(candidates)] for item in items])


def doubled_candidates(item: ParallelItem) -> list[str]:
    """One description for each language in which two candidates of the item are the same string."""
    found = []
    for language, candidates in item.candidates.items():
        if len(set(candidates)) < len(candidates):
            doubled = [c for c in candidates if candidates.count(c) > 1]
            found.append(f"language {language!r} holds the candidate {doubled[0]!r} more than once")
    return found


def validate(item: ParallelItem, where: str, *, bare: bool = False) -> None:
    """Checks what the rest of the package relies on; `doubled_candidates` is for each reader to judge.

    Args:
        item: the item to check.
        where: its place, `file:line`, for the message.
        bare: True for prompts that have no candidates.

    Raises:
        DataError: naming the place, the reason and the mend.
    """
    _check_characters(item, where)
    check_names([item.id, *item.prompts, *item.candidates], where)
    if not item.prompts:
        raise DataError.at(where, f"item {item.id!r} has no language", "Give at least one prompt")
    if set(item.prompts) != set(item.candidates):
        odd = sorted(set(item.prompts) ^ set(item.candidates))
        raise DataError.at(
            where,
            f"prompts and candidates do not have the same languages (only one of them has {', '.join(odd)})",
            "Give both for every language, or neither",
        )
    first = item.languages[0]
    count = len(item.candidates[first])
    bare = bare or bool(item.targets)
    if count == 0 and not bare:
        raise DataError.at(where, f"language {first!r} has no candidates", "Give at least one")
    for language, prompt in item.prompts.items():
        candidates = item.candidates[language]
        context = (item.context or {}).get(language, "")
        if not (prompt.replace(MASK, "") + context).strip() or not prompt.strip():
            raise DataError.at(
                where, f"the prompt in {language!r} is empty", "Write the question, or drop it"
            )
        if prompt.count(MASK) > 1 and not bare:
            raise DataError.at(
                where, f"the prompt in {language!r} has {prompt.count(MASK)} {MASK}", "Keep one mask a prompt"
            )
        if isinstance(candidates, str):
            reason = f"the candidates in {language!r} are one text, {candidates!r}"
            raise DataError.at(where, reason, "Give several texts: (candidate, candidate)")
        if len(candidates) != count:
            raise DataError.at(
                where,
                f"{language!r} has {len(candidates)} candidates, {first!r} has {count}",
                "Candidates are aligned by index: give every language the same number, in the same order",
            )
        for k, candidate in enumerate(candidates):
            if not candidate.strip():
                raise DataError.at(
                    where, f"candidate {k} in {language!r} is empty", "Write it, or drop the item"
                )
    if len(set(item.right)) < len(item.right):
        doubled = next(k for k in item.right if item.right.count(k) > 1)
        raise DataError.at(where, f"gold names candidate {doubled} twice", "Name each right one once")
    if item.also and item.gold is None:
        raise DataError.at(where, f"gold is null, and further right ones are {item.also}", "Name one in gold")
    if not all(0 <= k < count for k in item.right):
        told = ", ".join(map(str, item.right))
        mend = f"Use an index from 0 to {count - 1}, a list of several, or null"
        raise DataError.at(where, f"gold is {told}, with {count} candidates", mend)
    for language, texts in item.targets.items():
        if count or language not in item.prompts or not texts or not all(text.strip() for text in texts):
            reason = f"targets in {language!r} are {list(texts)!r:.60}"
            mend = "Give texts that are right, for languages with a prompt, and no candidates beside them"
            raise DataError.at(where, reason, mend)
    if item.context is not None and set(item.context) - set(item.prompts):
        odd = sorted(set(item.context) - set(item.prompts))
        raise DataError.at(where, f"context has languages without a prompt ({', '.join(odd)})", "Drop them")


def check_spacing(item: ParallelItem, spacing: str, where: str) -> None:
    """Checks that an item keeps the policy that its source states.

    Args:
        item: the item to check.
        spacing: a key of SPACINGS.
        where: its place, for the message.

    Raises:
        DataError: naming the place, the language and the candidate.
    """
    if spacing == "written":
        return
    for language, prompt in item.prompts.items():
        spaces = int(spacing == "candidate" or (spacing == "either" and MASK not in prompt))
        wrong = [c for c in item.candidates[language] if len(c) - len(c.lstrip()) != spaces]
        if prompt[-1].isspace() if spaces else MASK not in prompt:
            wrong.insert(0, prompt)
        if wrong:
            reason = f"{wrong[0]!r} in {language!r} breaks its rule for spaces: {SPACINGS[spacing]}"
            raise DataError.at(where, reason, "Take the original file, or mend the reader")


def run_together(item: ParallelItem) -> list[str]:
    """One description for each language in which a prompt's last word and an answer's first become one word."""
    found = []
    for language, prompt in item.prompts.items():
        if MASK in prompt:
            continue
        for candidate in item.candidates[language]:
            if _is_spaced_letter(prompt[-1]) and _is_spaced_letter(candidate[0]):
                found.append(
                    f"in {language!r} no space parts the prompt {prompt[-20:]!r} from the candidate {candidate!r}: "
                    f"write {' ' + candidate!r}, if the language does"
                )
                break
    return found


def _is_spaced_letter(character: str) -> bool:
    """Whether it is a letter of a script that writes spaces between words."""
    return character.isalpha() and not unicodedata.name(character, "").startswith(UNSPACED)


def _check_characters(item: ParallelItem, where: str) -> None:
    """Refuses lone surrogates (JSON can write half of a pair, "\\ud800"): tokenizers and files take none."""
    context = item.context or {}
    whole = [item.id, item.group, *item.prompts, *item.prompts.values(), *context, *context.values()]
    try:
        "".join(chain(whole, item.candidates, *item.candidates.values(), *item.targets.values())).encode()
        return
    except UnicodeEncodeError:
        pass  # somewhere; each by itself, then
    texts = [("the id", item.id), ("the group", item.group)]
    for name, part in (("prompt", item.prompts), ("context", item.context or {})):
        for language, text in part.items():
            texts += [(f"the name of language {language!r}", language), (f"the {name} in {language!r}", text)]
    for name, lists in (("candidate", item.candidates), ("target", item.targets)):
        for language, own in lists.items():
            texts += [(f"{name} {k} in {language!r}", text) for k, text in enumerate(own)]
    check_characters(texts, where)


def check_names(names: Sequence[str], where: str) -> None:
    """Refuses names (ids, languages) that a terminal, a table or a model card would read as something else.

    Raises:
        DataError: naming the name.
    """
    if _CONTROL.search("".join(names)):
        name = next(filter(_CONTROL.search, names))
        raise DataError.at(where, f"the name {name[:50]!r} holds a control character", "Take it out")
    if len(longest := max(names, key=len)) > LONGEST_NAME:
        reason = f"the name {longest[:50]!r}... has {len(longest):,} characters"
        raise DataError.at(where, reason, f"Use names of at most {LONGEST_NAME:,}")


def check_characters(texts: Iterable[tuple[str, str]], where: str) -> None:
    """Refuses texts, each with its name, that no tokenizer and no file takes (see `_check_characters`).

    Raises:
        DataError: naming the text and its surrogate.
    """
    for name, text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError.at(
                where, f"{name} holds a lone surrogate, {text[error.start]!r}", "Write the whole character"
            ) from None


def check_languages(asked: Iterable[str], known: Iterable[str], where: str) -> tuple[str, ...]:
    """`asked` as a tuple, after checking that each is known and none is named twice.

    Raises:
        DataError: naming the unknown languages and listing the known ones.
    """
    asked, known = ((asked,) if isinstance(asked, str) else tuple(asked)), tuple(known)
    unknown = [language for language in asked if language not in known]
    if unknown:
        raise DataError.at(
            where, f"unknown language {', '.join(map(repr, unknown))}", f"Known: {', '.join(known)}"
        )
    if not asked or len(set(asked)) < len(asked):
        raise DataError.at(
            where, f"languages are {list(asked)}", "Name each language once, and at least one (None = all)"
        )
    return asked


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Inside, reference cycles are not looked for; what is dropped is freed as ever."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def open_prompt(item: ParallelItem, language: str, prompt: str | None = None) -> str:
    """The item's prompt, or another, behind its context in a language: the one place that joins them."""
    context = (item.context or {}).get(language, "")
    prompt = item.prompts[language] if prompt is None else prompt
    return f"{context}\n\n{prompt}" if context else prompt


def answer_in_gap(item: ParallelItem, language: str, answer: str) -> str:
    """What a written answer puts into the gap of a cloze, as written; any other answer as it is.

    A model that goes on from the text before a mask also writes the rest of the sentence, and more. The gap holds a
    candidate of the item where nothing but the rest comes after it, whole or as far as the answer goes (`Amazon.com`
    may stand before a full stop). Otherwise it holds all that stands before the rest, or the whole answer where the
    rest is not in it. Case and spaces in the rest do not count, nor does the punctuation at its end. (These rules are
    this project's.)

    Args:
        item: one with candidates.
        language: of the answer.
        answer: what was written behind the prompt.
    """
    _, mask, behind = item.prompts[language].partition(MASK)
    if not mask:
        return answer
    answer, rest = answer.strip(), "".join(behind.split())
    while len(rest) > 1 and unicodedata.category(rest[-1]).startswith("P"):
        rest = rest[:-1]
    if not rest:
        return answer
    apart = behind[0].isspace() and _is_spaced_letter(rest[0])  # behind a letter it would be another word

    def goes_on(more: str) -> bool:
        if apart and more and _is_spaced_letter(more[0]):
            return False
        more, whole = "".join(more.split()).casefold(), rest.casefold()
        return more.startswith(whole) or whole.startswith(more)

    for candidate in sorted(map(str.strip, item.candidates[language]), key=len, reverse=True):
        said = answer[: len(candidate)]
        if said.casefold() == candidate.casefold() and goes_on(answer[len(candidate) :]):
            return said
    starts, ends = (r"\b" if word else "" for word in (apart, _is_spaced_letter(rest[-1])))
    pattern = re.compile(starts + r"\s*".join(map(re.escape, rest)) + ends, re.IGNORECASE)
    found = pattern.search(answer, 1) or pattern.match(answer)  # something stands in the gap, if it can
    return answer[: found.start()].strip() if found else answer
