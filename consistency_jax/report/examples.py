"""The questions that the page can be searched for: as many as there is room for, drawn at random, as JSON.

    {"languages": {code: [name, direction]}, "splits": [{"name", "total", "languages", "anchor", "items"}]}

An item is [id, group, gold, answers], gold a list, empty where unknown, with an answer for each of the split's
languages (0 where it lacks the item): [prompt, {candidate: text}, before, after], before and after being the candidates
that stand first (several where they tie), and the texts those of before, after and gold. Where the model wrote answers
too, these follow: [..., free text before, free text after]. Of a model alone before and after are the same, `alone` is
true, and the items stand in the order of their consistency, the least consistent first.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from consistency_jax.data.examples import ANCHOR
from consistency_jax.data.items import MASK, ParallelItem, open_prompt
from consistency_jax.metrics.accuracy import right_cells, top_choice
from consistency_jax.report.names import direction, language_name
from consistency_jax.table import Table

_GAP = "\u2026\u2026"

# [N][L] texts that the model wrote before, and after (or by a model alone), for the first N items of a split
FreeText = Sequence[Sequence[Sequence[str | None]]]


class Embedded(NamedTuple):
    """What a page holds of its splits: JSON to stand in a <script>, and (split, shown, total) of each."""

    data: str
    counts: list[tuple[str, int, int]]


def embedded(
    before: Mapping[str, Table],
    after: Mapping[str, Table] | None,
    items: Mapping[str, Iterable[ParallelItem]],
    *,
    normalization: str,
    free_text: Mapping[str, FreeText] | None = None,
    room: int,
) -> Embedded:
    """The items of each split that fit into `room` bytes, which the splits share; those shown are drawn at random.

    `items` are the splits' ParallelItems, found by id; `free_text` answers are in the order of `items`. Without `after`
    they are of one model.
    """
    alone = after is None
    after = before if after is None else after
    languages = {
        code: [language_name(code), direction(code)]
        for name in before
        if name in items
        for code in before[name].languages
    }
    parts, counts = [], []
    shown_splits = [name for name in before if name in items]
    for number, name in enumerate(shown_splits):
        own = list(items[name])
        texts = _by_id(own, before[name], (free_text or {}).get(name))
        records = _records(before[name], after[name], own, texts, normalization, alone)
        kept = _drawn(records, room // (len(shown_splits) - number))
        room -= sum(len(record.encode()) + 1 for record in kept)
        head = {
            "name": name,
            "total": len(before[name].ids),
            "languages": before[name].languages,
            "anchor": ANCHOR,
        }
        parts.append(f'{_json(head)[:-1]},"items":[{",".join(kept)}]}}')
        counts.append((name, len(kept), len(before[name].ids)))
    facts = f'"alone":{_json(alone)},"languages":{_json(languages)}'
    return Embedded(f'{{{facts},"splits":[{",".join(parts)}]}}', counts)


def _drawn(records: Sequence[str], room: int) -> list[str]:
    """Records drawn until the next one does not fit, in their own order."""
    order = np.random.default_rng(0).permutation(len(records))
    ends = np.cumsum([len(records[n].encode()) + 1 for n in order])
    return [records[n] for n in np.sort(order[: np.searchsorted(ends, room, side="right")])]


def _records(
    before: Table, after: Table, items: Sequence[ParallelItem], free_text, normalization: str, alone: bool
) -> list[str]:
    known = {item.id: item for item in items}
    # bool[N, L, K] each
    first = [top_choice(table.scores(normalization), table.mask) > 0 for table in (before, after)]
    right = right_cells(before.gold, before.mask.shape)
    order = np.argsort(_agreement(first[0], before.mask), kind="stable") if alone else None
    found = []
    for row in range(len(before.ids)) if order is None else order.tolist():
        name = before.ids[row]
        if name in known:
            gold = np.flatnonzero(right[row]).tolist()
            answers = [
                _answer(known[name], language, *(side[row, place] for side in first), gold)
                + free_text.get((name, language), [])
                if before.mask[row, place].any() and language in known[name].prompts
                else 0
                for place, language in enumerate(before.languages)
            ]
            found.append(_json([name, known[name].group, gold, answers]))
    return found


def _agreement(first: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """f64[N]: the share of pairs of languages whose first answer is the same; 1 where there is no pair."""
    there = mask.any(2)
    same, pairs = np.zeros(len(first)), np.zeros(len(first))
    for i in range(first.shape[1]):
        for j in range(i):
            both = there[:, i] & there[:, j]
            pairs += both
            same += both & (first[:, i] == first[:, j]).all(1)
    return np.where(pairs > 0, same / np.maximum(pairs, 1), 1.0)


def _answer(
    item: ParallelItem, language: str, before: np.ndarray, after: np.ndarray, gold: list[int]
) -> list[Any]:
    candidates = item.candidates[language]
    sides = [np.flatnonzero(side).tolist() for side in (before, after)]
    told = sorted({*sides[0], *sides[1], *gold})
    prompt = open_prompt(item, language, item.prompts[language].replace(MASK, _GAP).strip())
    return [prompt, {k: candidates[k].strip() for k in told}, *sides]


def _by_id(items: Sequence[ParallelItem], table: Table, free_text: FreeText | None) -> dict:
    """(id, language) -> [before, after]."""
    return {
        (item.id, language): [one, other]
        for item, *rows in zip(items, *(free_text or ((), ())))
        for language, one, other in zip(table.languages, rows[0], rows[-1])
        if one is not None
    }


def _json(value: Any) -> str:
    """JSON that no browser takes for markup."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
