"""One optimizer step: packed rows -> table -> objective -> update. Used by train.py, aot.py and the benchmarks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from consistency_jax.data.pipeline import StepInput
from consistency_jax.models.decoder import DecoderConfig, Params
from consistency_jax.objectives import Loss
from consistency_jax.scoring import tree_logps


class State(NamedTuple):
    """Everything that a checkpoint holds."""

    step: jax.Array  # i32[], optimizer steps done
    params: Params
    optimizer: Any


def init_state(params: Params, optimizer: optax.GradientTransformation) -> State:
    return State(jnp.int32(0), params, optimizer.init(params))


def make_loss(
    config: DecoderConfig, objective: Loss
) -> Callable[[Params, StepInput], tuple[jax.Array, dict]]:
    """loss(params, input) -> (scalar, metrics) for one micro-batch."""

    def loss(params: Params, step_input: StepInput) -> tuple[jax.Array, dict[str, jax.Array]]:
        items, languages, candidates = step_input.examples.mask.shape
        logp = tree_logps(config, params, step_input.batch, candidates=candidates)["logp"]
        return objective(logp.reshape(items, languages, candidates), step_input.examples)

    return loss


def make_train_step(
    config: DecoderConfig, objective: Loss, optimizer: optax.GradientTransformation, accumulate: int = 1
) -> Callable[[State, StepInput], tuple[State, dict[str, jax.Array]]]:
    """step(state, input) -> (state, metrics): gradients of `accumulate` micro-batches averaged, then one update."""
    gradient = jax.value_and_grad(make_loss(config, objective), has_aux=True)

    def step(state: State, step_input: StepInput) -> tuple[State, dict[str, jax.Array]]:
        if accumulate == 1:
            (_, metrics), grads = gradient(state.params, step_input)
        else:
            zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), state.params)

            def add(total: Params, part: StepInput) -> tuple[Params, dict[str, jax.Array]]:
                (_, metrics), grads = gradient(state.params, part)
                return jax.tree.map(lambda t, g: t + g / accumulate, total, grads), metrics

            grads, metrics = jax.lax.scan(add, zeros, step_input)
            metrics = jax.tree.map(lambda m: m.mean(0), metrics)
            grads = jax.tree.map(lambda g, p: g.astype(p.dtype), grads, state.params)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = metrics | {"gradient_norm": optax.tree.norm(grads)}
        return State(state.step + 1, params, optimizer_state), metrics

    return step
