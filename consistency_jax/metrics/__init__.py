"""Metrics: pure functions of tables of scores, numpy arrays in, float64 numbers out.

Scores are [N items, L languages, K candidates] (or [N, K] for one language), higher is better. Ties never
favour an index: every figure is its expectation over random tie-breaks (of answers changed, the least that ties allow).
"""
# ruff: noqa: F401  (what is imported here is what the outside calls)

from consistency_jax.metrics.accuracy import Accuracy, accuracy, correct, mother_tongue_effect, top_choice
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
from consistency_jax.metrics.groups import item_groups, pairs_within
from consistency_jax.metrics.kappa import capa, fleiss_kappa, krippendorff_alpha
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
from consistency_jax.metrics.safety import REFUSAL_PATTERNS, judged, pag, refusal_patterns, refusals
