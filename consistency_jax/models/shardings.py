"""How a decoder's parameters are split over a mesh."""

from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from consistency_jax.models.decoder import DecoderConfig, abstract_params, logical_axes
from consistency_jax.runtime.mesh import RULES


def param_shardings(config: DecoderConfig, mesh: Mesh) -> Any:
    """NamedShardings of a decoder's parameters, a tree like theirs.

    An axis whose size the mesh does not divide stays whole (kv heads of a small model on a wide tensor axis).
    """

    def one(spec: PartitionSpec, shape: jax.ShapeDtypeStruct) -> NamedSharding:
        names = list(nn.logical_to_mesh_axes(spec, RULES))
        names += [None] * (len(shape.shape) - len(names))
        fits = [
            name if name is None or size % mesh.shape[name] == 0 else None
            for name, size in zip(names, shape.shape, strict=True)
        ]
        return NamedSharding(mesh, PartitionSpec(*fits))

    axes, shapes = logical_axes(config), abstract_params(config)
    return jax.tree.map(one, axes, shapes, is_leaf=lambda x: isinstance(x, PartitionSpec))
