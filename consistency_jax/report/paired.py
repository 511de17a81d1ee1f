"""Figures before and after, their differences, and how sure these are: one paired bootstrap for all of them.

Every figure is a mean over items or a function of such means, and `figures` is that function: applied to the means of a
table's columns it gives the figures, applied to the means of resampled items their replicates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from consistency_jax.data.examples import ANCHOR
from consistency_jax.metrics.arrays import mean_known, variance_known
from consistency_jax.metrics.bootstrap import interval, resampled_means, weighted_means
from consistency_jax.metrics.groups import pairs_within
from consistency_jax.metrics.rankc import anchor_pairs, pair_matrix
from consistency_jax.report.columns import LANGUAGES, ORDERED, PAIRS, Columns, Figure

Means = Mapping[Figure, np.ndarray]

CONFIDENCE = 0.95  # of all intervals
_DIGITS = 6


@dataclass(frozen=True)
class Design:
    """What all figures of a split share.

    languages: L names; English's figures are also given apart (keys that end in _en).
    groups: name -> languages, whose figures are given apart too.
    resamples: behind each interval; seed: of the draws.
    """

    languages: Sequence[str]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    resamples: int = 2000
    seed: int = 0


def figures(means: Means, design: Design) -> dict[str, Any]:
    """The figures of a split from the means [..., M] of its columns, with the same leading axes.

    PAIRS give the means over all pairs and over those with English, LANGUAGES every language, English and the mean of
    the others, ORDERED pairs their matrix and the means of English's column and row, SINGLE ones themselves.
    """
    languages, count = list(design.languages), len(design.languages)
    position = languages.index(ANCHOR) if ANCHOR in languages else None
    with_anchor = anchor_pairs(count, position)
    others = np.array([language != ANCHOR for language in languages], bool)
    out: dict[str, Any] = {}
    for figure, own in means.items():
        name = figure.name
        if figure.block is PAIRS:
            out[f"{name}_all"] = mean_known(own, axis=-1)
            out[f"{name}_en"] = mean_known(own[..., with_anchor], axis=-1)
        elif figure.block is LANGUAGES:
            out[name] = {language: own[..., i] for i, language in enumerate(languages)}
            out[f"{name}_en"] = mean_known(own[..., ~others], axis=-1)
            out[f"{name}_non_en"] = mean_known(own[..., others], axis=-1)
        elif figure.block is ORDERED:
            out[name] = matrix = own.reshape(*own.shape[:-1], count, count)
            if position is not None:
                out[f"{name}_from_en"] = mean_known(matrix[..., others, position], axis=-1)
                out[f"{name}_by_en"] = mean_known(matrix[..., position, others], axis=-1)
        else:
            out[name] = own[..., 0]
        if "variance" in figure.derived:
            out[f"{name}_variance"] = variance_known(own)
        if "gap" in figure.derived:
            out[f"{name}_gap"] = np.fmax.reduce(own, axis=-1) - np.fmin.reduce(own, axis=-1)
        if "matrix" in figure.derived:
            matrix = pair_matrix(own, count, diagonal=np.nan)
            with_others = mean_known(matrix, axis=-1)
            out[f"{name}_with_others"] = {l: with_others[..., i] for i, l in enumerate(languages)}
            out[f"{name}_matrix"] = np.where(np.eye(count, dtype=bool), 100.0, matrix)
    if design.groups:
        out["language_groups"] = {name: _of_group(means, design, name) for name in design.groups}
    return out


def _of_group(means: Means, design: Design, name: str) -> dict[str, Any]:
    members = [i for i, language in enumerate(design.languages) if language in design.groups[name]]
    columns = {PAIRS: pairs_within(len(design.languages), members), LANGUAGES: members}
    return {
        figure.name: mean_known(own[..., columns[figure.block]], axis=-1)
        for figure, own in means.items()
        if "groups" in figure.derived
    }


def replicates(sides: Sequence[Columns], design: Design) -> list[dict[Figure, np.ndarray]]:
    """Of each side the means f64[1 + R, M] over items, then over R bootstrap samples, the same ones for all sides; or
    what a figure makes of them."""
    found: list[dict[Figure, np.ndarray]] = [{} for _ in sides]
    for figure in sides[0]:
        values, weights = (np.concatenate(parts, axis=1) for parts in zip(*(side[figure] for side in sides)))
        drawn = resampled_means(values, weights, replicates=design.resamples, seed=design.seed)
        means = np.concatenate([weighted_means(values, weights)[None], drawn])
        for own, part in zip(found, np.split(means, len(sides), axis=1)):
            size = figure.block.size(len(design.languages))
            of_means = figure.of_means if part.shape[1] > size else None  # else nothing is known of it
            own[figure] = of_means(part.reshape(len(part), -1, size)) if of_means else part
    return found


def levels(
    columns: Columns, design: Design, more: Callable[[Means], Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """{"value", "confidence"}: figures of one side, and the [low, high] of each. `more` makes more of the means."""
    (means,) = replicates([columns], design)
    found = figures(means, design) | (dict(more(means)) if more else {})
    return {
        "value": _map(lambda values: values[0], found),
        "confidence": _map(_bounds, found),
    }


def compare(sides: Sequence[Columns], design: Design) -> dict[str, Any]:
    """{"base", "final", "delta", "confidence"}: figures, their differences, and the [low, high] of each difference.

    Of one side {"base", "confidence"}: figures, and the [low, high] of each.
    """
    if len(sides) == 1:
        alone = levels(sides[0], design)
        return {"base": alone["value"], "confidence": alone["confidence"]}
    before, after = (figures(means, design) for means in replicates(sides, design))
    return {
        "base": _map(lambda values: values[0], before),
        "final": _map(lambda values: values[0], after),
        "delta": _map(lambda low, high: high[0] - low[0], before, after),
        "confidence": _map(lambda low, high: _bounds(high - low), before, after),
    }


def plain(value: Any) -> Any:
    """Numbers and lists for JSON: rounded (to be the same on every machine), NaN as None, -0 as 0."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, np.ndarray | np.floating):
        return plain(value.tolist())
    return None if value is None or np.isnan(value) else round(value, _DIGITS) + 0.0


def rows_of(columns: Columns, rows: np.ndarray) -> Columns:
    """The same columns of some items."""
    return {figure: (values[rows], weights[rows]) for figure, (values, weights) in columns.items()}


def _bounds(values: np.ndarray) -> np.ndarray:
    return np.moveaxis(interval(values[1:], CONFIDENCE), 0, -1)


def _map(function: Callable, *trees: Mapping[str, Any]) -> dict[str, Any]:
    """The function's values for JSON, of what stands at the same place in all trees."""
    return {
        key: _map(function, *parts) if isinstance(parts[0], Mapping) else plain(function(*parts))
        for key in trees[0]
        for parts in [[tree[key] for tree in trees]]
    }
