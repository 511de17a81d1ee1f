"""Metrics: pure functions of tables of scores, numpy arrays in, float64 numbers out.

Scores are [N items, L languages, K candidates] (or [N, K] for one language), higher is better. Ties never
favour an index: every figure is its expectation over random tie-breaks.
"""

from consistency_jax.metrics.accuracy import Accuracy, accuracy, correct, top_choice
from consistency_jax.metrics.agreement import (
    agreement_if_either_right,
    all_agree,
    all_agree_but_wrong,
    all_right,
    changed_answers,
    top1_agreement,
)
from consistency_jax.metrics.bootstrap import (
    Interval,
    bootstrap_delta,
    bootstrap_mean,
    interval,
    resampled_means,
    weighted_means,
)
from consistency_jax.metrics.rankc import (
    CLC,
    WEIGHTS,
    anchor_pairs,
    chance,
    chance_corrected,
    clc,
    clc_values,
    floor,
    language_pairs,
    pair_matrix,
    rankc,
    rankc_of_pairs,
)

__all__ = [
    "CLC",
    "WEIGHTS",
    "Accuracy",
    "Interval",
    "accuracy",
    "agreement_if_either_right",
    "all_agree",
    "all_agree_but_wrong",
    "all_right",
    "anchor_pairs",
    "bootstrap_mean",
    "chance",
    "chance_corrected",
    "changed_answers",
    "clc",
    "clc_values",
    "correct",
    "floor",
    "interval",
    "language_pairs",
    "pair_matrix",
    "bootstrap_delta",
    "rankc",
    "rankc_of_pairs",
    "resampled_means",
    "top1_agreement",
    "top_choice",
    "weighted_means",
]
