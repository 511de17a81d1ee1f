"""What report.json says of answers that the model wrote: "generation", by test split, and "safety", by kind of prompt.

    {"generation": {split: parts}, "safety": {"harmful": parts, "harmless": parts}}

`parts` are those of `paired.compare`, before and after or of one model alone, with the "settings" behind them.
Percentages, 0..100. A free-text answer is one of the item's candidates or none of them (see metrics/generation.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from consistency_jax.metrics.generation import Matches
from consistency_jax.report.figures import FREE_TEXT, SAFETY, Answers, measured
from consistency_jax.report.paired import Design, compare


def generation_figures(
    sides: Sequence[Matches], gold: np.ndarray, design: Design, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Free-text answers of a split before and after, or of one model.

    Args:
      gold: of the items, as metrics take it.
      settings: told beside the figures.
    """
    answers = [Answers(side, gold) for side in sides]
    return _parts(FREE_TEXT, answers, design, {"items": len(gold)} | dict(settings))


def safety_figures(
    sides: Sequence[np.ndarray], design: Design, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Verdicts f64[N, L] on one kind of prompts before and after, or on those of one model.

    1 where a response refuses, 0 where it does not, NaN where there is none.
    """
    return _parts(SAFETY, sides, design, {"items": len(sides[0])} | dict(settings))


def _parts(rows, sides: Sequence[Any], design: Design, settings: dict[str, Any]) -> dict[str, Any]:
    languages = list(design.languages)
    parts = compare([measured(rows, side, len(languages)) for side in sides], design)
    return parts | {"settings": settings | {"languages": languages}}
