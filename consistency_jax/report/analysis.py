"""What report.json says beside the figures: the definition, what changed and why, and what the figures depend on.

    {"divergence": {"temperature", "tolerance"}, "response", "direction", "experts", "normalizations", "groups",
     "calibration"}

Of a model alone there is no "response", "direction" and "calibration", and "temperature" and "tolerance" stand at the
top; where no more than its first answers is known, these two and "experts" are null. Percentages, 0..100, as in the
figures; divergences and entropies in nats. Distributions are those of the sums of log-probabilities, whatever
candidates are ranked by.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from consistency_jax.metrics.accuracy import correct, top_choice
from consistency_jax.metrics.arrays import mean_known
from consistency_jax.metrics.calibration import coverage
from consistency_jax.metrics.distribution import entropy
from consistency_jax.metrics.divergence import BOUNDS, tolerance_area, tolerance_curve
from consistency_jax.metrics.experts import experts
from consistency_jax.metrics.groups import item_groups
from consistency_jax.metrics.rankc import language_pairs
from consistency_jax.metrics.response import adopted, responses
from consistency_jax.report.columns import LANGUAGES, ORDERED, SINGLE, Columns, Figure, columns_of
from consistency_jax.report.figures import ACCURACY, CLC, KIND, TOP1, Ranked, measured
from consistency_jax.report.paired import CONFIDENCE, Design, compare, levels, plain, rows_of

_EPSILONS = np.round(np.linspace(0, BOUNDS[KIND], 36), 4)
_FEW_EPSILONS = np.array([0.01, 0.05, 0.1, 0.2, 0.3, 0.5])  # of a model alone
_MOST_GROUPS = 100  # of items; the largest
_LEVELS = (0.5, 0.7, 0.8, 0.9)  # below that of the intervals
_MOST_COVERED, _MOST_PAIRS = 1000, 200  # items of a drawn test set, language pairs that are looked at


def analyse(
    sides: Sequence[Ranked],
    columns: Sequence[Columns],
    design: Design,
    *,
    groups: Sequence[str] | None,
    steer: Mapping[str, float],
) -> dict[str, Any]:
    """The analysis of one split.

    Args:
      sides: before and after, or a model alone.
      columns: of each, with CLC and ACCURACY.
      design: of the figures.
      groups: the group of each item.
      steer: language -> weight in the consensus, ones by default.
    """
    scored = sides[0].table.known == "scores"
    shared = {
        "experts": _experts(sides, design, steer) if scored else None,
        "normalizations": {
            name: _compared(
                [
                    measured((CLC, ACCURACY), Ranked(side.table, name), len(design.languages))
                    for side in sides
                ],
                design,
            )
            for name in sides[0].table.normalizations
            if name in sides[-1].table.normalizations
        },
        "groups": _groups(columns, design, groups),
    }
    if len(sides) == 1:
        unknown = dict.fromkeys(("temperature", "tolerance", "tolerance_area"))
        return (_tolerance(sides[0], _FEW_EPSILONS) if scored else unknown) | shared
    parts = {name: _tolerance(side, _EPSILONS) for name, side in zip(("base", "final"), sides)}
    return shared | {
        "divergence": {
            "temperature": {name: part["temperature"] for name, part in parts.items()},
            "tolerance": {"epsilon": plain(_EPSILONS)} | _by_side(parts, "tolerance"),
            "tolerance_area": _by_side(parts, "tolerance_area"),
        },
        "response": _response(*sides, design),
        "direction": _direction(*sides, design),
        "calibration": _calibration(columns, design),
    }


def _compared(columns: Sequence[Columns], design: Design) -> dict[str, Any]:
    return compare(columns, design) if len(columns) > 1 else levels(columns[0], design)


def _tolerance(side: Ranked, epsilons: np.ndarray) -> dict[str, Any]:
    """Of the definition: the fitted temperatures, and the share of questions within each epsilon, mean over pairs."""
    shares, area = {"epsilon": epsilons}, {}
    for name, temperature in (("plain", 1.0), ("fitted", side.temperatures)):
        values = side.round_trip(KIND, temperature)
        shares[name] = 100 * mean_known(tolerance_curve(values, epsilons), axis=-1)
        area[name] = 100 * mean_known(tolerance_area(values, BOUNDS[KIND]), axis=-1)
    return plain({"temperature": side.temperatures, "tolerance": shares, "tolerance_area": area})


def _by_side(parts: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {
        name + end: part[key][own]
        for name, part in parts.items()
        for end, own in (("", "plain"), ("_fitted", "fitted"))
    }


def _response(before: Ranked, after: Ranked, design: Design) -> dict[str, Any]:
    """What became of answers, and how unsure the base was where they changed and where they did not."""
    found = responses(before.scores, after.scores, before.gold, before.mask)
    unsure = entropy(before.sums, before.mask)
    changed = np.nan_to_num(found.changed)
    columns = {name: 100 * values for name, values in vars(found).items()}
    columns |= {"entropy_changed": (unsure, changed), "entropy_unchanged": (unsure, 1 - changed)}
    rows = {Figure(name, LANGUAGES): values for name, values in columns.items()}
    return levels(columns_of(rows, len(design.languages)), design)


def _direction(before: Ranked, after: Ranked, design: Design) -> dict[str, Any]:
    """Who moved towards whom: adopted[i][j], language i now says what j said where they differed, % of these items."""
    values, weights = adopted(before.scores, after.scores, before.mask)
    row = {Figure("adopted", ORDERED): (100 * values, weights)}
    return levels(columns_of(row, len(design.languages)), design)


def _calibration(columns: Sequence[Columns], design: Design) -> dict[str, Any]:
    """How often intervals like those of the figures hold the true change, were these items the population."""
    base, final = columns
    changes = {row.name: final[row][0] - base[row][0] for row in (CLC, ACCURACY)}
    pairs = changes["clc"].shape[1]
    shown = np.unique(np.linspace(0, max(pairs - 1, 0), min(pairs, _MOST_PAIRS)).round().astype(int))
    changes["clc_all"] = mean_known(changes["clc"], axis=1)[:, None]
    changes["clc"] = changes["clc"][:, shown]
    count, items = [part.shape[1] for part in changes.values()], len(base[CLC][0])
    settings = {
        "sets": max(2, design.resamples // 8),
        "size": min(items, _MOST_COVERED),
        "replicates": max(20, design.resamples // 5),
    }
    grades = [*_LEVELS, CONFIDENCE]
    found = coverage(np.concatenate(list(changes.values()), axis=1), grades, seed=design.seed, **settings)
    parts = np.split(100 * found, np.cumsum(count)[:-1], axis=1)
    first, second = language_pairs(len(design.languages))
    names = {
        "clc": [f"{design.languages[first[p]]} {design.languages[second[p]]}" for p in shown],
        "accuracy": list(design.languages),
        "clc_all": ["all"],
    }
    return settings | plain(
        {"levels": [100 * level for level in grades]}
        | {
            name: {"coverage": dict(zip(names[name], part[-1])), "curve": mean_known(part, axis=1)}
            for name, part in zip(changes, parts)
        }
    )


def _experts(sides: Sequence[Ranked], design: Design, steer: Mapping[str, float]) -> dict[str, Any]:
    """Of the base's product of experts: each language's part, its accuracy, and whether the answers followed it."""
    before, after = sides[0], sides[-1]
    mask, gold, count = before.mask, before.gold, len(design.languages)
    weights = [float(steer.get(language, 1.0)) for language in design.languages]
    found = experts(before.sums, mask, weights)
    right = correct(before.sums, gold, mask)
    every = np.broadcast_to(found.strength[:, None], found.share.shape)
    accuracy = Figure("accuracy", LANGUAGES, derived=ACCURACY.derived)
    columns: dict[Figure, Any] = {
        accuracy: 100 * right,
        Figure("accuracy_without", LANGUAGES): 100 * found.correct_without(gold),
        Figure("consensus_accuracy", SINGLE): 100 * found.correct(gold),
        Figure("share", LANGUAGES): (100 * found.share, every),
    }
    if len(sides) == 1:
        return levels(columns_of(columns, count), design)
    credit, strength = np.nan_to_num(right), found.strength[:, None] * ~np.isnan(right)
    there = found.mask.any(1)
    choice = top_choice(found.consensus[:, None], found.mask[:, None])
    for name, side in zip(("followed_base", "followed_final"), sides):
        follows = (top_choice(side.sums, mask) * choice).sum(-1)
        follows = np.where(mask.any(2) & there[:, None], follows, np.nan)
        columns[Figure(name, SINGLE)] = 100 * mean_known(follows, axis=1)
    columns[Figure("accuracy_final", LANGUAGES)] = 100 * correct(after.sums, gold, mask)
    columns[Figure("share_right", LANGUAGES)] = (100 * found.share, strength * credit)
    columns[Figure("share_wrong", LANGUAGES)] = (100 * found.share, strength * (1 - credit))
    # Question by question, against the languages that have it.
    columns[Figure("consensus_gain", SINGLE)] = 100 * (found.correct(gold) - mean_known(right, axis=1))
    told = levels(columns_of(columns, count), design)
    return {"weights": dict(zip(design.languages, weights))} | told


def _groups(columns: Sequence[Columns], design: Design, groups: Sequence[str] | None) -> dict[str, Any]:
    """Agreement and accuracy of each group of items, the largest first; none where there is but one."""
    rows = item_groups(groups) if groups is not None else {}
    if len(rows) < 2:
        return {}
    sides = [{row: side[row] for row in (CLC, TOP1, ACCURACY)} for side in columns]
    dropped = ("_matrix", "_with_others") if len(sides) > 1 else ("_matrix",)
    found = {}
    for name in list(rows)[:_MOST_GROUPS]:
        parts = _compared([rows_of(side, rows[name]) for side in sides], design)
        parts = {
            end: {key: value for key, value in part.items() if not key.endswith(dropped)}
            for end, part in parts.items()
        }
        found[name] = {"items": len(rows[name])} | parts
    return found
