"""How updates are rounded, and what an optimizer keeps and in which type."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from consistency_jax.config.defaults import default
from consistency_jax.training.checkpoints import Checkpointer
from consistency_jax.training.optimizer import make_optimizer

STEPS = 200


def settings(**changes):
    config = default().optimizer
    config.update({"schedule": "constant", "clip_norm": 0.0} | changes)
    return config


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
    half = dict(zip(("params", "progress"), run(tx, params, tx.init(params), 5), strict=True))
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(5, half)
    checkpointer.wait()
    again = checkpointer.restore(5, half)
    checkpointer.close()
    resumed = run(tx, again["params"], again["progress"], 5)
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
    # The step is made of the moments as they are kept.
    mu, nu = (np.asarray(moment["weight"], np.float64) for moment in (adam.mu, adam.nu))
    np.testing.assert_allclose(nu, 1e-3 * wide.astype(np.float64) ** 2, rtol=2 * jnp.finfo(kept).eps)
    step = -1e-3 * (mu / 0.1) / (np.sqrt(nu / 1e-3) + 1e-8)
    np.testing.assert_allclose(updates["weight"], step, rtol=2e-5)
