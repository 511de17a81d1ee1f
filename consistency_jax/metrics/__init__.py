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
from consistency_jax.metrics.calibration import coverage
from consistency_jax.metrics.distribution import entropy, log_probabilities
from consistency_jax.metrics.divergence import (
    DIVERGENCES,
    both_ways,
    divergences,
    fit_temperatures,
    tolerance_area,
    tolerance_curve,
)
from consistency_jax.metrics.experts import Experts, experts
from consistency_jax.metrics.generation import Matches, generated_agreement, match_answers, normalised
from consistency_jax.metrics.groups import item_groups, pairs_between, pairs_within
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
from consistency_jax.metrics.response import Response, adopted, responses
from consistency_jax.metrics.safety import REFUSAL_PATTERNS, Safety, judged, pag, refusals, safety

__all__ = [
    "CLC",
    "DIVERGENCES",
    "REFUSAL_PATTERNS",
    "WEIGHTS",
    "Accuracy",
    "Experts",
    "Interval",
    "Matches",
    "Response",
    "Safety",
    "accuracy",
    "adopted",
    "agreement_if_either_right",
    "all_agree",
    "all_agree_but_wrong",
    "all_right",
    "anchor_pairs",
    "bootstrap_delta",
    "bootstrap_mean",
    "both_ways",
    "chance",
    "chance_corrected",
    "changed_answers",
    "clc",
    "clc_values",
    "correct",
    "coverage",
    "divergences",
    "entropy",
    "experts",
    "fit_temperatures",
    "floor",
    "generated_agreement",
    "interval",
    "item_groups",
    "judged",
    "language_pairs",
    "log_probabilities",
    "match_answers",
    "normalised",
    "pag",
    "pair_matrix",
    "pairs_between",
    "pairs_within",
    "rankc",
    "rankc_of_pairs",
    "refusals",
    "resampled_means",
    "responses",
    "safety",
    "tolerance_area",
    "tolerance_curve",
    "top1_agreement",
    "top_choice",
    "weighted_means",
]
