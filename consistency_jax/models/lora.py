"""LoRA: a projection that may add a low-rank product of its own, y = x W + (alpha / rank) (x A) B (Hu et al., 2021).

A and B are the parameters `lora_a` [in, rank] and `lora_b` [rank, out] beside `kernel`, stacked over layers and split
over a mesh as it is. B starts as zeros, so that a model with new adapters is the model without them, bit for bit:
a reference is the same parameters less these.
"""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from consistency_jax.models.projection import dot_general
from consistency_jax.models.quantised import quantised_product, stored_shapes

PROJECTIONS = (
    *(f"layers/attention/{name}" for name in ("query", "key", "value", "out")),
    *(f"layers/mlp/{name}" for name in ("gate", "up", "down")),
)
ADAPTERS = ("lora_a", "lora_b")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which projections have adapters, and of what size; ValueError where that cannot be.

    `targets` is a regular expression, searched in names such as "layers/attention/query". `dtype` is the adapters';
    their products are made in the decoder's compute dtype.
    """

    rank: int
    alpha: float = 32.0
    targets: str = "attention|mlp"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora.rank={self.rank} must be at least 1, or 0 for no adapters")
        if not self.alpha > 0:
            raise ValueError(f"lora.alpha={self.alpha} must be greater than 0")
        if self.dtype not in DTYPES:
            raise ValueError(f"lora.dtype={self.dtype!r} is unknown; choose from {', '.join(DTYPES)}")
        try:
            found = any(self.finds(name) for name in PROJECTIONS)
        except re.error as error:
            raise ValueError(f"lora.targets={self.targets!r} is no regular expression: {error}") from None
        if not found:
            raise ValueError(
                f"lora.targets={self.targets!r} matches no projection; there are: {', '.join(PROJECTIONS)}"
            )

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def finds(self, projection: str) -> bool:
        return re.search(self.targets, projection) is not None


def is_adapter(name: str) -> bool:
    """Whether a parameter's name, as "layers/mlp/up/lora_a", is an adapter's."""
    return name.rpartition("/")[2] in ADAPTERS


class Projection(nn.Dense):
    """x [..., in] -> [..., features], with an adapter where `lora` finds it.

    `axes`: logical names of the kernel's two axes; A is split along the first, B along the second. `base`: how the
    kernel is stored (quantised.py).
    """

    axes: tuple[str, str] = ("embed", "embed")
    lora: LoraConfig | None = None
    base: str = "none"

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        y = super().__call__(inputs) if self.base == "none" else self._quantised(inputs.astype(self.dtype))
        if self.lora is None or not self.lora.finds("/".join(self.path)):
            return y

        def adapter(
            name: str, init: nn.initializers.Initializer, shape: tuple[int, int], *axes: str
        ) -> jax.Array:
            return self.param(
                name, nn.with_logical_partitioning(init, axes), shape, jnp.dtype(self.lora.dtype)
            )

        # Uniform within 1 / sqrt(in), as PEFT draws A.
        uniform, rank = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"), self.lora.rank
        a = adapter("lora_a", uniform, (inputs.shape[-1], rank), self.axes[0], "rank")
        b = adapter("lora_b", nn.initializers.zeros, (rank, self.features), "rank", self.axes[1])
        last = (((inputs.ndim - 1,), (0,)), ((), ()))
        low = dot_general(inputs.astype(y.dtype), a.astype(y.dtype), last, axes=(self.axes[0], "rank"))
        return y + dot_general(low, (self.lora.scale * b).astype(y.dtype), last, axes=("rank", self.axes[1]))

    def _quantised(self, inputs: jax.Array) -> jax.Array:
        """What `nn.Dense` makes, of codes and scales."""

        def stored(name: str, like: jax.ShapeDtypeStruct) -> jax.Array:
            def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
                if name == "scales":  # so that the kernel is about as large as `kernel_init` has it
                    return jnp.full(shape, 0.03 if self.base == "nf4" else 0.0003, dtype)
                return jax.lax.bitcast_convert_type(jax.random.bits(key, shape, jnp.uint8), dtype)

            return self.param(name, nn.with_logical_partitioning(init, self.axes), like.shape, like.dtype)

        parts = {
            name: stored(name, like)
            for name, like in stored_shapes(self.base, inputs.shape[-1], self.features).items()
        }
        flat = inputs.reshape(-1, inputs.shape[-1])
        y = quantised_product(flat, parts["codes"], parts["scales"], self.axes)
        y = y.reshape(*inputs.shape[:-1], self.features)
        if not self.use_bias:
            return y
        return y + self.param("bias", self.bias_init, (self.features,), self.param_dtype).astype(y.dtype)
