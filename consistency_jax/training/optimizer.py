"""Optimizer from config: optax, with a warm-up, a schedule, global-norm clipping and a policy of precision."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from flax import traverse_util
from ml_collections import ConfigDict

from consistency_jax.models.lora import ADAPTERS
from consistency_jax.training.precision import with_precision


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


def _adafactor(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """Adam without a first moment, its second one kept as row and column means. Unlike `optax.adafactor`, the learning
    rate means what it means elsewhere: steps are not scaled by the size of the weights, and it scales the decay."""
    return optax.chain(
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(make_schedule(config, config.learning_rate, total_steps)),
    )


def _lion(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """The sign of a momentum (b1, b2; b2 = 0.99 is usual). Wants a third to a tenth of AdamW's learning rate."""
    rate = make_schedule(config, config.learning_rate, total_steps)
    return optax.lion(rate, config.b1, config.b2, weight_decay=config.weight_decay)


def _muon(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """Muon on the matrices of the layers, at `matrix_learning_rate`; Adam on embeddings, norms and biases."""
    return optax.contrib.muon(
        make_schedule(config, config.matrix_learning_rate, total_steps),
        weight_decay=config.weight_decay,
        adam_learning_rate=make_schedule(config, config.learning_rate, total_steps),
        eps=config.eps,
        adam_b1=config.b1,
        adam_b2=config.b2,
        muon_weight_dimension_numbers=_matrices,
    )


def _matrices(params: Any) -> Any:
    """The stacked kernels and adapters [layers, in, out] are matrices; None for everything else."""
    matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    return traverse_util.path_aware_map(
        lambda path, _: matrix if path[0] == "layers" and path[-1] in ("kernel", *ADAPTERS) else None, params
    )


def _clip(limit: float) -> optax.GradientTransformation:
    """Scales gradients down to this global norm, by a product, as torch does. `optax.clip_by_global_norm` divides by
    the norm: quotients are dear, so that the compiler keeps them, a second copy of all gradients."""

    def scaled(grads: Any, params: Any) -> Any:
        scale = jnp.minimum(1.0, limit / optax.tree.norm(grads))
        return jax.tree.map(lambda grad: (scale * grad).astype(grad.dtype), grads)

    return optax.stateless(scaled)


OPTIMIZERS = {"adamw": _adamw, "adafactor": _adafactor, "lion": _lion, "muon": _muon}


def make_optimizer(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """The optax transformation of one stage.

    Args:
      config: `config.optimizer`.
      total_steps: length of the schedule.
    """
    clip = _clip(config.clip_norm) if config.clip_norm else optax.identity()
    optimizer = optax.chain(clip, OPTIMIZERS[config.name](config, total_steps))
    return with_precision(optimizer, config.state_dtype, config.rounding)
