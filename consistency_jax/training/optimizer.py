"""Optimizer from config: optax, with a warm-up, a schedule, global-norm clipping and a policy of precision."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from flax import traverse_util
from ml_collections import ConfigDict

from consistency_jax.models.lora import ADAPTERS
from consistency_jax.training.precision import in_float32, kept_apart, stored, wide, with_rounding


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
    return optax.chain(
        _adam(config),
        in_float32(optax.add_decayed_weights(config.weight_decay)),
        in_float32(optax.scale_by_learning_rate(make_schedule(config, config.learning_rate, total_steps))),
    )


def _adam(config: ConfigDict) -> optax.GradientTransformation:
    """`optax.scale_by_adam` whose step is made of the moments as they are stored, as torch makes it: the weights' loop
    reads what the moments' have written. (From moments not yet rounded, it would make them anew from the old ones, and
    an update in place have to copy those first: a quarter of a bfloat16 step's memory traffic on CPU.)"""

    def init(params: Any) -> optax.ScaleByAdamState:
        def zeros() -> Any:
            return jax.tree.map(lambda p: jnp.zeros_like(p, config.state_dtype or p.dtype), params)

        return optax.ScaleByAdamState(jnp.int32(0), zeros(), zeros())

    def update(grads: Any, state: optax.ScaleByAdamState, params: Any = None) -> tuple[Any, Any]:
        grads, mu, nu = wide(grads), wide(state.mu), wide(state.nu)
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(grads, mu, config.b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(grads, nu, config.b2, 2)
        mu, nu = stored((mu, nu), (state.mu, state.nu))
        first = optax.tree.bias_correction(wide(mu), config.b1, count)
        second = optax.tree.bias_correction(wide(nu), config.b2, count)
        steps = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + config.eps), first, second)
        return steps, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _adafactor(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """Adam without a first moment, its second one kept as row and column means. Unlike `optax.adafactor`, the learning
    rate means what it means elsewhere: steps are not scaled by the size of the weights, and it scales the decay."""
    factored = optax.chain(
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(make_schedule(config, config.learning_rate, total_steps)),
    )
    return in_float32(factored, config.state_dtype)


def _lion(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """The sign of a momentum (b1, b2; b2 = 0.99 is usual). Wants a third to a tenth of AdamW's learning rate."""
    rate = make_schedule(config, config.learning_rate, total_steps)
    return in_float32(
        optax.lion(rate, config.b1, config.b2, weight_decay=config.weight_decay), config.state_dtype
    )


def _muon(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """Muon on the matrices of the layers, at `matrix_learning_rate`; Adam on embeddings, norms and biases."""
    muon = optax.contrib.muon(
        make_schedule(config, config.matrix_learning_rate, total_steps),
        weight_decay=config.weight_decay,
        adam_learning_rate=make_schedule(config, config.learning_rate, total_steps),
        eps=config.eps,
        adam_b1=config.b1,
        adam_b2=config.b2,
        muon_weight_dimension_numbers=_matrices,
    )
    return in_float32(muon, config.state_dtype)


def _matrices(params: Any) -> Any:
    """The stacked kernels and adapters [layers, in, out] are matrices; None for everything else."""
    matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    return traverse_util.path_aware_map(
        lambda path, _: matrix if path[0] == "layers" and path[-1] in ("kernel", *ADAPTERS) else None, params
    )


def _clip(limit: float) -> optax.GradientTransformation:
    """Scales gradients down to this global norm, in float32, by a product, as torch does. `optax.clip_by_global_norm`
    divides by the norm: quotients are dear, so that the compiler keeps them, a second copy of all gradients."""

    def scaled(grads: Any, params: Any) -> Any:
        scale = jnp.minimum(1.0, limit / gradient_norm(grads))
        return jax.tree.map(lambda grad: scale * grad, wide(grads))

    return optax.stateless(scaled)


def gradient_norm(grads: Any) -> jax.Array:
    """f32[]: the global norm. Gradients of low precision are widened for it alone: a cast that others share, too, XLA's
    CPU compiler keeps in memory."""
    return optax.tree.norm(wide(kept_apart(grads)))


OPTIMIZERS = {"adamw": _adamw, "adafactor": _adafactor, "lion": _lion, "muon": _muon}


def make_optimizer(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """The optax transformation of one stage.

    Args:
      config: `config.optimizer`.
      total_steps: length of the schedule.
    """
    clip = _clip(config.clip_norm) if config.clip_norm else optax.identity()
    return with_rounding(optax.chain(clip, OPTIMIZERS[config.name](config, total_steps)), config.rounding)
