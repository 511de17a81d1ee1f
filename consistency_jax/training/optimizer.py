"""Optimizer from config: optax, with a warm-up, a schedule and global-norm clipping."""

import re
from typing import Any

import jax
import optax
from ml_collections import ConfigDict


def make_schedule(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up from 0, then linear, cosine or constant, down to `end` x the peak."""
    peak, warmup = config.learning_rate, config.warmup_steps
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
    adamw = optax.adamw(
        make_schedule(config, total_steps), config.b1, config.b2, config.eps, weight_decay=config.weight_decay
    )
    optimizer = optax.chain(clip, adamw)
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
