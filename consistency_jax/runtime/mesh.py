"""Where arrays live: the mesh, and the one table from logical names to mesh axes.

Models name what an axis *is* ("embed", "heads", "rows"); only this file says over which mesh axis it is split:

    data     copies of the parameters, rows of the batch split
    fsdp     parameters split too (gathered layer by layer by the compiler), rows of the batch split
    tensor   heads, feed forward and vocabulary split (Megatron style)

A mesh of one device is a mesh: there is no unsharded path.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from consistency_jax.errors import ConfigError
from consistency_jax.runtime.processes import place, several

T = TypeVar("T")

ROWS = ("data", "fsdp")  # the mesh axes that split a batch

RULES: tuple[tuple[str, Any], ...] = (
    # parameters
    ("vocab", "tensor"),
    ("embed", "fsdp"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("mlp", "tensor"),
    ("norm", None),
    ("rank", None),
    ("layers", None),
    # activations
    ("rows", ROWS),
    ("lookup_rows", "data"),
    ("length", None),
    ("keys", None),
    ("activation_embed", None),
    ("activation_heads", "tensor"),
    ("activation_kv_heads", "tensor"),
    ("activation_mlp", "tensor"),
    ("head_dim", None),
    # log-probabilities: the head's rows over the devices that share its parameters
    ("head_vocab", ("tensor", "fsdp")),
    ("head_groups", "data"),
)


def make_mesh(sizes: tuple[int, int, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh (data, fsdp, tensor), over all devices of all processes unless some are named."""
    return jax.make_mesh(sizes, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3, devices=devices)


@contextlib.contextmanager
def on_mesh(mesh: Mesh) -> Iterator[None]:
    """Where functions are traced: the models' logical names mean this mesh's axes; on one device they mean nothing."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES if mesh.size > 1 else ()):
        yield


def row_groups(mesh: Mesh) -> int:
    """Into how many groups the rows of a batch are split: G of a `Batch`."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def mesh_of(params: Any) -> Mesh:
    """The mesh that parameters live on; for unsharded ones a mesh of their one device."""
    sharding = jax.tree.leaves(params)[0].sharding
    if isinstance(sharding, NamedSharding):
        return sharding.mesh
    devices = np.array(list(sharding.device_set)).reshape(1, 1, 1)
    return Mesh(devices, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def rows_sharding(mesh: Mesh) -> NamedSharding:
    """Rows split, whatever other axes there are."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def put(array: Any, shardings: Any) -> Any:
    """Host arrays -> device arrays; explicit, so that a transfer guard around the hot loop lets it pass.

    Of several processes all have the whole arrays, and each copies the parts (rows) of its own devices.
    """
    return jax.tree.map(lambda a, s: place(np.asarray(a), s), array, shardings)


def fetch(tree: Any) -> Any:
    """Device arrays -> whole numpy arrays, on every process; what is split over processes is gathered first."""
    if not several():
        return jax.device_get(tree)

    def one(array: Any) -> Any:
        whole = not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated
        return jax.device_get(array) if whole else multihost_utils.process_allgather(array, tiled=True)

    return jax.tree.map(one, tree)


def owner(path: tuple[Any, ...], by_path: Mapping[tuple[Any, ...], T]) -> T | None:
    """What `by_path` (tree paths of parameters) has for the parameter that a leaf of an optimizer's state belongs to:
    the one in whose path the leaf's path ends. None for a leaf that belongs to no parameter."""
    return next((by_path[path[n:]] for n in range(len(path)) if path[n:] in by_path), None)


def state_shardings(mesh: Mesh, shardings: Any, params: Any, state: Any) -> Any:
    """Shardings of a tree that holds copies of parameters (moments of an optimizer): a leaf whose path ends in a
    parameter's path, with that parameter's shape, lies as the parameter does; every other leaf is replicated.

    Args:
      shardings: of the parameters.
      params, state: trees of arrays or of shapes.
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
    by_path = dict(zip(paths, zip(shapes, jax.tree.leaves(shardings), strict=True), strict=True))

    def one(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        shape, sharding = owner(path, by_path) or (None, None)
        return sharding if shape == leaf.shape else replicated(mesh)

    return jax.tree_util.tree_map_with_path(one, state)


def mesh_shape(config: ConfigDict, devices: int) -> tuple[int, int, int]:
    """The mesh sizes (data, fsdp, tensor) on that many devices, -1 filled in.

    Raises:
      ConfigError: where the product is not the number of devices.
    """
    sizes = [config.mesh.data, config.mesh.fsdp, config.mesh.tensor]
    if any(size == 0 or size < -1 for size in sizes) or sizes.count(-1) > 1:
        raise ConfigError(f"mesh={dict(config.mesh)}: sizes must be positive, at most one may be -1")
    known = math.prod(size for size in sizes if size != -1)
    sizes = [devices // known if size == -1 else size for size in sizes]
    if math.prod(sizes) != devices:
        raise ConfigError(
            f"mesh data x fsdp x tensor = {' x '.join(map(str, sizes))} does not cover the {devices} device(s) here; "
            "change --config.mesh.* (one of them may be -1)"
        )
    return tuple(sizes)
