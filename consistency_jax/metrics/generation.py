"""Consistency of generated answers: the same question answered in words, in every language.

Words of two languages cannot be compared; places in the aligned candidate table can. Each answer is looked up among
the item's candidates in its own language, and the answers of two languages agree when they stand for the same
candidate. What is found is a table of scores, 1 for a candidate that the answer matches, so that every metric of first
answers (`top1_agreement`, `correct`, `all_agree`, ...) takes it as it is: of two doubled candidates each counts half.

An answer that matches none is a fact about the model, not a gap in the data: `generated_agreement` tells both the
agreement where both languages matched, and that with every unmatched answer held to disagree.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from consistency_jax.metrics.agreement import top1_agreement
from consistency_jax.metrics.rankc import language_pairs

MATCHES = ("normalised", "exact")
MINUS = str.maketrans(dict.fromkeys("−－﹣‐‑‒–—〜", "-"))

Texts = Sequence[Sequence[str | None]]


@dataclass(frozen=True)
class Matches:
    """Generated answers as places in the candidate table.

    scores: f64[N, L, K], 1 where the answer matches the candidate, else 0.
    mask: bool[N, L, K], the candidates of the answers that match one: with it, `scores` is a table for any metric.
    answered: bool[N, L], there is an answer (an empty one too) and there are candidates to match it with.
    matched: bool[N, L], it matches one.
    """

    scores: np.ndarray
    mask: np.ndarray
    answered: np.ndarray
    matched: np.ndarray


def normalised(text: str) -> str:
    """A text without what does not make it another answer: case, width, punctuation, and spacing.

    Unicode NFKC and case folding; punctuation (categories P*) dropped, but for a sign and a mark between digits (10:30
    is not 1030; 1,000 is 1000); runs of space made one. A text of nothing but punctuation keeps it.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # Turkish İ and I are no other letters than i and ı.
    folded = folded.replace("i\u0307", "i").replace("ı", "i")
    if any(map(str.isdigit, folded)):
        kept = _beside_digits(folded)
    else:
        kept = "".join(mark for mark in folded if not unicodedata.category(mark).startswith("P"))
    return " ".join(kept.split()) or " ".join(folded.split())


def _beside_digits(text: str) -> str:
    text = text.translate(MINUS)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"(?<=\d) *([-/:]) *(?=\d)", r"\1", text)
    text = re.sub(r"(^|[=(<>+*]) *- *(?=\d)", r"\1-", text)
    kept = []
    for before, mark, after in zip(f" {text}", text, f"{text[1:]} "):
        sign = mark == "-" and after.isdigit() and unicodedata.category(before)[0] not in "LMN"
        if unicodedata.category(mark)[0] != "P" or before.isdigit() and after.isdigit() or sign:
            kept.append(mark)
        elif mark == "-":
            kept.append(" ")
    return "".join(kept)


def match_answers(
    answers: Texts, candidates: Sequence[Sequence[Sequence[str] | None]], how: str = "normalised"
) -> Matches:
    """Looks every answer up among the candidates of its item and language.

    Args:
      answers: [N][L] generated texts, cut where the answer ends; None where there is none.
      candidates: [N][L][K] aligned by index over languages; None for a language that lacks the item. Items may differ
        in K.
      how: "normalised" (see `normalised`; an answer that is one of its candidates exactly is no other) or "exact" (but
        for spaces around).

    Raises:
      ValueError: for shapes that do not fit, or an unknown `how`.
    """
    if how not in MATCHES:
        raise ValueError(f"how must be {' or '.join(MATCHES)}, not {how!r}")
    shape = (len(answers), len(answers[0]) if len(answers) else 0)
    if len(candidates) != shape[0] or any(
        len(row) != shape[1] for table in (answers, candidates) for row in table
    ):
        raise ValueError("match_answers: answers [N][L] and candidates [N][L][K] must have the same N and L")
    if any(isinstance(own, str) for row in candidates for own in row):
        raise ValueError("match_answers: the candidates of an item are a list of texts, not one text")
    told = [text for row in answers for text in row]
    listed = [own or () for row in candidates for own in row]
    counts = np.array([len(own) for own in listed], int)
    width = int(counts.max(initial=1))
    there = np.arange(width) < counts[:, None]
    distinct = {text for text in told if text is not None}.union(*listed)

    def same_by(form: Callable[[str], str]) -> np.ndarray:
        # Texts as numbers, the same for the same text: each distinct one is normalised once.
        numbers: dict[str, int] = {}
        number = {text: numbers.setdefault(form(text), len(numbers)) for text in distinct}
        own = np.array([-1 if text is None else number[text] for text in told], int)
        codes = np.full((len(listed), width), -2)
        codes[there] = [number[text] for texts in listed for text in texts]
        return (there & (codes == own[:, None])).reshape(*shape, width)

    same = same_by(str.strip)
    if how == "normalised":
        same = np.where(same.any(2, keepdims=True), same, same_by(normalised))
    there, matched = there.reshape(*shape, width), same.any(2)
    said = np.array([text is not None for text in told], bool).reshape(shape)
    return Matches(same.astype(np.float64), there & matched[:, :, None], said & there.any(2), matched)


def generated_agreement(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Do two languages generate the same answer? Two f64[N, P], pairs in the order of `language_pairs(L)`.

    Returns:
      (where both match a candidate, NaN elsewhere; where both answered, 0 unless both match and agree).
    """
    both_matched = top1_agreement(matches.scores, matches.mask)
    first, second = language_pairs(matches.matched.shape[1])
    both_answered = matches.answered[:, first] & matches.answered[:, second]
    return both_matched, np.where(both_answered, np.nan_to_num(both_matched), np.nan)
