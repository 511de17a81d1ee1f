"""What stands between the products of a feed forward."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

ACTIVATIONS = {"silu": nn.silu, "gelu_tanh": functools.partial(nn.gelu, approximate=True)}


class XIelu(nn.Module):
    """xIELU (Huang and Schlag, 2024): quadratic above 0, exponential below, each with a trained factor."""

    param_dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def factor(name: str, start: float) -> jax.Array:
            initializer = nn.initializers.constant(math.log(math.expm1(start)))
            boxed = nn.with_logical_partitioning(initializer, ("norm",))
            raw = self.param(name, boxed, (1,), jnp.dtype(self.param_dtype))
            return jax.nn.softplus(raw.astype(jnp.float32))

        above, below = factor("alpha_p", 0.8), 0.5 + factor("alpha_n", 0.3)
        wide = x.astype(jnp.float32)
        curved = jnp.where(
            wide > 0, above * wide * wide, below * (jnp.expm1(jnp.minimum(wide, -1e-6)) - wide)
        )
        return (curved + 0.5 * wide).astype(x.dtype)
