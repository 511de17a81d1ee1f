"""What report.json says beside the figures: the definition, what changed and why, and what the figures depend on.

    {"divergence": {"temperature", "tolerance"}, "response", "direction", "experts", "normalizations", "groups",
     "calibration"}

Percentages, 0..100, as in the figures; divergences and entropies in nats. Distributions are those of the sums of
log-probabilities, whatever candidates are ranked by.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from consistency_jax.metrics.accuracy import correct, top_choice
from consistency_jax.metrics.arrays import mean_known
from consistency_jax.metrics.calibration import coverage
from consistency_jax.metrics.distribution import entropy
from consistency_jax.metrics.divergence import (
    BOUNDS,
    both_ways,
    divergences,
    fit_temperatures,
    tolerance_area,
    tolerance_curve,
)
from consistency_jax.metrics.experts import experts
from consistency_jax.metrics.groups import item_groups
from consistency_jax.metrics.rankc import clc_values, language_pairs
from consistency_jax.metrics.response import adopted, responses
from consistency_jax.report.paired import Columns, Design, compare, levels, plain, rows_of, unweighted
from consistency_jax.table import Table

KIND = "jensen_shannon"  # of the fitted temperatures and the tolerance curve: symmetric, and it has a bound
_EPSILONS = np.round(np.linspace(0, BOUNDS[KIND], 36), 4)
_MOST_GROUPS = 100  # of items; the largest
_LEVELS = (0.5, 0.7, 0.8, 0.9)  # beside the level of the intervals
_MOST_COVERED, _MOST_PAIRS = 1000, 200  # items of a drawn test set, language pairs that are looked at


def fitted(table: Table) -> np.ndarray:
    """f64[L, L]: the temperatures of the table's language pairs."""
    return fit_temperatures(table.scores("sum"), table.mask, KIND)


def headline_columns(scores: np.ndarray, table: Table) -> Columns:
    """The columns of CLC and accuracy alone."""
    return unweighted(
        {"clc": clc_values(scores, table.mask), "accuracy": 100 * correct(scores, table.gold, table.mask)}
    )


def analyse(
    before: Table,
    after: Table,
    temperatures: Sequence[np.ndarray],
    columns: Sequence[Columns],
    design: Design,
    *,
    normalization: str,
    groups: Sequence[str] | None = None,
    steer: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The analysis of one split.

    Args:
      before, after: parallel tables.
      temperatures: `fitted` of both.
      columns: of both, with "clc" and "accuracy".
      design: of the figures.
      normalization: what candidates are ranked by.
      groups: the group of each item.
      steer: language -> weight in the consensus, ones by default.
    """
    return {
        "divergence": _divergence(before, after, temperatures, design),
        "response": _response(before, after, design, normalization),
        "direction": _direction(before, after, design, normalization),
        "experts": _experts(before, after, design, steer or {}),
        "normalizations": {
            name: compare(*(headline_columns(table.scores(name), table) for table in (before, after)), design)
            for name in before.normalizations
            if name in after.normalizations
        },
        "groups": _groups(columns, design, groups),
        "calibration": _calibration(columns, design),
    }


def _divergence(before: Table, after: Table, temperatures, design: Design) -> dict[str, Any]:
    """The fitted temperatures, and the tolerance curves: mean over language pairs of the share of items."""
    curves: dict[str, Any] = {"epsilon": _EPSILONS.tolist()}
    area: dict[str, Any] = {}
    for side, table, own in zip(("base", "final"), (before, after), temperatures):
        for name, temperature in ((side, 1.0), (f"{side}_fitted", own)):
            values = both_ways(divergences(table.scores("sum"), table.mask, KIND, temperature))
            curves[name] = 100 * mean_known(tolerance_curve(values, _EPSILONS), axis=-1)
            area[name] = 100 * mean_known(tolerance_area(values, BOUNDS[KIND]), axis=-1)
    return plain(
        {
            "temperature": {"base": temperatures[0], "final": temperatures[1]},
            "tolerance": curves,
            "tolerance_area": area,
        }
    )


def _response(before: Table, after: Table, design: Design, normalization: str) -> dict[str, Any]:
    """What became of answers, and how unsure the base was where they changed and where they did not."""
    base, final = (table.scores(normalization) for table in (before, after))
    found = responses(base, final, before.gold, before.mask)
    unsure = entropy(before.scores("sum"), before.mask)
    changed = np.nan_to_num(found.changed)
    columns = unweighted({name: 100 * values for name, values in vars(found).items()})
    columns["entropy_changed"] = (unsure, changed)
    columns["entropy_unchanged"] = (unsure, 1 - changed)
    return levels(columns, design)


def _direction(before: Table, after: Table, design: Design, normalization: str) -> dict[str, Any]:
    """Who moved towards whom: adopted[i][j], language i now says what j said where they differed, % of these items."""
    values, weights = adopted(*(table.scores(normalization) for table in (before, after)), before.mask)
    flat = (len(values), len(design.languages) ** 2)
    return levels({"adopted": (100 * values.reshape(flat), weights.reshape(flat))}, design)


def _calibration(columns: Sequence[Columns], design: Design) -> dict[str, Any]:
    """How often intervals like those of the figures hold the true change, were these items the population."""
    base, final = columns
    changes = {name: final[name][0] - base[name][0] for name in ("clc", "accuracy")}
    pairs = changes["clc"].shape[1]
    shown = np.unique(np.linspace(0, max(pairs - 1, 0), min(pairs, _MOST_PAIRS)).round().astype(int))
    changes["clc"] = changes["clc"][:, shown]
    changes["clc_all"] = mean_known(changes["clc"], axis=1)[:, None]
    count, items = [part.shape[1] for part in changes.values()], len(base["clc"][0])
    settings = {
        "sets": max(2, design.resamples // 8),
        "size": min(items, _MOST_COVERED),
        "replicates": max(20, design.resamples // 5),
    }
    grades = sorted({*_LEVELS, design.confidence})
    found = coverage(np.concatenate(list(changes.values()), axis=1), grades, seed=design.seed, **settings)
    parts = np.split(100 * found, np.cumsum(count)[:-1], axis=1)
    first, second = language_pairs(len(design.languages))
    at = grades.index(design.confidence)
    names = {
        "clc": [f"{design.languages[first[p]]} {design.languages[second[p]]}" for p in shown],
        "accuracy": list(design.languages),
        "clc_all": ["all"],
    }
    return settings | plain(
        {"levels": [100 * level for level in grades]}
        | {
            name: {"coverage": dict(zip(names[name], part[at])), "curve": mean_known(part, axis=1)}
            for name, part in zip(changes, parts)
        }
    )


def _experts(before: Table, after: Table, design: Design, steer: Mapping[str, float]) -> dict[str, Any]:
    """Of the base's product of experts: each language's part, its accuracy, and whether the answers followed it."""
    scores, mask, gold = before.scores("sum"), before.mask, before.gold
    weights = [float(steer.get(language, 1.0)) for language in design.languages]
    found = experts(scores, mask, weights)
    right = correct(scores, gold, mask)
    credit, strength = np.nan_to_num(right), found.strength[:, None] * ~np.isnan(right)
    there = found.mask.any(1)
    choice = top_choice(found.consensus[:, None], found.mask[:, None])
    follows = [
        np.where(
            mask.any(2) & there[:, None], (top_choice(table.scores("sum"), mask) * choice).sum(-1), np.nan
        )
        for table in (before, after)
    ]
    columns = unweighted(
        {
            "accuracy": 100 * right,
            "accuracy_without": 100 * found.correct_without(gold),
            "accuracy_final": 100 * correct(after.scores("sum"), gold, mask),
            "consensus_accuracy": 100 * found.correct(gold)[:, None],
            "followed_base": 100 * mean_known(follows[0], axis=1)[:, None],
            "followed_final": 100 * mean_known(follows[1], axis=1)[:, None],
        }
    )
    every = np.broadcast_to(found.strength[:, None], found.share.shape)
    columns["share"] = (100 * found.share, every)
    columns["share_right"] = (100 * found.share, strength * credit)
    columns["share_wrong"] = (100 * found.share, strength * (1 - credit))

    def gain(means) -> dict[str, Any]:
        return {
            "consensus_gain": means["consensus_accuracy"][..., 0] - mean_known(means["accuracy"], axis=-1)
        }

    return {"weights": dict(zip(design.languages, weights))} | levels(columns, design, gain)


def _groups(columns: Sequence[Columns], design: Design, groups: Sequence[str] | None) -> dict[str, Any]:
    """CLC and accuracy of each group of items, the largest first; none where there is but one."""
    rows = item_groups(groups) if groups is not None else {}
    if len(rows) < 2:
        return {}
    sides = [{name: side[name] for name in ("clc", "accuracy")} for side in columns]
    found = {}
    for name in list(rows)[:_MOST_GROUPS]:
        parts = compare(*(rows_of(side, rows[name]) for side in sides), design)
        for part in parts.values():
            del part["clc_matrix"], part["clc_with_others"]
        found[name] = {"items": len(rows[name])} | parts
    return found
