"""Products of projections: the float64 product to the precision of their inputs, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from consistency_jax.models.projection import dot_general, head_product, looked_up

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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(1, 3), (2, 5, 64)])
def test_the_heads_logits_are_float32_and_its_gradients_those_of_float64(dtype, shape):
    rng = np.random.default_rng(1)
    x, weight = (jnp.asarray(rng.normal(size=size), dtype) for size in (shape, (32, shape[-1])))
    g = jnp.asarray(rng.normal(size=(*shape[:-1], 32)), jnp.float32)
    xs, ws, gs = (np.asarray(a, np.float64) for a in (x, weight, g))

    @jax.jit
    def run(x, weight):
        y, back = jax.vjp(head_product, x, weight)
        return y, *back(g)

    y, dx, dw = run(x, weight)
    assert y.dtype == jnp.float32
    assert dx.dtype == dw.dtype == dtype
    np.testing.assert_allclose(y, xs @ ws.T, atol=1e-5)
    expected = gs @ ws, gs.reshape(-1, 32).T @ xs.reshape(-1, shape[-1])
    for ours, theirs in zip((dx, dw), expected, strict=True):
        # In low precision the cotangent is rounded, too.
        tolerance = (1e-6 if dtype == "float32" else 2**-7) * np.abs(theirs).max()
        np.testing.assert_allclose(np.asarray(ours, np.float64), theirs, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rows_of_an_embedding_and_their_gradients_are_those_of_float64(dtype):
    rng = np.random.default_rng(2)
    weight = jnp.asarray(rng.normal(size=(16, 8)), dtype)
    tokens = jnp.asarray([[3, 3, 0, 15], [3, 7, 16, -2]])  # those behind the end are taken as the nearest
    g = jnp.asarray(rng.normal(size=(2, 4, 8)), dtype)
    rows, gradient = jax.jit(
        lambda w, t, g: (looked_up(w, t), jax.vjp(lambda w: looked_up(w, t), w)[1](g)[0])
    )(weight, tokens, g)
    inside = np.clip(tokens, 0, 15)
    np.testing.assert_array_equal(rows, weight[inside])
    expected = np.zeros((16, 8))
    np.add.at(expected, inside, np.asarray(g, np.float64))
    assert gradient.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(gradient, np.float64), expected, rtol=2 * float(jnp.finfo(dtype).eps), atol=1e-6
    )


def test_gradients_of_a_token_that_occurs_often_are_summed_in_float32():
    g = jnp.asarray([[1.0], *[[2.0**-9]] * 512], "bfloat16")
    _, back = jax.vjp(lambda w: looked_up(w, jnp.full(513, 2)), jnp.zeros((4, 1), "bfloat16"))
    np.testing.assert_array_equal(back(g)[0], [[0], [0], [2], [0]])
