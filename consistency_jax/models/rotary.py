"""Rotary positions: pairs of numbers of a query or key are turned by an angle, position * theta ** (-2i / H).

Letters: R rows, T tokens, H head dim.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary frequencies: theta ** (-2i / H), then scaled.

    `scaling` "linear" divides every frequency by `factor`. "llama3" (Llama 3.1) and "yarn" (Peng et al., 2023) divide
    low frequencies by `factor`, keep high ones, and blend between: Llama 3.1 by the wavelength; YaRN by i, from the
    frequency that turns `beta_fast` times within the original length to the one that turns `beta_slow` times.
    `attention_factor` multiplies rotated queries and keys.
    """

    theta: float = 10_000.0
    scaling: str = "none"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_length: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.scaling not in ("none", "linear", "llama3", "yarn"):
            raise ValueError(f"unknown rope scaling {self.scaling!r}; known: none, linear, llama3, yarn")

    def frequencies(self, head_dim: int) -> np.ndarray:
        """f32[H / 2], radians per position."""
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        frequencies = (1.0 / np.float32(self.theta) ** exponents).astype(np.float32)
        if self.scaling == "linear":
            return frequencies / np.float32(self.factor)
        if self.scaling == "none":
            return frequencies
        if self.scaling == "llama3":
            low, high = self.low_frequency_factor, self.high_frequency_factor
            wavelength = 2 * np.pi / frequencies
            keep = np.clip((self.original_length / wavelength - low) / (high - low), 0.0, 1.0)
        else:

            def number(turns: float) -> float:
                wavelength = self.original_length / turns
                return head_dim * math.log(wavelength / (2 * math.pi)) / (2 * math.log(self.theta))

            low = max(math.floor(number(self.beta_fast)), 0)
            high = min(math.ceil(number(self.beta_slow)), head_dim - 1)
            numbers = np.arange(head_dim // 2, dtype=np.float32)
            keep = 1 - np.clip((numbers - low) / (high - low or 1e-3), 0.0, 1.0)
        return ((1 - keep) * frequencies / self.factor + keep * frequencies).astype(np.float32)


def rotations(
    ropes: Sequence[Rope | None], positions: jax.Array, head_dim: int
) -> tuple[jax.Array, jax.Array]:
    """cos and sin f32[ropes, R, T, 1, H / 2] at positions i32[R, T], for `rotate`.

    Where there is no rope the angle is 0: that turns nothing, bit for bit.
    """
    still = np.zeros(head_dim // 2, np.float32)
    positions = positions[:, :, None, None].astype(jnp.float32)
    angles = jnp.stack([positions * (rope.frequencies(head_dim) if rope else still) for rope in ropes])
    factors = np.array([rope.attention_factor if rope else 1.0 for rope in ropes], np.float32)
    factors = factors[:, None, None, None, None]
    return jnp.cos(angles) * factors, jnp.sin(angles) * factors


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array, style: str) -> jax.Array:
    """Rotary positions: x [R, T, heads, H]; cos, sin f32[R, T, 1, H / 2]. Returns x's dtype."""
    wide = x.astype(jnp.float32)
    if style == "half":
        a, b = jnp.split(wide, 2, axis=-1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
    a, b = wide[..., 0::2], wide[..., 1::2]
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape).astype(x.dtype)
