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
from consistency_jax.training.checkpoints import Checkpointer
from consistency_jax.training.optimizer import OPTIMIZERS, make_optimizer

STEPS = 200


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


# ------------------------------------------------------------------------------------------------------------ rounding
def start(dtype="bfloat16"):
    """4096 weights around 1; the loss falls when all of them fall, at a slope of one."""
    rng = np.random.default_rng(0)
    return {"weight": jnp.asarray(rng.uniform(0.5, 2.0, 4096), jnp.bfloat16).astype(dtype)}


def run(tx, params, state, steps):
    @jax.jit
    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, state), length=steps)[0]


def trained(rounding, dtype="bfloat16", **changes):
    tx = make_optimizer(settings(learning_rate=1e-4, rounding=rounding, **changes), STEPS)
    params = start(dtype)
    return run(tx, params, tx.init(params), STEPS)


def moved(params):
    return np.asarray(params["weight"], np.float64) - np.asarray(start()["weight"], np.float64)


def test_rounding_to_nearest_loses_small_updates():
    params, _ = trained("nearest")
    assert (moved(params) == 0).all()  # 1e-4 is less than half a unit of any weight above 0.5
    exact, _ = trained("nearest", dtype="float32")
    np.testing.assert_allclose(moved(exact), -0.02, rtol=1e-2)  # 200 steps of 1e-4


def test_a_master_copy_is_the_float32_run_and_the_parameters_its_rounding():
    exact, _ = trained("nearest", dtype="float32", weight_decay=0.3)  # the decay is that of the copy, too
    params, state = trained("master", state_dtype="float32", weight_decay=0.3)
    np.testing.assert_array_equal(state.master["weight"], exact["weight"])
    np.testing.assert_array_equal(params["weight"], exact["weight"].astype(jnp.bfloat16))


def test_stochastic_rounding_is_right_on_average():
    exact, _ = trained("nearest", dtype="float32")
    params, _ = trained("stochastic", state_dtype="float32")
    error = moved(params) - moved(exact)
    # One rounding has a variance of at most unit * 1e-4, so 200 have a deviation of at most (200 * 2^-7 * 1e-4)^0.5.
    bound = (STEPS * 2.0**-7 * 1e-4) ** 0.5
    assert np.sqrt(np.square(error).mean()) < bound
    assert abs(error.mean()) < 4 * bound / len(error) ** 0.5
    assert len(np.unique(error)) > 10  # not one draw for all


def test_float32_parameters_beside_bfloat16_ones_are_not_rounded():
    """As an auxiliary loss's are: their steps are those that they take alone."""
    tx = make_optimizer(settings(learning_rate=1e-3, clip_norm=0.0, rounding="stochastic"), 10)
    wide = {"extractor": jnp.linspace(-1, 1, 64)}
    narrow = {"kernel": jnp.ones(64, jnp.bfloat16)}
    ones = jax.tree.map(jnp.ones_like, wide | narrow)
    updates, _ = tx.update(ones, tx.init(wide | narrow), wide | narrow)
    alone, _ = tx.update({"extractor": ones["extractor"]}, tx.init(wide), wide)
    np.testing.assert_array_equal(updates["extractor"], alone["extractor"])
    assert set(np.unique(updates["kernel"]).tolist()) <= {0.0, -(2.0**-8)}  # 1 - 0.001 is between two numbers


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "master"])
@pytest.mark.parametrize("state_dtype", ["", "float32"])
def test_going_on_from_a_checkpoint_is_exact(tmp_path, rounding, state_dtype):
    tx = make_optimizer(settings(learning_rate=1e-3, rounding=rounding, state_dtype=state_dtype), 10)
    params = start()
    unbroken = run(tx, params, tx.init(params), 10)
    half = dict(zip(("params", "optimizer"), run(tx, params, tx.init(params), 5), strict=True))
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(5, half)
    checkpointer.wait()
    again = checkpointer.restore(5, half)
    checkpointer.close()
    resumed = run(tx, again["params"], again["optimizer"], 5)
    for one, other in zip(jax.tree.leaves(resumed), jax.tree.leaves(unbroken), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("dtype", "state_dtype", "kept"),
    [
        ("bfloat16", "", "bfloat16"),
        ("bfloat16", "float32", "float32"),
        ("float32", "bfloat16", "bfloat16"),
        ("float32", "", "float32"),
    ],
)
def test_moments_are_kept_in_their_own_type_and_computed_in_float32(dtype, state_dtype, kept):
    params = start(dtype)
    tx = make_optimizer(settings(learning_rate=1e-3, state_dtype=state_dtype), 10)
    grads = {"weight": jnp.linspace(-1, 1, 4096).astype(dtype)}
    updates, state = jax.jit(tx.update)(grads, tx.init(params), params)
    adam = optax.tree.get(state, "ScaleByAdamState")
    assert {leaf.dtype for leaf in jax.tree.leaves((adam.mu, adam.nu))} == {jnp.dtype(kept)}
    assert adam.count.dtype == jnp.int32
    wide = np.asarray(grads["weight"], np.float32)
    assert updates["weight"].dtype == jnp.float32
    np.testing.assert_array_equal(adam.mu["weight"], jnp.asarray(np.float32(0.1) * wide).astype(kept))
    nonzero = np.abs(wide) > 1e-3
    np.testing.assert_allclose(updates["weight"][nonzero], -1e-3 * np.sign(wide)[nonzero], rtol=1e-4)


# -------------------------------------------------------------------------------------------------------------- config
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
