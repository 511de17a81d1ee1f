"""What report.json holds: every figure before and after, their differences, and how sure these are.

    {"base": {split: figures}, "final": ..., "delta": ..., "confidence": ..., "settings": {...}}

Percentages, 0..100 (differences in percentage points). `figures` always has the same keys, those of
`_figures`. In "confidence" each number is the [low, high] of its delta, from a paired bootstrap over items.
Every figure is a mean over items or a function of such means, and `_figures` is that function: applied to the
means of the table it gives the figure, applied to the means of resampled items its replicates. What cannot be
known is null.
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
from consistency_jax.metrics.arrays import mean_known, variance_known
from consistency_jax.metrics.bootstrap import interval, resampled_means, weighted_means
from consistency_jax.metrics.rankc import anchor_pairs, clc_values, pair_matrix
from consistency_jax.table import Table

_DIGITS = 6


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

    Raises:
      ValueError: where the two sides do not hold the same splits, items, languages or candidates.
    """
    base, final = by_split(base), by_split(final)
    if list(base) != list(final):
        raise ValueError(f"base has the splits {', '.join(base)}, final has {', '.join(final)}")
    summary: dict[str, Any] = {key: {} for key in ("base", "final", "delta", "confidence")}
    splits = {}
    for split in base:
        before, after = base[split], final[split]
        _check_parallel(split, before, after)
        splits[split] = {
            "items": len(before.ids),
            "labelled_items": int((np.asarray(before.gold) >= 0).sum()),
            "languages": list(before.languages),
        }
        parts = _compare(before, after, normalization, anchor, confidence, resamples, seed)
        for key, part in parts.items():
            summary[key][split] = part
    summary["settings"] = {
        "normalization": normalization,
        "anchor": anchor,
        "confidence": confidence,
        "resamples": resamples,
        "seed": seed,
        "splits": splits,
    }
    return summary


def by_split(tables: Tables) -> dict[str, Table]:
    """Tables by the name of their split; a single table is the split "test"."""
    return dict(tables) if isinstance(tables, Mapping) else {"test": tables}


def _compare(before, after, normalization, anchor, confidence, resamples, seed) -> dict[str, Any]:
    """{"base", "final", "delta", "confidence"} of one split."""
    base_scores = before.scores(normalization)
    sides = [_columns(table.scores(normalization), table, base_scores) for table in (before, after)]
    points: list[dict[str, np.ndarray]] = [{}, {}]
    samples: list[dict[str, np.ndarray]] = [{}, {}]
    for name in sides[0]:
        values, weights = (np.concatenate(parts, axis=1) for parts in zip(*(side[name] for side in sides)))
        means = weighted_means(values, weights)
        drawn = resampled_means(values, weights, replicates=resamples, seed=seed)
        for side in (0, 1):
            points[side][name] = np.split(means, 2)[side]
            samples[side][name] = np.split(drawn, 2, axis=1)[side]
    base, final = (_figures(means, before.languages, anchor) for means in points)
    base_samples, final_samples = (_figures(means, before.languages, anchor) for means in samples)

    def bounds(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.moveaxis(interval(high - low, confidence), 0, -1)

    return {
        "base": _plain(base),
        "final": _plain(final),
        "delta": _plain(_zip(lambda low, high: high - low, base, final)),
        "confidence": _plain(_zip(bounds, base_samples, final_samples)),
    }


def _columns(scores, table, base_scores) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(values, weights) f64[N, M] by name; M are the language pairs, the languages, or one column."""
    mask, gold = table.mask, table.gold
    both, either = agreement_if_either_right(scores, gold, mask)
    share = np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)
    columns = {
        "clc": clc_values(scores, mask),
        "clc_norm1": clc_values(scores, mask, weights="norm1"),
        "clc_norm2": clc_values(scores, mask, weights="norm2"),
        "clc_corrected": clc_values(scores, mask, corrected=True),
        "top1_agreement": 100 * top1_agreement(scores, mask),
        "accuracy": 100 * correct(scores, gold, mask),
        "changed": 100 * changed_answers(base_scores, scores, mask),
        "all_right": 100 * all_right(scores, gold, mask)[:, None],
        "all_agree": 100 * all_agree(scores, mask)[:, None],
        "all_agree_but_wrong": 100 * all_agree_but_wrong(scores, gold, mask)[:, None],
    }
    weighted = {name: (values, np.ones(values.shape)) for name, values in columns.items()}
    weighted["agreement_if_either_right"] = (100 * share, np.nan_to_num(either))
    return weighted


_OVER_PAIRS = (
    "clc",
    "clc_norm1",
    "clc_norm2",
    "clc_corrected",
    "top1_agreement",
    "agreement_if_either_right",
)
_OVER_LANGUAGES = ("accuracy", "changed")
_OVER_ITEMS = ("all_right", "all_agree", "all_agree_but_wrong")


def _figures(means: Mapping[str, np.ndarray], languages: Sequence[str], anchor: str) -> dict[str, Any]:
    """The figures of a split from the means [..., M] of its columns, with the same leading axes."""
    position = languages.index(anchor) if anchor in languages else None
    with_anchor = anchor_pairs(len(languages), position)
    others = np.arange(len(languages)) != (-1 if position is None else position)
    figures: dict[str, Any] = {}
    for name in _OVER_PAIRS:
        figures[f"{name}_all"] = mean_known(means[name], axis=-1)
        figures[f"{name}_en"] = mean_known(means[name][..., with_anchor], axis=-1)
    for name in _OVER_LANGUAGES:
        figures[name] = {language: means[name][..., i] for i, language in enumerate(languages)}
        unknown = np.full(means[name].shape[:-1], np.nan)
        figures[f"{name}_en"] = unknown if position is None else means[name][..., position]
        figures[f"{name}_non_en"] = mean_known(means[name][..., others], axis=-1)
    figures["accuracy_variance"] = variance_known(means["accuracy"])
    for name in _OVER_ITEMS:
        figures[name] = means[name][..., 0]
    figures["clc_matrix"] = pair_matrix(means["clc"], len(languages), diagonal=100.0)
    return figures


def _zip(function, first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _zip(function, value, second[key]) if isinstance(value, dict) else function(value, second[key])
        for key, value in first.items()
    }


def _plain(value: Any) -> Any:
    """Numbers and lists for JSON: rounded (to be the same on every machine), NaN as None, -0 as 0."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray | np.floating):
        return _plain(value.tolist())
    return None if value is None or np.isnan(value) else round(value, _DIGITS) + 0.0


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
