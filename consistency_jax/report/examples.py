"""Questions whose answers changed, in words: drawn at random, so that nobody has picked the nice ones."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from consistency_jax.data.items import MASK, ParallelItem
from consistency_jax.metrics import changed_answers, correct, top_choice
from consistency_jax.report.names import language_name
from consistency_jax.table import Table

_GAP = "\u2026\u2026"


@dataclass(frozen=True)
class Answer:
    """What one language was asked, and what it said before and after: tied answers stand side by side.

    before_right, after_right: the credit, 0..1 (between them where the gold is tied with others); None without
      a gold.
    """

    language: str
    name: str
    prompt: str
    before: str
    after: str
    before_right: float | None
    after_right: float | None
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
    items: Iterable[ParallelItem],
    *,
    normalization: str,
    anchor: str = "en",
    count: int = 10,
    languages: int = 8,
    seed: int = 0,
) -> tuple[list[Example], int]:
    """At most `count` questions whose first answer changed in some language, drawn at random by `seed`.

    An answer changed where `metrics.changed_answers` is above 0: the same tie is the same answer.

    `items` are the split's ParallelItems, found by id. Of each question the anchor and the languages that
    changed come first, `languages` of them at most. Also returns how many questions changed.
    """
    known = {item.id: item for item in items}
    mask, gold = before.mask, before.gold
    sides = [table.scores(normalization) for table in (before, after)]
    chances = [top_choice(scores, mask) for scores in sides]
    credits = [correct(scores, gold, mask) for scores in sides]
    moved = changed_answers(*sides, mask) > 0  # False where the language is absent (NaN)
    rows = np.flatnonzero(moved.any(1) & np.array([i in known for i in before.ids], bool))
    drawn = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    examples = []
    for row in drawn:
        item = known[before.ids[row]]
        present = [
            place
            for place, language in enumerate(before.languages)
            if mask[row, place].any() and language in item.prompts
        ]
        # Stable: within each class the table's order of languages stays.
        present.sort(key=lambda place: (before.languages[place] != anchor, not moved[row, place]))
        shown = tuple(
            _answer(
                item,
                before.languages[place],
                [chance[row, place] for chance in chances],
                [credit[row, place] for credit in credits],
                bool(moved[row, place]),
            )
            for place in present[:languages]
        )
        if shown:
            first = item.candidates[shown[0].language]
            truth = first[gold[row]].strip() if gold[row] >= 0 else None
            examples.append(Example(item.id, truth, shown, int(moved[row].sum()), len(present)))
    return examples, int(moved.any(1).sum())


def _answer(
    item: ParallelItem, language: str, chances: list[np.ndarray], credits: list[float], changed: bool
) -> Answer:
    """chances: of each candidate [K], before and after; credits: the gold's, NaN where it is not known."""
    candidates = item.candidates[language]
    before, after = (" / ".join(candidates[k].strip() for k in np.flatnonzero(chance)) for chance in chances)
    before_right, after_right = (None if np.isnan(credit) else float(credit) for credit in credits)
    return Answer(
        language=language,
        name=language_name(language),
        prompt=item.prompts[language].replace(MASK, _GAP).strip(),
        before=before,
        after=after,
        before_right=before_right,
        after_right=after_right,
        changed=changed,
    )
