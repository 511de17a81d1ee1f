"""Optimizer from config: optax, with a warm-up, a schedule and global-norm clipping."""

from typing import Any

import optax
import optax.contrib
from flax import traverse_util
from ml_collections import ConfigDict


def make_schedule(config: ConfigDict, peak: float, total_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up from 0, then linear, cosine or constant, down to `end` x the peak."""
    warmup = config.warmup_steps
    rest = max(1, total_steps - warmup)
    if config.schedule == "linear":
        after = optax.linear_schedule(peak, peak * config.end, rest)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=config.end)
    else:
        after = optax.constant_schedule(peak)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _adamw(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    rate = make_schedule(config, config.learning_rate, total_steps)
    return optax.adamw(rate, config.b1, config.b2, config.eps, weight_decay=config.weight_decay)


def _muon(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """Muon on the matrices of the layers, at `matrix_learning_rate`; Adam on embeddings, norms and biases."""
    return optax.contrib.muon(
        make_schedule(config, config.matrix_learning_rate, total_steps),
        weight_decay=config.weight_decay,
        adam_learning_rate=make_schedule(config, config.learning_rate, total_steps),
        adam_b1=config.b1,
        adam_b2=config.b2,
        muon_weight_dimension_numbers=_matrices,
    )


def _matrices(params: Any) -> Any:
    """The stacked kernels [layers, in, out] are matrices; None for everything else."""
    matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    return traverse_util.path_aware_map(
        lambda path, _: matrix if path[0] == "layers" and path[-1] == "kernel" else None, params
    )


OPTIMIZERS = {"adamw": _adamw, "muon": _muon}


def make_optimizer(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """The optax transformation of one stage.

    Args:
      config: `config.optimizer`.
      total_steps: length of the schedule.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, OPTIMIZERS[config.name](config, total_steps))
