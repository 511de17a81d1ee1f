"""How an optimizer computes and what it keeps: updates in float32, moments in a type of their own, rounding by choice.

An update of AdamW is about lr / |weight| of a weight: 1e-5 / 0.02. bfloat16 has 8 bits, so an update of less than
1/512 of its weight is lost when the sum is rounded to nearest. For parameters in bfloat16, `rounding` is one of

    nearest      the published recipe (plain bfloat16 weights): most small updates are lost, few large ones stay
    stochastic   up or down with the odds of the remainder: right on average, no memory
    master       the sum is kept in float32 beside the parameters, which are its rounding: 4 bytes a parameter

(float32 parameters, adapters say, take sums as they are: the three are one.)

`state_dtype` is the type of moments; AdamW's step is made of them as they are kept. In bfloat16 a second moment with
b2 = 0.999 suffers as the weights do (its steps are 1/1000 of it), so where memory allows take float32. Bytes a
parameter, AdamW with bfloat16 parameters and gradients: 8 with bfloat16 moments, 12 with float32 moments, 4 more with a
master.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from consistency_jax.runtime.mesh import owner


def with_rounding(plain: optax.GradientTransformation, rounding: str) -> optax.GradientTransformation:
    """The optimizer with the policy `rounding`, see above; `plain` gives updates in float32."""
    rounded = ROUNDINGS[rounding](plain)

    def init(params: Any) -> Any:
        return (rounded if _narrow(params) else plain).init(params)

    def update(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        return (rounded if _narrow(params) else plain).update(grads, state, params)

    return optax.GradientTransformation(init, update)


def _narrow(params: Any) -> bool:
    return any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(params))


def in_float32(inner: optax.GradientTransformation, state_dtype: str = "") -> optax.GradientTransformation:
    """Computes in float32 (or wider) whatever the types of gradients, state and parameters; returns such updates.
    What the state has for a parameter is kept in `state_dtype`, or "" in the parameter's type."""

    def init(params: Any) -> Any:
        state = inner.init(params)
        if not state_dtype:
            return state
        known = {path: True for path, _ in jax.tree.leaves_with_path(params)}
        return jax.tree.map_with_path(
            lambda path, leaf: leaf.astype(state_dtype) if owner(path, known) else leaf, state
        )

    def update(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, new_state = inner.update(wide(grads), wide(state), wide(params))
        return updates, jax.tree.map(lambda new, old: new.astype(old.dtype), new_state, state)

    return optax.GradientTransformation(init, update)


class MasterState(NamedTuple):
    master: Any  # the parameters in float32
    inner: Any


def master(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Updates go to a float32 copy in the state; the parameters are its rounding.

    (What is returned is the difference of two roundings: exact in float32, unless a weight shrinks more than 2^16-fold
    in one step. Then it is off by 2^-24 of what it was, until the next step.)
    """

    def init(params: Any) -> MasterState:
        return MasterState(wide(params), inner.init(params))

    def update(grads: Any, state: MasterState, params: Any) -> tuple[Any, MasterState]:
        updates, inner_state = inner.update(grads, state.inner, state.master)
        new = optax.apply_updates(state.master, updates)
        return jax.tree.map(_step_to_nearest, params, new), MasterState(new, inner_state)

    return optax.GradientTransformation(init, update)


class StochasticState(NamedTuple):
    count: jax.Array  # i32[], steps done: the key of the next step's rounding
    inner: Any


def stochastic(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Sums are rounded to one of the two bfloat16 numbers around them, with the odds that are right on average."""

    def init(params: Any) -> StochasticState:
        return StochasticState(jnp.int32(0), inner.init(params))

    def update(grads: Any, state: StochasticState, params: Any) -> tuple[Any, StochasticState]:
        updates, inner_state = inner.update(grads, state.inner, params)
        leaves, structure = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), state.count), len(leaves))
        steps = jax.tree.map(
            lambda p, u, key: _step_to_random(p, u, key) if p.dtype == jnp.bfloat16 else u,
            params,
            updates,
            jax.tree.unflatten(structure, keys),
        )
        return steps, StochasticState(state.count + 1, inner_state)

    return optax.GradientTransformation(init, update)


ROUNDINGS = {"nearest": lambda tx: tx, "stochastic": stochastic, "master": master}


def wide(tree: Any) -> Any:
    """Every floating leaf in float32 at least."""
    return jax.tree.map(
        lambda x: (
            x.astype(jnp.promote_types(x.dtype, jnp.float32)) if jnp.issubdtype(x.dtype, jnp.floating) else x
        ),
        tree,
    )


def stored(tree: Any, like: Any) -> Any:
    """A float32 tree in the types of another, as it will be read from memory."""

    def narrowed(x: jax.Array, dtype: Any) -> jax.Array:
        if x.dtype == dtype:
            return x
        return jax.lax.platform_dependent(
            x,
            cpu=lambda x: jax.lax.optimization_barrier(x.astype(dtype)),
            default=lambda x: _rounded(x, dtype).astype(dtype),
        )

    return jax.tree.map(lambda x, old: narrowed(x, old.dtype), tree, like)


def kept_apart(tree: Any) -> Any:
    """On CPU, leaves of low precision as they lie in memory: what is computed of them shares nothing with others."""

    def one(x: jax.Array) -> jax.Array:
        if x.dtype.itemsize >= 4:
            return x
        return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)

    return jax.tree.map(one, tree)


def _rounded(x: jax.Array, dtype: Any) -> jax.Array:
    """x, rounded as `dtype` would. (A cast there and back may be optimized away.)"""
    info = jnp.finfo(dtype)
    return jax.lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=info.nmant)


def _step_to_nearest(parameter: jax.Array, wanted: jax.Array) -> jax.Array:
    """What takes a parameter to `wanted` as its type has it."""
    return _rounded(wanted, parameter.dtype) - parameter.astype(wanted.dtype)


def _step_to_random(parameter: jax.Array, update: jax.Array, key: jax.Array) -> jax.Array:
    """What takes a bfloat16 parameter to parameter + update, rounded at random.

    bfloat16 is the upper half of float32: random bits added to the lower half carry over as often as they should.
    """
    wide = parameter.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(wide + update, jnp.uint32)
    noise = jax.random.bits(key, parameter.shape, jnp.uint16).astype(jnp.uint32)
    rounded = jax.lax.bitcast_convert_type((bits + noise) & jnp.uint32(0xFFFF0000), jnp.float32)
    return rounded - wide
