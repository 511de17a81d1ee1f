"""The mesh: its sizes from a config, what lies where on it, and arrays that go there and back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from consistency_jax.config.defaults import default
from consistency_jax.errors import ConfigError
from consistency_jax.runtime.mesh import (
    fetch,
    make_mesh,
    mesh_of,
    mesh_shape,
    put,
    replicated,
    row_groups,
    rows_sharding,
    state_shardings,
)


def meshed(**sizes: int):
    config = default()
    config.mesh.update(sizes)
    return config


@pytest.mark.parametrize(
    ("sizes", "devices", "shape"),
    [
        ({"data": -1, "fsdp": 1, "tensor": 1}, 8, (8, 1, 1)),
        ({"data": 1, "fsdp": -1, "tensor": 4}, 16, (1, 4, 4)),
        ({"data": 2, "fsdp": 2, "tensor": 1}, 4, (2, 2, 1)),
    ],
)
def test_one_size_is_what_the_devices_leave(sizes, devices, shape):
    assert mesh_shape(meshed(**sizes), devices) == shape


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": -1, "fsdp": -1}, "at most one may be -1"),
        ({"data": 0}, "sizes must be positive"),
        ({"data": -1, "fsdp": 3}, "2 x 3 x 1 does not cover the 8 device"),
        ({"data": 2, "fsdp": 2, "tensor": 1}, "2 x 2 x 1 does not cover the 8 device"),
    ],
)
def test_sizes_that_do_not_cover_the_devices_are_told(sizes, message):
    with pytest.raises(ConfigError, match=message):
        mesh_shape(meshed(**sizes), 8)


def test_rows_are_split_over_data_and_fsdp_and_heads_are_not():
    mesh = AbstractMesh((2, 4, 3), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    assert row_groups(mesh) == 8
    assert rows_sharding(mesh).shard_shape((16, 5)) == (2, 5)
    assert replicated(mesh).shard_shape((16, 5)) == (16, 5)


def test_arrays_go_to_a_mesh_and_back():
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    tree = {"a": np.arange(6.0).reshape(2, 3), "b": [np.int32(4)]}
    with jax.transfer_guard("disallow"):  # what is explicit may pass
        there = put(tree, jax.tree.map(lambda _: replicated(mesh), tree))
        back = fetch(there)
    assert mesh_of(there) == mesh
    assert isinstance(there["a"], jax.Array)
    jax.tree.map(np.testing.assert_array_equal, back, tree)
    unsharded = mesh_of({"x": jnp.ones(3)})
    assert dict(unsharded.shape) == {"data": 1, "fsdp": 1, "tensor": 1}


def test_moments_lie_beside_their_parameters_and_all_else_is_whole():
    mesh = AbstractMesh((1, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    shapes = {
        "up": jax.ShapeDtypeStruct((8, 6), jnp.float32),
        "up_norm": jax.ShapeDtypeStruct((8,), jnp.float32),
    }
    split = NamedSharding(mesh, PartitionSpec("fsdp", "tensor"))
    shardings = {"up": split, "up_norm": replicated(mesh)}
    state = jax.eval_shape(optax.adam(0.1).init, shapes)
    places = state_shardings(mesh, shardings, shapes, state)[0]
    assert (places.mu["up"], places.nu["up"]) == (split, split)
    assert places.mu["up_norm"] == places.count == replicated(mesh)
    # Of another shape (a row's mean): not split as the parameter is.
    means = {"up": jax.ShapeDtypeStruct((8,), jnp.float32)}
    assert state_shardings(mesh, shardings, shapes, means)["up"] == replicated(mesh)
