"""Figures before and after, their differences, and how sure these are: one paired bootstrap for all of them.

Every figure is a mean over items or a function of such means, and `figures` is that function: applied to the means of a
table's columns it gives the figures, applied to the means of resampled items their replicates. A column holds one value
an item: `Columns` are named blocks of them, one column a language pair, a language, or a single one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from consistency_jax.metrics.arrays import mean_known, variance_known
from consistency_jax.metrics.bootstrap import interval, resampled_means, weighted_means
from consistency_jax.metrics.groups import pairs_within
from consistency_jax.metrics.rankc import anchor_pairs, pair_matrix

# name -> (values, weights) f64[N, M]
Columns = Mapping[str, tuple[np.ndarray, np.ndarray]]
Means = Mapping[str, np.ndarray]

_DIGITS = 6


@dataclass(frozen=True)
class Design:
    """What all figures of a split share.

    languages: L names; anchor: the one whose figures are also given apart (keys that end in _en).
    groups: name -> languages, whose figures are given apart too.
    confidence: of the intervals; resamples: behind each; seed: of the draws.
    """

    languages: Sequence[str]
    anchor: str = "en"
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0

    @property
    def position(self) -> int | None:
        """Of the anchor among the languages."""
        return list(self.languages).index(self.anchor) if self.anchor in self.languages else None


def figures(means: Means, design: Design) -> dict[str, Any]:
    """The figures of a split from the means [..., M] of its columns, with the same leading axes.

    Blocks of P columns give the means over all pairs and over those with the anchor, blocks of L columns every
    language, the anchor and the mean of the others, blocks of L * L columns (of ordered pairs, row by row) their matrix
    and the means of the anchor's column and row, single columns themselves.
    """
    count, position = len(design.languages), design.position
    with_anchor = anchor_pairs(count, position)
    others = np.arange(count) != (-1 if position is None else position)
    out: dict[str, Any] = {}
    for name in means:
        own, kind = means[name], block(name)
        if kind == "pairs":
            out[f"{name}_all"] = mean_known(own, axis=-1)
            out[f"{name}_en"] = mean_known(own[..., with_anchor], axis=-1)
        elif kind == "languages":
            out[name] = {language: own[..., i] for i, language in enumerate(design.languages)}
            unknown = np.full(own.shape[:-1], np.nan)
            out[f"{name}_en"] = unknown if position is None else own[..., position]
            out[f"{name}_non_en"] = mean_known(own[..., others], axis=-1)
        elif kind == "ordered":
            matrix = own.reshape(*own.shape[:-1], count, count)
            out[name] = matrix
            if position is not None:
                out[f"{name}_from_en"] = mean_known(matrix[..., others, position], axis=-1)
                out[f"{name}_by_en"] = mean_known(matrix[..., position, others], axis=-1)
        else:
            out[name] = own[..., 0]
    for name in _WITH_VARIANCE:
        if name in means:
            out[f"{name}_variance"] = variance_known(means[name])
    for name in _WITH_MATRIX:
        if name in means:
            matrix = pair_matrix(means[name], count, diagonal=np.nan)
            with_others = mean_known(matrix, axis=-1)
            out[f"{name}_with_others"] = {l: with_others[..., i] for i, l in enumerate(design.languages)}
            diagonal = np.eye(count, dtype=bool)
            out[f"{name}_matrix"] = np.where(diagonal, 100.0, matrix)
    if design.groups:
        out["language_groups"] = {name: _of_group(means, design, name) for name in design.groups}
    return out


# What the columns of a block stand for, by the beginning of its name; else a single one.
_BLOCKS = {
    "pairs": ("clc", "top1_agreement", "agreement", "divergence", "pag"),
    "languages": (
        *("accuracy", "changed", "to_right", "to_wrong", "to_other_wrong", "entropy", "share"),
        *("matched", "right", "refused"),
    ),
    "ordered": ("adopted",),
}
_WITH_VARIANCE = ("accuracy", "refused")
_WITH_MATRIX = ("clc", "agreement", "pag")


def block(name: str) -> str:
    """ "pairs", "languages", "ordered" (pairs of languages) or "single"."""
    return next((kind for kind, names in _BLOCKS.items() if name.startswith(names)), "single")


def _of_group(means: Means, design: Design, name: str) -> dict[str, Any]:
    members = [i for i, language in enumerate(design.languages) if language in design.groups[name]]
    within = pairs_within(len(design.languages), members)
    return {
        name: mean_known(own[..., within if block(name) == "pairs" else members], axis=-1)
        for name, own in means.items()
        if name in ("clc", "top1_agreement", "accuracy")
    }


def compare(base: Columns, final: Columns, design: Design) -> dict[str, Any]:
    """{"base", "final", "delta", "confidence"}: figures, their differences, and the [low, high] of each difference."""
    points: list[dict[str, np.ndarray]] = [{}, {}]
    samples: list[dict[str, np.ndarray]] = [{}, {}]
    for name in base:
        values, weights = (np.concatenate(parts, axis=1) for parts in zip(base[name], final[name]))
        means, drawn = _means(values, weights, design)
        for side in (0, 1):
            points[side][name] = np.split(means, 2)[side]
            samples[side][name] = np.split(drawn, 2, axis=1)[side]
    before, after = (figures(means, design) for means in points)
    before_samples, after_samples = (figures(means, design) for means in samples)
    return {
        "base": plain(before),
        "final": plain(after),
        "delta": plain(_zip(lambda low, high: high - low, before, after)),
        "confidence": plain(
            _zip(lambda low, high: _bounds(high - low, design), before_samples, after_samples)
        ),
    }


def levels(
    columns: Columns, design: Design, more: Callable[[Means], Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """{"value", "confidence"}: figures of one side, and the [low, high] of each. `more` makes more of the means."""
    points, samples = {}, {}
    for name, (values, weights) in columns.items():
        points[name], samples[name] = _means(values, weights, design)

    def all_of(means: Means) -> dict[str, Any]:
        return figures(means, design) | (dict(more(means)) if more else {})

    bounds = _map(lambda drawn: _bounds(drawn, design), all_of(samples))
    return {"value": plain(all_of(points)), "confidence": plain(bounds)}


def plain(value: Any) -> Any:
    """Numbers and lists for JSON: rounded (to be the same on every machine), NaN as None, -0 as 0."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, np.ndarray | np.floating):
        return plain(value.tolist())
    return None if value is None or np.isnan(value) else round(value, _DIGITS) + 0.0


def unweighted(columns: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Columns [N, M] whose items all count the same."""
    return {name: (values, np.ones(values.shape)) for name, values in columns.items()}


def rows_of(columns: Columns, rows: np.ndarray) -> Columns:
    """The same columns of some items."""
    return {name: (values[rows], weights[rows]) for name, (values, weights) in columns.items()}


def _means(values: np.ndarray, weights: np.ndarray, design: Design) -> tuple[np.ndarray, np.ndarray]:
    drawn = resampled_means(values, weights, replicates=design.resamples, seed=design.seed)
    return weighted_means(values, weights), drawn


def _bounds(samples: np.ndarray, design: Design) -> np.ndarray:
    return np.moveaxis(interval(samples, design.confidence), 0, -1)


def _map(function: Callable, value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _map(function, v) if isinstance(v, Mapping) else function(v) for key, v in value.items()}


def _zip(function: Callable, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _zip(function, value, second[key])
        if isinstance(value, Mapping)
        else function(value, second[key])
        for key, value in first.items()
    }
