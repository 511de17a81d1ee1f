"""Frozen kernels in 8 or 4 bits, beside which adapters are trained: QLoRA (Dettmers et al., 2023, arXiv 2305.14314).

A kernel [in, out] is stored as `codes` and `scales`. A scale, f32[in / 64, out], belongs to a block of 64 inputs of one
output (of fewer, the greatest common divisor, where 64 does not divide them):

    int8   scale = the block's largest magnitude / 127, code = weight / scale, rounded (a tie goes down)
    nf4    scale = the block's largest magnitude, code = the nearest of 16 levels, which are quantiles of a normal
           distribution. A byte holds two codes, those of an input in the first and in the second half of a block.

A product makes its kernel anew from them, forward and backward, for one layer at a time where layers are scanned
(`model.scan_layers`); nothing else is kept.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.models.projection import gathered, wide_product

BASES = ("none", "int8", "nf4")
BLOCK = 64
SMALLEST = 8  # inputs of a block; scales of fewer would weigh as much as the weights
KERNEL, STORED = "kernel", ("codes", "scales")


def _levels() -> tuple[float, ...]:
    """The 16 levels of nf4, from -1 to 1: 0, quantiles of the normal distribution, 8 above and 7 below, by the largest
    (section 3 and appendix E of the paper)."""
    last = (2 - 1 / 32 - 1 / 30) / 2
    quantile = NormalDist().inv_cdf
    above, below = (
        [quantile(last + (0.5 - last) * i / count) / quantile(last) for i in range(count)] for count in (8, 7)
    )
    return tuple(sorted([*above, 0.0, *(-value for value in below)]))


LEVELS = _levels()
BOUNDARIES = tuple((low + high) / 2 for low, high in zip(LEVELS, LEVELS[1:], strict=False))


def block_of(inputs: int) -> int:
    """Inputs that share a scale.

    Raises: ValueError where they are too few.
    """
    block = math.gcd(inputs, BLOCK)
    if block < SMALLEST:
        raise ValueError(f"a kernel of {inputs} inputs cannot be quantised: {SMALLEST} must divide them")
    return block


def stored_shapes(base: str, inputs: int, outputs: int) -> dict[str, jax.ShapeDtypeStruct]:
    """`codes` and `scales` of a kernel [inputs, outputs]."""
    rows, dtype = (inputs // 2, jnp.uint8) if base == "nf4" else (inputs, jnp.int8)
    return {
        "codes": jax.ShapeDtypeStruct((rows, outputs), dtype),
        "scales": jax.ShapeDtypeStruct((inputs // block_of(inputs), outputs), jnp.float32),
    }


def quantise(kernel: jax.Array, base: str) -> dict[str, jax.Array]:
    """kernel [in, out] -> its codes and scales, of `stored_shapes`."""
    inputs, outputs = kernel.shape
    block = block_of(inputs)
    blocks = kernel.astype(jnp.float32).reshape(-1, block, outputs)
    scales = jnp.abs(blocks).max(1) * (1 / 127 if base == "int8" else 1)
    scales = jnp.where(scales < jnp.finfo(jnp.float32).tiny, 0, scales)  # some devices have nothing below
    wide = scales[:, None]
    # Decided by products and comparisons, which are the same on every device: a quotient is not, and ties are common.
    if base == "int8":
        near = jnp.round(blocks / jnp.where(wide > 0, wide, 1))
        codes = near + (blocks > (near + 0.5) * wide) - (blocks <= (near - 0.5) * wide)
        codes = jnp.where(wide > 0, jnp.clip(codes, -127, 127), 0).astype(jnp.int8)
    else:
        codes = sum((blocks > boundary * wide).astype(jnp.uint8) for boundary in BOUNDARIES)
        codes = jnp.where(wide > 0, codes, LEVELS.index(0.0)).astype(jnp.uint8)
        codes = codes[:, : block // 2] | codes[:, block // 2 :] << 4
    return {"codes": codes.reshape(-1, outputs), "scales": scales}


def dequantise(codes: jax.Array, scales: jax.Array, dtype: Any) -> jax.Array:
    """The kernel [in, out] of its codes and scales, computed in float32 and rounded once."""
    blocks = codes.reshape(len(scales), -1, codes.shape[-1])
    if codes.dtype == jnp.uint8:
        halves = [_level(blocks & 15), _level(blocks >> 4)]
        blocks = jnp.concatenate(halves, axis=1)
    return (blocks.astype(jnp.float32) * scales[:, None]).astype(dtype).reshape(-1, codes.shape[-1])


def _level(codes: jax.Array) -> jax.Array:
    """The levels of codes from 0 to 15, bit by bit: a table looked up element by element is slow on every device."""
    values: list[Any] = [jnp.float32(level) for level in LEVELS]
    for bit in range(4):
        upper = (codes >> bit & 1).astype(bool)
        values = [jnp.where(upper, b, a) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def quantised_product(x: jax.Array, codes: jax.Array, scales: jax.Array, axes: tuple[str, str]) -> jax.Array:
    """x [M, in] times a kernel [in, out] -> [M, out] of x's type. Only x has a gradient: the kernel is not trained.

    Args:
      axes: the kernel's logical names. What devices send each other are codes and scales.
    """
    return wide_product(x, _whole(codes, scales, axes, x.dtype), (1, 0)).astype(x.dtype)


def _whole(codes: jax.Array, scales: jax.Array, axes: tuple[str, str], dtype: Any) -> jax.Array:
    return dequantise(gathered(codes, axes), gathered(scales, axes), dtype)


def _forward(
    x: jax.Array, codes: jax.Array, scales: jax.Array, axes: tuple[str, str]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return quantised_product(x, codes, scales, axes), (codes, scales)


def _backward(
    axes: tuple[str, str], saved: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, np.ndarray, jax.Array]:
    codes, scales = saved
    dx = wide_product(g, _whole(codes, scales, axes, g.dtype), (1, 1)).astype(g.dtype)
    return dx, np.zeros(codes.shape, jax.dtypes.float0), jnp.zeros_like(scales)


quantised_product.defvjp(_forward, _backward)


def quantised_kernel(
    name: str, layers: int, kernels: Iterable[jax.Array], base: str, shardings: Mapping[str, Any]
) -> Iterator[tuple[str, jax.Array]]:
    """Codes [layers, ...] and scales [layers, ...] of a stacked kernel, by name.

    Args:
      name: of the kernel; layers: how many it has; base: int8 or nf4.
      kernels: its layers [1, in, out], read one by one, so that no two are there at once.
      shardings: by name, of what is stored; empty: the default device.
    """
    stem = name.removesuffix(KERNEL)
    places = {part: shardings.get(stem + part) for part in STORED}
    stored, layer = None, 0  # not enumerate, which holds a kernel until it has the next
    for kernel in kernels:
        make, put = _compiled(base, (layers, *kernel.shape[1:]), tuple(places.items()))
        stored = put(make() if stored is None else stored, kernel, layer)
        del kernel
        layer += 1
    assert stored is not None
    assert layer == layers
    yield from ((stem + part, stored[part]) for part in STORED)


def is_kernel(name: str) -> bool:
    """Whether a parameter is one that is quantised."""
    return name.rpartition("/")[2] == KERNEL


@functools.cache
def _compiled(
    base: str, shape: tuple[int, int, int], places: tuple[tuple[str, Any], ...]
) -> tuple[Callable[[], dict[str, jax.Array]], Callable[..., dict[str, jax.Array]]]:
    """Stacked codes and scales of zeros, and what writes those of one layer into them."""
    layers, inputs, outputs = shape

    def make() -> dict[str, jax.Array]:
        own = stored_shapes(base, inputs, outputs)
        return {part: jnp.zeros((layers, *leaf.shape), leaf.dtype) for part, leaf in own.items()}

    def put(stored: dict[str, jax.Array], kernel: jax.Array, layer: jax.Array) -> dict[str, jax.Array]:
        own = quantise(kernel[0], base)
        return {part: stored[part].at[layer].set(own[part]) for part in STORED}

    out = dict(places)
    return jax.jit(make, out_shardings=out), jax.jit(put, donate_argnums=0, out_shardings=out)
