"""What report.json holds: every figure before and after, their differences, and how sure these are.

    {"base": {split: figures}, "final": ..., "delta": ..., "confidence": ..., "analysis": ..., "settings": {...}}

Percentages, 0..100 (differences in percentage points); divergences as they are defined, entropies in nats. `figures`
always has the same keys, those of `paired.figures` for the columns here. In "confidence" each number is the
[low, high] of its delta, from a paired bootstrap over items. "analysis" is told in report/analysis.py, "generation" and
"safety", of a model that also wrote answers, in report/free_text.py. What cannot be known is null.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from consistency_jax.metrics.accuracy import correct
from consistency_jax.metrics.agreement import (
    agreement_if_either_right,
    all_agree,
    all_agree_but_wrong,
    all_right,
    changed_answers,
    top1_agreement,
)
from consistency_jax.metrics.arrays import mean_known
from consistency_jax.metrics.distribution import entropy
from consistency_jax.metrics.divergence import (
    BOUNDS,
    DIVERGENCES,
    both_ways,
    divergences,
    tolerance_area,
    tolerance_curve,
)
from consistency_jax.metrics.experts import experts
from consistency_jax.metrics.groups import item_groups
from consistency_jax.metrics.rankc import clc_values
from consistency_jax.report.analysis import KIND, analyse, fitted, headline_columns
from consistency_jax.report.paired import Columns, Design, compare, levels, plain, rows_of, unweighted
from consistency_jax.table import Table

# At T = 1 and over both directions the reverse of KL is KL.
_KINDS = tuple(kind for kind in DIVERGENCES if kind != "reverse_kl")

Tables = Table | Mapping[str, Table]


def summarise(
    base: Tables,
    final: Tables,
    *,
    normalization: str = "mean_full",
    anchor: str = "en",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    groups: Mapping[str, Sequence[str]] | None = None,
    language_groups: Mapping[str, Sequence[str]] | None = None,
    steer: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The contents of report.json; a function of its arguments alone (no time, no date, no machine).

    Args:
      base: the table before, by split (a single table stands for the split "test").
      final: the table after: the same splits, items and languages.
      normalization: of `Table.scores`, what candidates are ranked by.
      anchor: the language whose pairs and accuracy are also given apart (the keys that end in _en).
      confidence: of the intervals.
      resamples: bootstrap samples behind each interval.
      seed: of the bootstrap.
      groups: split -> the group of each item (a relation, a subject), whose figures are also given apart.
      language_groups: name -> languages, whose figures are also given apart.
      steer: language -> weight in the consensus of the expert analysis, ones by default.

    Raises:
      ValueError: where the two sides do not hold the same splits, items, languages or candidates, or a group has
        another number of items or no language of the tables.
    """
    base, final = by_split(base), by_split(final)
    if list(base) != list(final):
        raise ValueError(f"base has the splits {', '.join(base)}, final has {', '.join(final)}")
    summary: dict[str, Any] = {key: {} for key in ("base", "final", "delta", "confidence", "analysis")}
    for split in base:
        before, after = base[split], final[split]
        _check_parallel(split, before, after)
        design = Design(
            before.languages, anchor, known_groups(language_groups, before), confidence, resamples, seed
        )
        temperatures = [fitted(table) for table in (before, after)]
        base_scores = before.scores(normalization)
        columns = [
            columns_of(table.scores(normalization), table, base_scores, own)
            for table, own in zip((before, after), temperatures)
        ]
        for key, part in compare(*columns, design).items():
            summary[key][split] = part
        summary["analysis"][split] = analyse(
            before,
            after,
            temperatures,
            columns,
            design,
            normalization=normalization,
            groups=known_items(split, groups, before),
            steer=steer,
        )
    summary["settings"] = settings_of(
        base,
        normalization=normalization,
        anchor=anchor,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        language_groups=language_groups,
    )
    return summary


def settings_of(
    tables: Mapping[str, Table], *, language_groups: Mapping[str, Sequence[str]] | None, **settings: Any
) -> dict[str, Any]:
    """What report.json says of how its figures were made: `settings` as they are, and what each split's table holds."""
    return settings | {
        "language_groups": {name: list(members) for name, members in (language_groups or {}).items()},
        "splits": {
            split: {
                "items": len(table.ids),
                "labelled_items": int((np.asarray(table.gold) >= 0).sum()),
                "languages": list(table.languages),
            }
            for split, table in tables.items()
        },
    }


def by_split(tables: Tables) -> dict[str, Table]:
    """Tables by the name of their split; a single table is the split "test"."""
    return dict(tables) if isinstance(tables, Mapping) else {"test": tables}


def columns_of(
    scores: np.ndarray, table: Table, base_scores: np.ndarray, temperatures: np.ndarray
) -> Columns:
    """(values, weights) f64[N, M] by name; M are the language pairs, the languages, or one column.

    Args:
      scores: f64[N, L, K] of the table, to rank candidates by.
      table: what the figures are of.
      base_scores: the same before; answers that are others now are "changed".
      temperatures: `fitted` of the table.
    """
    mask, gold = table.mask, table.gold
    both, either = agreement_if_either_right(scores, gold, mask)
    share = np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)
    sums = table.scores("sum")
    columns = {
        "clc": clc_values(scores, mask),
        "clc_norm1": clc_values(scores, mask, weights="norm1"),
        "clc_norm2": clc_values(scores, mask, weights="norm2"),
        "clc_corrected": clc_values(scores, mask, corrected=True),
        "top1_agreement": 100 * top1_agreement(scores, mask),
        "accuracy": 100 * correct(scores, gold, mask),
        "changed": 100 * changed_answers(base_scores, scores, mask),
        "entropy": entropy(sums, mask),
        **{f"divergence_{kind}": both_ways(divergences(sums, mask, kind)) for kind in _KINDS},
        "divergence_fitted": both_ways(divergences(sums, mask, KIND, temperatures)),
        "all_right": 100 * all_right(scores, gold, mask)[:, None],
        "all_agree": 100 * all_agree(scores, mask)[:, None],
        "all_agree_but_wrong": 100 * all_agree_but_wrong(scores, gold, mask)[:, None],
    }
    weighted = unweighted(columns)
    weighted["agreement_if_either_right"] = (100 * share, np.nan_to_num(either))
    return weighted


def known_groups(groups: Mapping[str, Sequence[str]] | None, table: Table) -> dict[str, list[str]]:
    """Groups of languages with those that the table has.

    Raises:
      ValueError: a group without any.
    """
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


def known_items(split: str, groups: Mapping[str, Sequence[str]] | None, table: Table) -> Sequence[str] | None:
    """The group of each item of a split; None where they are not given.

    Raises:
      ValueError: another number of them.
    """
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


_EPSILONS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)


_MOST_GROUPS = 100  # of items; the largest


def audit(
    tables: Tables,
    *,
    normalization: str = "mean_full",
    anchor: str = "en",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    groups: Mapping[str, Sequence[str]] | None = None,
    language_groups: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The contents of report.json; arguments and errors as of `summarise`."""
    summary: dict[str, Any] = {"base": {}, "confidence": {}, "analysis": {}}
    tables = by_split(tables)
    for split, table in tables.items():
        members = known_groups(language_groups, table)
        design = Design(table.languages, anchor, members, confidence, resamples, seed)
        scores, temperature = table.scores(normalization), fitted(table)
        columns = dict(columns_of(scores, table, scores, temperature))
        del columns["changed"]
        found = levels(columns, design)
        summary["base"][split], summary["confidence"][split] = found["value"], found["confidence"]
        summary["analysis"][split] = {
            **_tolerance(table, temperature),
            "experts": _experts(table, design),
            "normalizations": {
                name: levels(headline_columns(table.scores(name), table), design)
                for name in table.normalizations
            },
            "groups": _groups(columns, design, known_items(split, groups, table)),
        }
    summary["settings"] = settings_of(
        tables,
        normalization=normalization,
        anchor=anchor,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        language_groups=language_groups,
    )
    return summary


def _tolerance(table: Table, temperature: Any) -> dict[str, Any]:
    """Of the definition: the fitted temperatures, and the share of questions within each epsilon, mean over pairs."""
    shares: dict[str, Any] = {"epsilon": list(_EPSILONS)}
    area = {}
    for name, own in (("plain", 1.0), ("fitted", temperature)):
        values = both_ways(divergences(table.scores("sum"), table.mask, KIND, own))
        shares[name] = 100 * mean_known(tolerance_curve(values, _EPSILONS), axis=-1)
        area[name] = 100 * mean_known(tolerance_area(values, BOUNDS[KIND]), axis=-1)
    return plain({"temperature": temperature, "tolerance": shares, "tolerance_area": area})


def _experts(table: Table, design: Design) -> dict[str, Any]:
    """What the languages would answer together (report/analysis.py): its accuracy, and each language's part."""
    found = experts(table.scores("sum"), table.mask, [1.0] * len(table.languages))
    columns = unweighted(
        {
            "accuracy": 100 * correct(table.scores("sum"), table.gold, table.mask),
            "accuracy_without": 100 * found.correct_without(table.gold),
            "consensus_accuracy": 100 * found.correct(table.gold)[:, None],
        }
    )
    columns["share"] = (100 * found.share, found.strength[:, None].repeat(len(table.languages), 1))
    return levels(columns, design)


def _groups(columns: Columns, design: Design, groups: Sequence[str] | None) -> dict[str, Any]:
    """CLC and accuracy of each group of items, the largest first; none where there is but one."""
    rows = item_groups(groups) if groups is not None else {}
    if len(rows) < 2:
        return {}
    own = {name: columns[name] for name in ("clc", "accuracy")}
    found = {}
    for name in list(rows)[:_MOST_GROUPS]:
        parts = levels(rows_of(own, rows[name]), design)
        for part in parts.values():
            part.pop("clc_matrix")
        found[name] = {"items": len(rows[name])} | parts
    return found
