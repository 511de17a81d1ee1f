"""Questions whose answers changed, in words: drawn at random, so that nobody has picked the nice ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from consistency_jax.report.names import language_name
from consistency_jax.report.summary import Table

_GAP = "\u2026\u2026"


@dataclass(frozen=True)
class Answer:
    """What one language was asked, and what it said before and after; right is None without a gold."""

    language: str
    name: str
    prompt: str
    before: str
    after: str
    before_right: bool | None
    after_right: bool | None
    changed: bool


@dataclass(frozen=True)
class Example:
    """One question with the answers of some languages; `hidden` more languages are not shown."""

    id: str
    gold: str | None
    answers: tuple[Answer, ...]
    changed: int
    languages: int

    @property
    def hidden(self) -> int:
        """Languages that have the question but are not shown."""
        return self.languages - len(self.answers)


def changed_examples(
    before: Table,
    after: Table,
    items: Iterable[Any],
    *,
    normalization: str,
    anchor: str = "en",
    count: int = 10,
    languages: int = 8,
    seed: int = 0,
) -> tuple[list[Example], int]:
    """At most `count` questions whose first answer changed in some language, drawn at random by `seed`.

    `items` are the split's ParallelItems, found by id. Of each question the anchor and the languages that
    changed come first, `languages` of them at most. Also returns how many questions changed.
    """
    known = {item.id: item for item in items}
    answers = [np.where(t.mask, t.scores(normalization), -np.inf).argmax(-1) for t in (before, after)]
    moved = (answers[0] != answers[1]) & before.mask.any(-1)
    rows = np.flatnonzero(moved.any(1) & np.array([i in known for i in before.ids], bool))
    drawn = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    examples = []
    for row in drawn:
        item, gold = known[before.ids[row]], int(before.gold[row])
        present = [
            place
            for place, language in enumerate(before.languages)
            if before.mask[row, place].any() and language in item.prompts
        ]
        # Stable: within each class the table's order of languages stays.
        present.sort(key=lambda place: (before.languages[place] != anchor, not moved[row, place]))
        shown = tuple(
            _answer(item, before.languages[place], answers[0][row, place], answers[1][row, place], gold)
            for place in present[:languages]
        )
        if shown:
            first = item.candidates[shown[0].language]
            truth = first[gold].strip() if gold >= 0 else None
            examples.append(Example(item.id, truth, shown, int(moved[row].sum()), len(present)))
    return examples, int(moved.any(1).sum())


def _answer(item: Any, language: str, before: int, after: int, gold: int) -> Answer:
    candidates = item.candidates[language]
    return Answer(
        language=language,
        name=language_name(language),
        prompt=item.prompts[language].replace("<mask>", _GAP).strip(),
        before=candidates[before].strip(),
        after=candidates[after].strip(),
        before_right=None if gold < 0 else bool(before == gold),
        after_right=None if gold < 0 else bool(after == gold),
        changed=bool(before != after),
    )
