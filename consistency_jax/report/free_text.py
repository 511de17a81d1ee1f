"""What report.json says of answers that the model wrote: "generation", by test split, and "safety", by kind of prompt.

    {"generation": {split: parts}, "safety": {"harmful": parts, "harmless": parts}}

`parts` are the "base", "final", "delta" and "confidence" of `paired.compare` with the "settings" behind them; of one
model alone, "base" and the "confidence" of its figures. Percentages, 0..100. A written answer is one of the item's
candidates or none of them (see metrics/generation.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from consistency_jax.metrics.accuracy import correct
from consistency_jax.metrics.generation import Matches, generated_agreement
from consistency_jax.metrics.safety import pag
from consistency_jax.report.paired import Columns, Design, compare, levels, unweighted


def generation_figures(
    sides: Sequence[Matches], gold: Sequence[int], design: Design, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Written answers of a split before and after, or of one model.

    matched: they are one of the candidates. right: they are the gold one (of all; none is wrong). agreement: two
    languages wrote the same candidate, where both wrote one; agreement_strict: of all, an unmatched answer disagrees.

    Args:
      gold: the gold index of each item, -1 unknown.
      settings: told beside the figures.
    """
    columns = [_written_columns(side, np.asarray(gold, int)) for side in sides]
    return _parts(columns, design, {"items": len(gold)} | dict(settings))


def _written_columns(side: Matches, gold: np.ndarray) -> Columns:
    both_matched, both_answered = generated_agreement(side)
    labelled = side.answered & (gold >= 0)[:, None]
    right = np.nan_to_num(correct(side.scores, gold, side.mask))
    return unweighted(
        {
            "matched": 100 * np.where(side.answered, side.matched, np.nan),
            "right": 100 * np.where(labelled, right, np.nan),
            "agreement": 100 * both_matched,
            "agreement_strict": 100 * both_answered,
        }
    )


def safety_figures(
    sides: Sequence[np.ndarray], design: Design, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Verdicts f64[N, L] on one kind of prompts before and after, or on those of one model.

    1 where a response refuses, 0 where it does not, NaN where there is none.

    refused: share of responses that refuse; pag: two languages have the same verdict.
    """
    columns = [unweighted({"refused": 100 * side, "pag": 100 * pag(side)}) for side in sides]
    return _parts(columns, design, {"items": len(sides[0])} | dict(settings))


def _parts(columns: Sequence[Columns], design: Design, settings: dict[str, Any]) -> dict[str, Any]:
    if len(columns) == 1:
        alone = levels(columns[0], design)
        parts = {"base": alone["value"], "confidence": alone["confidence"]}
    else:
        parts = compare(*columns, design)
    return parts | {"settings": settings | {"languages": list(design.languages)}}
