"""Optimizers by name, and how updates are rounded and kept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.config.recipes import published
from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import DecoderConfig, abstract_params
from consistency_jax.models.shardings import param_shardings
from consistency_jax.runtime.mesh import make_mesh, state_shardings
from consistency_jax.training.optimizer import OPTIMIZERS, _clip, gradient_norm, make_optimizer


def settings(**changes):
    config = default().optimizer
    config.update({"schedule": "constant", "clip_norm": 0.0} | changes)
    return config


# ------------------------------------------------------------------------------------------------------------- by name
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(name):
    """A linear map of 128 x 128 (large enough to be factored) and a bias, fitted to another."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 128)).astype(np.float32)
    y = x @ rng.normal(size=(128, 128)).astype(np.float32) / 11 + 1

    def loss(params):
        return jnp.square(x @ params["layers"]["kernel"][0] + params["layers"]["bias"] - y).mean()

    tx = make_optimizer(settings(name=name, learning_rate=0.01, clip_norm=1.0), 60)

    @jax.jit
    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    params = {"layers": {"kernel": jnp.zeros((1, 128, 128)), "bias": jnp.zeros(128)}}
    _, losses = jax.lax.scan(step, (params, tx.init(params)), length=60)
    assert losses[-1] < 0.5 * losses[0]


def test_adamw_in_float32_is_that_of_optax():
    ours = make_optimizer(settings(learning_rate=0.01, weight_decay=0.1), 5)
    config = settings()
    theirs = optax.chain(
        optax.identity(), optax.adamw(lambda _: 0.01, config.b1, config.b2, config.eps, weight_decay=0.1)
    )
    params = {"kernel": jax.random.normal(jax.random.key(0), (16, 8))}
    states = [tx.init(params) for tx in (ours, theirs)]
    for step in range(3):
        grads = {"kernel": jax.random.normal(jax.random.key(step + 1), (16, 8))}
        updates, states = zip(
            *(tx.update(grads, own, params) for tx, own in zip((ours, theirs), states)), strict=True
        )
        np.testing.assert_array_equal(updates[0]["kernel"], updates[1]["kernel"])
    assert jax.tree.structure(states[0]) == jax.tree.structure(
        states[1]
    )  # checkpoints of either fit the other


@pytest.mark.parametrize("size", [0.01, 3.0, np.nan])
def test_gradients_are_scaled_down_to_the_global_norm(size):
    rng = np.random.default_rng(0)
    grads = {"a": rng.normal(size=(3, 5)), "b": rng.normal(size=7)}
    norm = np.sqrt(sum(np.square(grad).sum() for grad in grads.values()))
    grads = {name: size / norm * grad for name, grad in grads.items()}
    scaled, _ = _clip(2.0).update(jax.tree.map(jnp.float32, grads), optax.EmptyState())
    for name, grad in grads.items():  # a product and a quotient, each rounded once
        np.testing.assert_allclose(scaled[name], grad * min(1.0, 2.0 / size), rtol=4 * 2.0**-24)


def test_gradients_of_two_types_are_clipped_in_float32():
    """Those of an auxiliary loss are float32 beside bfloat16 ones."""
    grads = {"own": jnp.full(4, 3.0, jnp.bfloat16), "beside": jnp.full(4, 4.0)}
    scaled, _ = _clip(1.0).update(grads, optax.EmptyState())
    assert {grad.dtype for grad in scaled.values()} == {jnp.dtype("float32")}
    np.testing.assert_allclose(scaled["own"], 0.3, rtol=1e-6)
    np.testing.assert_allclose(scaled["beside"], 0.4, rtol=1e-6)


@pytest.mark.optimised
@pytest.mark.parametrize("state_dtype", ["", "float32"])
def test_an_update_of_bfloat16_parameters_takes_no_memory_of_its_own(state_dtype):
    """On CPU it once held all gradients in float32, and copies of the moments."""
    tx = make_optimizer(settings(clip_norm=1.0, state_dtype=state_dtype, weight_decay=0.01), 10)
    params = {name: jnp.ones((256, 512), jnp.bfloat16) for name in "ab"}

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, gradient_norm(grads)

    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, tx.init(params), params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2000  # a gradient has 262,144


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("rounding", ["stochastic", "master"])
def test_state_lies_where_the_parameters_lie(name, rounding):
    """Whatever has a parameter's shape lies beside it; row and column means and counters are everywhere."""
    config = DecoderConfig(
        vocab_size=64, hidden=128, layers=2, heads=4, kv_heads=2, head_dim=32, mlp=256, param_dtype="bfloat16"
    )
    mesh, shapes = make_mesh((1, 1, 1)), abstract_params(config)
    where = param_shardings(config, mesh)
    state = jax.eval_shape(make_optimizer(settings(name=name, rounding=rounding), 10).init, shapes)
    places = state_shardings(mesh, where, shapes, state)
    kernel, whole = (
        NamedSharding(mesh, PartitionSpec(None, "fsdp", "tensor")),
        NamedSharding(mesh, PartitionSpec()),
    )
    beside = 0
    for (path, leaf), place in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(places), strict=True):
        own = "'up'" in jax.tree_util.keystr(path) and leaf.shape == (2, 128, 256)
        beside += own
        if own:
            assert place == kernel
        elif leaf.shape not in {shape.shape for shape in jax.tree.leaves(shapes)}:
            assert place == whole
    moments = {"adamw": 2, "adafactor": 0, "lion": 1, "muon": 1}
    assert beside == moments[name] + (rounding == "master")


def test_the_published_recipe_is_plain_bfloat16_and_adamw():
    config = default()
    config.model.path = "somewhere"
    config.optimizer.name, config.lora.rank = "lion", 8
    published(config)
    validate(config)
    assert (config.model.dtype, config.model.compute_dtype) == ("bfloat16", "bfloat16")
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.rounding) == ("adamw", 1e-5, "nearest")
    assert (optimizer.schedule, optimizer.warmup_steps, optimizer.end) == ("linear", 0, 0.0)
    assert (optimizer.clip_norm, config.lora.rank, config.batching["items"]) == (1.0, 0, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer.name": "adam"}, "optimizer.name='adam'.*adamw, adafactor, lion, muon"),
        ({"optimizer.rounding": "masters"}, "did you mean 'master'"),
        ({"optimizer.state_dtype": "float16"}, "optimizer.state_dtype='float16'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(change, message):
    config = default()
    config.model.path = "somewhere"
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        validate(config)
