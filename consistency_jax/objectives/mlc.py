"""Multilingual consistency (MLC): an auxiliary loss that makes an item's prompts, in all languages, point one way.

With h_l in R^D the hidden state of the prompt's last token in language l, at some layer, and m languages of an item,

    r_l = W h_l + b,   z_l = r_l / |r_l|,   Z = [z_1 ... z_m],   s_1 >= ... >= s_m the singular values of Z
    loss = mean over items  - log softmax( s / (tau * sg(s_1)) )_1          sg: no gradient flows through

It is added to any objective's loss, lambda times, on every n-th step, the first among them. At its optimum Z has rank
1. (W, b), the extractor, is trained jointly and belongs to the loss, not to the model: it is dropped with the run.

s comes from the eigenvalues of the m x m Gram matrix of z in float32, s_i = sqrt(max(e_i, 1e-6)): at 0 the root has no
gradient. Vectors that point opposite ways have rank 1 too, and the extractor alone may satisfy the loss: so the cosine
of the raw h is among the metrics.

Source: arXiv 2602.16660 (tau 0.2, lambda 0.8, every second step, width 512). The gradient of an eigenvalue, v^T dG v
with its eigenvector v held fixed, is exact where eigenvalues are distinct; where some coincide it is that of one choice
of v. It has no terms 1 / (e_i - e_j), so it is finite always (this project's derivation, as are absent languages).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SMALLEST = 1e-6  # eigenvalue
SHORTEST = 1e-12  # squared length of a vector that is normalized


class Mlc(NamedTuple):
    """Settings of the loss, as `config.auxiliary.mlc` has them."""

    weight: float  # lambda
    tau: float
    layer: int  # -1: after the final norm; n: what block n (from 0) gives
    width: int
    every: int  # optimizer steps

    def scale(self, steps: jax.Array) -> jax.Array:
        """f32[]: what the loss counts in the step after `steps` i32[] of them: lambda in each n-th from the first."""
        return jnp.where(steps % self.every == 0, jnp.float32(self.weight), 0.0)

    def extractor(self, dim: int, key: jax.Array) -> dict[str, jax.Array]:
        """A new extractor of D-dimensional states, f32: kernel [D, width], uniform in +-1/sqrt(D), bias [width], 0."""
        kernel = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")(key, (dim, self.width))
        return {"kernel": kernel, "bias": jnp.zeros(self.width)}


def countable(mask: jax.Array) -> jax.Array:
    """bool[P]: the items of which two languages at least are there (mask bool[P, L])."""
    return mask.sum(1) >= 2


def mlc(
    states: jax.Array, extractor: dict[str, Any], *, mask: jax.Array | None = None, tau: float = 0.2
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The MLC loss of P items in L languages.

    An item takes part if two of its languages are there. What lies in the states of absent ones, NaN and infinity
    included, changes neither the loss nor a gradient.

    Args:
      states: [P, L, D], hidden states; computed with in float32.
      extractor: {"kernel": f32[D, width], "bias": f32[width]}.
      mask: bool[P, L], the languages that are there; all of them by default.
      tau: temperature, > 0.

    Returns:
      The loss (a scalar, above 0 and at most the log of the number of languages; 0 if no item counts) and metrics,
      scalars, means over items:
        loss     the loss again
        rank1    s_1^2 / sum s^2 of Z: 1 / m for orthogonal vectors, 1 where all lie on one line
        cosine   mean cosine over pairs of languages of the raw states h
        items    number of items counted

    Raises:
      ValueError: for shapes that do not fit.
    """
    shape = np.shape(states)
    if len(shape) != 3:
        raise ValueError(f"mlc: states must have shape [items, languages, dimensions], not {list(shape)}")
    mask = jnp.ones(shape[:2], bool) if mask is None else mask
    if np.shape(mask) != shape[:2]:
        raise ValueError(f"mlc: mask must have shape {list(shape[:2])}, not {list(np.shape(mask))}")
    width = np.shape(extractor["bias"])
    if np.shape(extractor["kernel"]) != (shape[2], *width):
        raise ValueError(
            f"mlc: the extractor takes {list(np.shape(extractor['kernel']))}, states have {shape[2]} dimensions"
        )

    counted = countable(mask)
    there = mask & counted[:, None]
    h = jnp.where(there[:, :, None], states, 0).astype(jnp.float32)
    r = jnp.einsum("PLD,DW->PLW", h, extractor["kernel"], precision="highest") + extractor["bias"]
    z = jnp.where(there[:, :, None], _unit(r), 0.0)
    eigenvalues = _eigenvalues(_gram(z), there)
    s = jnp.sqrt(jnp.maximum(eigenvalues, SMALLEST))

    # Absent languages come last, and the softmax does not see them.
    own = jnp.arange(shape[1]) < there.sum(1, keepdims=True)
    logits = jnp.where(own, s / jax.lax.stop_gradient(s[:, :1]) / tau, -1e9)
    per_item = jax.nn.logsumexp(logits, axis=1) - logits[:, 0]

    items = counted.sum()

    def mean(values: jax.Array) -> jax.Array:
        return jnp.where(counted, values, 0.0).sum() / jnp.maximum(items, 1)

    languages = there.sum(1)
    cosines = jnp.where(there[:, :, None] & there[:, None, :], _gram(_unit(h)), 0.0)
    off_diagonal = cosines.sum((1, 2)) - jnp.trace(cosines, axis1=1, axis2=2)
    metrics = {
        "loss": mean(per_item),
        "rank1": mean(s[:, 0] ** 2 / jnp.maximum(jnp.where(own, s**2, 0.0).sum(1), SMALLEST)),
        "cosine": mean(off_diagonal / jnp.maximum(languages * (languages - 1), 1)),
        "items": items,
    }
    return metrics["loss"], jax.tree.map(jax.lax.stop_gradient, metrics)


def _unit(x) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), SHORTEST))


def _gram(x) -> jax.Array:
    """[P, L, W] -> [P, L, L]"""
    return jnp.einsum("PLW,PMW->PLM", x, x, precision="highest")


def _eigenvalues(gram, there) -> jax.Array:
    """f32[P, L], from large to small, those of absent languages (whose rows are zeros) last."""
    # Its place on the diagonal gives an absent language the eigenvalue -1, apart from all others.
    gram = gram - (~there)[:, :, None] * jnp.eye(there.shape[1], dtype=gram.dtype)
    vectors = jnp.linalg.eigh(jax.lax.stop_gradient(gram))[1][:, :, ::-1]
    return jnp.einsum("PLE,PLM,PME->PE", vectors, gram, vectors, precision="highest")
