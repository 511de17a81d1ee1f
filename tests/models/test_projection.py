"""Products of projections: the float64 product to the precision of their inputs, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from consistency_jax.models.projection import dot_general

LAST = (((2,), (0,)), ((), ()))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 2**-8), ("float16", 2**-11)]
)
def test_values_and_gradients_are_those_of_float64(dtype, tolerance):
    rng = np.random.default_rng(0)
    x, kernel, weight = (
        jnp.asarray(rng.normal(size=size), dtype) for size in ((2, 5, 64), (64, 32), (2, 5, 32))
    )
    xs, ks, ws = (np.asarray(a, np.float64) for a in (x, kernel, weight))

    @jax.jit
    def run(x, kernel):
        y, back = jax.vjp(lambda x, kernel: dot_general(x, kernel, LAST, axes=("embed", "mlp")), x, kernel)
        return y, *back(weight)

    # The outputs' own rounding is all that is lost: sums are float32 (64 and 10 terms of size 1).
    expected = (xs @ ks, ws @ ks.T, np.einsum("bti,bto->io", xs, ws))
    for ours, theirs in zip(run(x, kernel), expected, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(
            np.asarray(ours, np.float64), theirs, atol=tolerance * np.abs(theirs).max()
        )


def test_sums_of_bfloat16_are_not_rounded_on_the_way():
    # 1 + 512 x 2^-9: added one by one in bfloat16 each small term is lost.
    x = jnp.asarray([[[1.0, *[2.0**-9] * 512]]], "bfloat16")
    y = dot_general(x, jnp.ones((513, 1), "bfloat16"), LAST, axes=("embed", "mlp"))
    assert float(y[0, 0, 0]) == 2.0
