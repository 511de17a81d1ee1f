"""The products of projections, of the head and of attention, and the embedding's rows: low-precision inputs, float32
sums, gradients that reach the fast units.

In float32 this is `jax.lax.dot_general`. In bfloat16 (or float16) two things go wrong if it is left alone:
* a product whose output is bfloat16 misses the CPU's bfloat16 unit, so we ask for float32 and cast after;
* then the cotangent is float32 too, and the backward products mix types: we cast it to bfloat16 first.
On CPU the weight gradient x^T g misses the unit as well, because XLA folds the transpose into the product: x
is copied transposed, flattened behind an optimization barrier so that the copy stays. So it is with attention's
stacks of products, whose operands are transposed before.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

LOW = (jnp.bfloat16, jnp.float16)
Dimensions = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


def gathered(weight: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """A parameter whole along "embed", for the products that use it; its gradient lies where the parameter does.

    Said at the product, so that the compiler gathers the weight and never activations, and scatters the sum of the
    gradients (half the bytes of summing them everywhere). Where names mean no mesh axes, the weight itself: anything
    else is another array to the scan over layers, which keeps it for the backward pass beside the parameter.

    Args:
      axes: the parameter's logical names.
    """
    return _gathered(weight, axes) if nn.get_logical_axis_rules() else weight


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gathered(weight: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return nn.with_logical_constraint(weight, tuple(None if name == "embed" else name for name in axes))


def _gathered_forward(weight: jax.Array, axes: tuple[str, ...]) -> tuple[jax.Array, None]:
    return _gathered(weight, axes), None


def _gathered_backward(axes: tuple[str, ...], _: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (nn.with_logical_constraint(gradient, axes),)


_gathered.defvjp(_gathered_forward, _gathered_backward)


def wide_product(a: jax.Array, b: jax.Array, contract: tuple[int, int]) -> jax.Array:
    """Two matrices, summed in float32 over these two axes."""
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [M, in] @ kernel [in, out], both of one low-precision type -> [M, out] of that type."""
    return wide_product(x, kernel, (1, 0)).astype(x.dtype)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(x, kernel), (x, kernel)


def _kept(x: jax.Array) -> jax.Array:
    """x as it lies in memory, whatever made it: nothing is folded into the product that uses it."""
    return jax.lax.optimization_barrier(x.reshape(-1)).reshape(x.shape)


def _weight_gradient_cpu(x: jax.Array, g: jax.Array) -> jax.Array:
    return wide_product(_kept(x.T), g, (1, 0))


def _weight_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    return wide_product(x, g, (0, 0))


def _backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    dx = wide_product(g, kernel, (1, 1)).astype(x.dtype)
    # Decided when the program is lowered, not where it is traced: a TPU program may be compiled on a CPU.
    dk = jax.lax.platform_dependent(x, g, cpu=_weight_gradient_cpu, default=_weight_gradient)
    return dx, dk.astype(kernel.dtype)


_product.defvjp(_forward, _backward)


def head_product(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x [..., D] and the head's weight [V, D], both of one type -> f32[..., V]."""
    return (_low_head_product if x.dtype in LOW else _head_product)(x, weight)


def _head_product(x: jax.Array, weight: jax.Array) -> jax.Array:
    dimensions = (((x.ndim - 1,), (1,)), ((), ()))
    return jax.lax.dot_general(x, weight, dimensions, preferred_element_type=jnp.float32)


_low_head_product = jax.custom_vjp(_head_product)


def _head_backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    g, last = g.astype(x.dtype), x.ndim - 1
    dx = jax.lax.dot_general(g, weight, (((last,), (0,)), ((), ())), preferred_element_type=jnp.float32)

    def cpu(g: jax.Array, x: jax.Array) -> jax.Array:
        return _weight_gradient_cpu(g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1]))

    def default(g: jax.Array, x: jax.Array) -> jax.Array:
        rows = tuple(range(last))
        return jax.lax.dot_general(g, x, ((rows, rows), ((), ())), preferred_element_type=jnp.float32)

    dw = jax.lax.platform_dependent(g, x, cpu=cpu, default=default)
    return dx.astype(x.dtype), dw.astype(weight.dtype)


_low_head_product.defvjp(lambda x, weight: (_head_product(x, weight), (x, weight)), _head_backward)


def looked_up(weight: jax.Array, tokens: jax.Array) -> jax.Array:
    """Rows of an embedding: weight [V, D], tokens i32[...] -> [..., D].

    On CPU a low-precision gradient would be summed in a float32 array as large as the embedding, and then cast. Here
    rows of the same token are summed in float32 first, and each is then put in its place.
    """
    return (_low_look_up if weight.dtype in LOW else _look_up)(weight, tokens)


def _look_up(weight: jax.Array, tokens: jax.Array) -> jax.Array:
    return jnp.take(weight, tokens, axis=0, mode="clip")


def _look_up_backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, None]:
    weight, tokens = saved

    def cpu(g: jax.Array, tokens: jax.Array) -> jax.Array:
        rows = len(weight)
        tokens = jnp.clip(tokens.reshape(-1), 0, rows - 1)
        order = jnp.argsort(tokens)
        tokens = tokens[order]
        number = jnp.cumsum(jnp.diff(tokens, prepend=tokens[:1]) != 0)  # of each different token
        wide = g.reshape(-1, g.shape[-1])[order].astype(jnp.float32)
        sums = jax.ops.segment_sum(wide, number, num_segments=len(tokens), indices_are_sorted=True)
        places = jnp.full(len(tokens), rows).at[number].set(tokens)  # behind the last token: none
        # As integers: numbers of low precision would be scattered in float32 again.
        bits = jax.lax.bitcast_convert_type(sums.astype(g.dtype), jnp.uint16)
        return jax.lax.bitcast_convert_type(
            jnp.zeros(weight.shape, bits.dtype).at[places].set(bits, mode="drop"), g.dtype
        )

    def default(g: jax.Array, tokens: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda weight: _look_up(weight, tokens), weight)(g)[0]

    return jax.lax.platform_dependent(g, tokens, cpu=cpu, default=default), None


_low_look_up = jax.custom_vjp(_look_up)
_low_look_up.defvjp(lambda weight, tokens: (_look_up(weight, tokens), (weight, tokens)), _look_up_backward)


def stacked_product(a: jax.Array, b: jax.Array, contract: int) -> jax.Array:
    """a [R, K, M, C] and b [R, K, C, N] (contract=2) or [R, K, N, C] (3) of one type -> f32[R, K, M, N]. For CPUs."""
    dimensions = (((3,), (contract,)), ((0, 1), (0, 1)))
    return jax.lax.dot_general(_kept(a), _kept(b), dimensions, preferred_element_type=jnp.float32)


def stacked_gradient(small: jax.Array, large: jax.Array) -> jax.Array:
    """[R, K, M, C] and [R, K, M, N] of one type -> f32[R, K, N, C], summed over M. For CPUs.

    The smaller factor is the one that is copied transposed, and the result turned.
    """
    return _kept(stacked_product(small.swapaxes(2, 3), large, 2)).swapaxes(2, 3)


def dot_general(
    x: jax.Array,
    kernel: jax.Array,
    dimensions: Dimensions,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    axes: tuple[str, ...],
) -> jax.Array:
    """For `nn.Dense(dot_general=...)`: x [..., in], kernel [in, out] -> [..., out], summed in float32.

    Args:
      axes: the kernel's logical names, see `gathered`.
    """
    kernel = gathered(kernel, axes)
    if x.dtype not in LOW or dimensions != (((x.ndim - 1,), (0,)), ((), ())):
        return jax.lax.dot_general(
            x, kernel, dimensions, precision=precision, preferred_element_type=preferred_element_type
        )
    flat = x.reshape(-1, x.shape[-1])
    return _product(flat, kernel).reshape(*x.shape[:-1], kernel.shape[-1])
