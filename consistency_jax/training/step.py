"""One optimizer step: packed rows -> table -> objective -> update. Used by train.py, aot and the benchmarks.

Parameters come as trained and frozen ones (trainable.py). An auxiliary loss has parameters of its own, trained and
checkpointed beside the model's and dropped at the end.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from consistency_jax.data.examples import Examples, StepInput
from consistency_jax.models.decoder import DecoderConfig, Params, abstract_params
from consistency_jax.models.shardings import param_shardings
from consistency_jax.objectives import Loss, Mlc, Outputs, mlc
from consistency_jax.objectives.mlc import countable
from consistency_jax.runtime.mesh import replicated, state_shardings
from consistency_jax.scoring.logps import batch_shardings, tree_logps
from consistency_jax.training.optimizer import gradient_norm
from consistency_jax.training.trainable import merge_params, split_params

AUXILIARY = "auxiliary"


class TrainState(NamedTuple):
    """Everything that a checkpoint holds."""

    step: jax.Array  # i32[], optimizer steps done
    params: Params  # the trained ones
    optimizer: Any  # of `joined` parameters
    auxiliary: Any = ()  # parameters of an auxiliary loss, where there is one


def init_state(params: Params, optimizer: optax.GradientTransformation, auxiliary: Any = ()) -> TrainState:
    return TrainState(jnp.int32(0), params, optimizer.init(joined(params, auxiliary)), auxiliary)


def joined(params: Params, auxiliary: Any) -> Params:
    """All that an update is for, in one tree."""
    return params | {AUXILIARY: auxiliary} if auxiliary else params


def parted(trained: Params) -> tuple[Params, Any]:
    """The inverse of `joined`."""
    return {name: tree for name, tree in trained.items() if name != AUXILIARY}, trained.get(AUXILIARY, ())


def make_loss(
    config: DecoderConfig, objective: Loss, auxiliary: Mlc | None = None
) -> Callable[..., tuple[jax.Array, dict]]:
    """loss(trained, frozen, input, scales) -> (scalar, metrics) for one micro-batch.

    `trained` is `joined`; `scales` says how often the objective and the auxiliary loss count.
    """
    layer = auxiliary.layer if auxiliary and auxiliary.layer >= 0 else None

    def loss(
        trained: Params, frozen: Params, step_input: StepInput, scales: Any = (1.0, 0.0)
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        examples = step_input.examples
        items, languages, candidates = examples.mask.shape
        own = items * languages  # trees behind those are the prompts beside the items
        params, extractor = parted(trained)
        everything = merge_params(params, frozen)
        out = tree_logps(config, everything, step_input.batch, candidates=candidates, layer=layer)
        outputs = Outputs(
            out["logp"][:own].reshape(items, languages, candidates),
            out["state"][:own].reshape(items, languages, -1),
        )
        total, metrics = objective(outputs, examples)
        total = scales[0] * total
        if auxiliary:
            states = out["state" if layer is None else "layer_state"]
            mask = _languages(examples)
            states = (states[own:] if examples.prompts.size else states[:own]).reshape(*mask.shape, -1)
            more, own_metrics = mlc(states, extractor, mask=mask, tau=auxiliary.tau)
            total += scales[1] * more
            metrics |= {f"mlc_{name}": value for name, value in own_metrics.items()}
        return total, metrics

    return loss


def _languages(examples: Examples) -> jax.Array:
    """bool[P, L]: the languages of the prompts that an auxiliary loss is about."""
    return examples.prompts if examples.prompts.size else examples.mask.any(2)


def make_train_step(
    config: DecoderConfig,
    objective: Loss,
    optimizer: optax.GradientTransformation,
    accumulate: int = 1,
    auxiliary: Mlc | None = None,
) -> Callable[[TrainState, Params, StepInput], tuple[TrainState, dict[str, jax.Array]]]:
    """step(state, frozen, input) -> (state, metrics).

    Gradients of `accumulate` micro-batches are added up in float32, each with the share of its loss (of objectives'
    metrics["weight"], of the items of an auxiliary loss), which gives the gradient of the whole batch; then there is
    one update.
    """
    gradient = jax.value_and_grad(make_loss(config, objective, auxiliary), has_aux=True)

    def weights(examples: Examples) -> jax.Array:
        """f32[2]: over how much the means of the two losses are taken, which the outputs do not change."""
        shape = examples.mask.shape
        outputs = Outputs(jnp.zeros(shape), jnp.zeros((*shape[:2], config.hidden)))
        weight = objective(outputs, examples)[1]["weight"]
        return jnp.stack([weight, countable(_languages(examples)).sum().astype(weight.dtype)])

    def step(
        state: TrainState, frozen: Params, step_input: StepInput
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        trained = joined(state.params, state.auxiliary)
        scales = jnp.stack([jnp.float32(1), auxiliary.scale(state.step) if auxiliary else jnp.float32(0)])
        if accumulate == 1:
            (_, metrics), grads = gradient(trained, frozen, step_input, scales)
        else:
            zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), trained)
            shares = jax.vmap(weights)(step_input.examples)  # [accumulate, 2]
            shares /= jnp.maximum(shares.sum(0), 1e-30)

            def add(total: Params, part: tuple[StepInput, jax.Array]) -> tuple[Params, dict[str, jax.Array]]:
                (_, metrics), grads = gradient(trained, frozen, part[0], part[1] * scales)
                return jax.tree.map(lambda t, g: t + g, total, grads), metrics

            grads, metrics = jax.lax.scan(add, zeros, (step_input, shares))
            share = {name: shares[:, int(name.startswith("mlc_"))] for name in metrics}
            share |= dict.fromkeys(("items", "mlc_items"), jnp.float32(1))  # counts
            metrics = {name: (share[name] * values).sum() for name, values in metrics.items()}
        metrics = {name: value for name, value in metrics.items() if name != "weight"}
        updates, optimizer_state = optimizer.update(grads, state.optimizer, trained)
        params, extractor = parted(optax.apply_updates(trained, updates))
        metrics = metrics | {"gradient_norm": gradient_norm(grads)}
        return TrainState(state.step + 1, params, optimizer_state, extractor), metrics

    return step


def init_auxiliary(config: DecoderConfig, auxiliary: Mlc | None, key: jax.Array) -> Any:
    """New parameters of an auxiliary loss; () where there is none."""
    return auxiliary.extractor(config.hidden, key) if auxiliary else ()


def auxiliary_shapes(config: DecoderConfig, auxiliary: Mlc | None) -> Any:
    """`init_auxiliary` as shapes."""
    return jax.eval_shape(lambda: init_auxiliary(config, auxiliary, jax.random.key(0)))


class ShardedStep(NamedTuple):
    """The train step as a program for a mesh, and where its arguments live (trees of NamedShardings)."""

    run: Any  # jitted step(state, frozen, input); the state is donated. Trace it inside `on_mesh`
    state: TrainState
    frozen: Params
    inputs: StepInput


def sharded_step(
    config: DecoderConfig,
    objective: Loss,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    trained: frozenset[str],
    accumulate: int = 1,
    auxiliary: Mlc | None = None,
) -> ShardedStep:
    """`make_train_step` on a mesh: parameters where the rules put them, moments beside them, rows split. What an
    auxiliary loss trains is on every device.

    Args:
      trained: from `trained_names`.
    """
    where, frozen = split_params(param_shardings(config, mesh), trained)
    shapes, _ = split_params(abstract_params(config), trained)
    everywhere = replicated(mesh)
    extra = auxiliary_shapes(config, auxiliary)
    extra_where = jax.tree.map(lambda _: everywhere, extra)
    shapes, all_where = joined(shapes, extra), joined(where, extra_where)
    optimizer_shapes = jax.eval_shape(optimizer.init, shapes)
    moments = state_shardings(mesh, all_where, shapes, optimizer_shapes)
    state = TrainState(everywhere, where, moments, extra_where)
    run = jax.jit(
        make_train_step(config, objective, optimizer, accumulate, auxiliary),
        donate_argnums=0,
        out_shardings=(state, everywhere),
    )
    examples = Examples(*[everywhere] * len(Examples._fields))
    inputs = StepInput(batch_shardings(mesh, 1 if accumulate > 1 else 0), examples)
    return ShardedStep(run, state, frozen, inputs)
