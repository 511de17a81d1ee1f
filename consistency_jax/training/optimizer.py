"""Optimizer from config: optax, with a warm-up, a schedule and global-norm clipping."""

import re
from typing import Any

import jax
import optax
import optax.contrib
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
    return jax.tree_util.tree_map_with_path(
        lambda path, _: matrix if re.search("^layers/.*kernel$", param_name(path)) else None, params
    )


OPTIMIZERS = {"adamw": _adamw, "muon": _muon}


def make_optimizer(config: ConfigDict, total_steps: int, params: Any) -> optax.GradientTransformation:
    """The optax transformation of one stage.

    Args:
      config: `config.optimizer`. `freeze` is a regular expression searched in paths such as "layers/mlp/up/kernel":
        what it finds is not trained and takes no optimizer memory.
      total_steps: length of the schedule.
      params: tree of parameters (arrays or shapes) that `freeze` is matched against.

    Raises:
      ValueError: where `freeze` finds nothing, or everything.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    optimizer = optax.chain(clip, OPTIMIZERS[config.name](config, total_steps))
    if not config.freeze:
        return optimizer
    labels = jax.tree_util.tree_map_with_path(
        lambda path, _: "frozen" if re.search(config.freeze, param_name(path)) else "trained", params
    )
    found = set(jax.tree.leaves(labels))
    if found != {"frozen", "trained"}:
        names = [param_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        what = "no parameter" if found == {"trained"} else "every parameter"
        raise ValueError(f"optimizer.freeze={config.freeze!r} matches {what}; there are: {', '.join(names)}")
    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def param_name(path: tuple[Any, ...]) -> str:
    """A tree path as "layers/mlp/up/kernel"."""
    return "/".join(str(getattr(key, "key", key)) for key in path)
