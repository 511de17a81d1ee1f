"""What report.json holds: every figure before and after, their differences, and how sure these are.

    {"base": {split: figures}, "final": ..., "delta": ..., "confidence": ..., "analysis": ..., "settings": {...}}

Percentages, 0..100 (differences in percentage points); divergences as they are defined, entropies in nats. `figures`
always has the same keys, those of the rows in report/figures.py. In "confidence" each number is the [low, high] of its
delta, from a paired bootstrap over items. Of a model alone there is no "final" and no "delta", and each interval is
that of the figure itself. "analysis" is told in report/analysis.py, "generation" and "safety", of a model that also
wrote answers, in report/free_text.py. What cannot be known is null.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from consistency_jax.data.examples import ANCHOR
from consistency_jax.metrics.accuracy import labelled
from consistency_jax.report.analysis import analyse
from consistency_jax.report.figures import Ranked, figures_of, measured
from consistency_jax.report.paired import CONFIDENCE, Design, compare
from consistency_jax.table import Table

Tables = Table | Mapping[str, Table]


def summarise(
    base: Tables,
    final: Tables | None = None,
    *,
    normalization: str = "mean_full",
    resamples: int = 2000,
    seed: int = 0,
    groups: Mapping[str, Sequence[str]] | None = None,
    language_groups: Mapping[str, Sequence[str]] | None = None,
    steer: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The contents of report.json; a function of its arguments alone (no time, no date, no machine).

    Args:
      base: the table before, by split (a single table stands for the split "test").
      final: the table after: the same splits, items and languages; None for a report of one model alone.
      normalization: of `Table.scores`, what candidates are ranked by.
      resamples: bootstrap samples behind each interval.
      seed: of the bootstrap.
      groups: split -> the group of each item (a relation, a subject), whose figures are also given apart.
      language_groups: name -> languages, whose figures are also given apart.
      steer: language -> weight in the consensus of the expert analysis, ones by default.

    Raises:
      ValueError: where the two sides do not hold the same splits, items, languages or candidates, or a group has
        another number of items or no language of the tables.
    """
    sides = [by_split(side) for side in (base, final) if side is not None]
    if list(sides[0]) != list(sides[-1]):
        raise ValueError(f"base has the splits {', '.join(sides[0])}, final has {', '.join(sides[-1])}")
    parts_told = ("base", "confidence", "analysis", *(("final", "delta") if final is not None else ()))
    summary: dict[str, Any] = {part: {} for part in parts_told}
    for split, table in sides[0].items():
        tables = [side[split] for side in sides]
        if final is not None and any(own.known != "scores" for own in tables):
            raise ValueError(
                f"split {split}: of answers alone there is no before and after; report each for itself"
            )
        _check_parallel(split, table, tables[-1])
        members = _known_languages(language_groups, table)
        design = Design(table.languages, members, resamples, seed)
        own_groups = _known_items(split, groups, table)
        before = table if final is not None else None
        ranked = [Ranked(own, normalization, before, own_groups or ()) for own in tables]
        columns = [measured(figures_of(final is None), side, len(table.languages)) for side in ranked]
        parts = compare(columns, design) | {
            "analysis": analyse(ranked, columns, design, groups=own_groups, steer=steer or {})
        }
        for key, part in parts.items():
            summary[key][split] = part
    return summary | {
        "settings": {
            "normalization": normalization,
            "anchor": ANCHOR,
            "confidence": CONFIDENCE,
            "resamples": resamples,
            "seed": seed,
            "language_groups": {name: list(own) for name, own in (language_groups or {}).items()},
            "splits": {
                split: {
                    "items": len(table.ids),
                    "labelled_items": int(labelled(table.gold).sum()),
                    "languages": list(table.languages),
                    "lacking": lacking(table),
                    "known": table.known,
                }
                for split, table in sides[0].items()
            },
        }
    }


def lacking(table: Table) -> dict[str, int]:
    """Language -> how many of the items are not asked in it; without those that all are asked in."""
    counts = (~np.asarray(table.mask).any(2)).sum(0).tolist()
    return {language: count for language, count in zip(table.languages, counts, strict=True) if count}


def by_split(tables: Tables) -> dict[str, Table]:
    """Tables by the name of their split; a single table is the split "test"."""
    return dict(tables) if isinstance(tables, Mapping) else {"test": tables}


def _known_languages(groups: Mapping[str, Sequence[str]] | None, table: Table) -> dict[str, list[str]]:
    """Groups of languages with those that the table has; an error for a group without any."""
    known = {
        name: [language for language in table.languages if language in members]
        for name, members in (groups or {}).items()
    }
    for name, members in known.items():
        if not members:
            raise ValueError(
                f"the group {name!r} has no language of the tables, which have {', '.join(table.languages)}"
            )
    return known


def _known_items(
    split: str, groups: Mapping[str, Sequence[str]] | None, table: Table
) -> Sequence[str] | None:
    """The group of each item of a split, None where they are not given; an error for another number of them."""
    own = (groups or {}).get(split)
    if own is not None and len(own) != len(table.ids):
        raise ValueError(f"split {split}: {len(own)} groups are given for {len(table.ids)} items")
    return own


def _check_parallel(split: str, before: Table, after: Table) -> None:
    if tuple(before.languages) != tuple(after.languages):
        raise ValueError(
            f"split {split}: base has the languages {', '.join(before.languages)}, "
            f"final has {', '.join(after.languages)}; score both again with one config"
        )
    if tuple(before.ids) != tuple(after.ids):
        raise ValueError(
            f"split {split}: base ({len(before.ids)}) and final ({len(after.ids)}) hold different items or "
            "another order of them; score both again with one config"
        )
    if not np.array_equal(before.mask, after.mask) or not np.array_equal(before.gold, after.gold):
        raise ValueError(
            f"split {split}: base and final differ in candidates or gold answers; score both again "
            "with one config"
        )
