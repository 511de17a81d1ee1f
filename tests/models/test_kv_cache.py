"""Keys and values that are kept: each in its column, with room for those to come."""

import jax
import jax.numpy as jnp
import numpy as np

from consistency_jax.models.attention import Columns
from consistency_jax.models.kv_cache import extended, new_cache

LAYERS, ROWS, HEADS, SIZE = 2, 3, 2, 4


def drawn(seed: int, length: int):
    """(keys and values [layers, R, T, K, H], columns i32[R, T])."""
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=(2, LAYERS, ROWS, length, HEADS, SIZE)).astype(np.float32)
    columns = Columns(*(jnp.asarray(rng.integers(1, 9, (ROWS, length)), jnp.int32) for _ in range(3)))
    return (jnp.asarray(arrays[0]), jnp.asarray(arrays[1])), columns


def test_what_is_written_is_in_its_columns_and_the_rest_is_empty():
    (first, more), (columns, later) = zip(drawn(0, 5), drawn(1, 2), strict=True)
    cache = new_cache(first, columns, room=4)
    whole = jax.jit(extended)(cache, more, later, jnp.int32(6))
    for kept, start, added in zip((whole.key, whole.value), first, more, strict=True):
        assert kept.shape == (LAYERS, ROWS, HEADS, 9, SIZE)
        by_column = np.asarray(kept).transpose(0, 1, 3, 2, 4)
        np.testing.assert_array_equal(by_column[:, :, :5], start)
        np.testing.assert_array_equal(by_column[:, :, 6:8], added)
        assert not by_column[:, :, [5, 8]].any()
    for kept, start, added in zip(whole.columns, columns, later, strict=True):
        np.testing.assert_array_equal(kept[:, :5], start)
        np.testing.assert_array_equal(kept[:, 6:8], added)
        assert not np.asarray(kept)[:, [5, 8]].any()  # tree 0: nobody sees it
