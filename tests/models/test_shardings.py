"""How parameters are split: by their logical names, where the mesh divides them."""

import dataclasses

import pytest
from flax import traverse_util
from jax.sharding import AbstractMesh, AxisType

from consistency_jax.models.decoder import DecoderConfig, abstract_params
from consistency_jax.models.shardings import param_shardings

CONFIG = DecoderConfig(vocab_size=96, hidden=64, layers=3, heads=8, kv_heads=2, head_dim=16, mlp=128)


def shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    flat = traverse_util.flatten_dict(abstract_params(config), sep="/")
    return {name: leaf.shape for name, leaf in flat.items()}


def shards(*sizes: int, config: DecoderConfig = CONFIG) -> dict[str, tuple[int, ...]]:
    """name -> shape of one device's part."""
    mesh = AbstractMesh(sizes, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    shardings = traverse_util.flatten_dict(param_shardings(config, mesh), sep="/")
    return {name: shardings[name].shard_shape(shape) for name, shape in shapes(config).items()}


def test_copies_hold_everything():
    assert shards(8, 1, 1) == shapes(CONFIG)


def test_fsdp_splits_the_model_axis_and_tensor_heads_feed_forward_and_vocabulary():
    parts = shards(1, 4, 2)
    assert parts["layers/mlp/up/kernel"] == (3, 64 // 4, 128 // 2)
    assert parts["layers/mlp/down/kernel"] == (3, 128 // 2, 64 // 4)
    assert parts["embedding/weight"] == (96 // 2, 64 // 4)


def test_a_norm_over_the_whole_width_is_split_as_the_heads_are():
    parts = shards(1, 4, 2, config=dataclasses.replace(CONFIG, qk_norm="width"))
    assert parts["layers/attention/query_norm/scale"] == (3, 8 * 16 // 2)
    assert parts["layers/attention/key_norm/scale"] == (3, 2 * 16 // 2)


@pytest.mark.parametrize(("tensor", "kept"), [(2, 32 // 2), (64, 32)])
def test_an_axis_that_does_not_divide_stays_whole(tensor, kept):
    assert shards(1, 1, tensor)["layers/attention/key/kernel"] == (3, 64, kept)
