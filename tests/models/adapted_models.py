"""A small model, and adapters of it that do something."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from consistency_jax.models.adapters import add_adapters
from consistency_jax.models.decoder import DecoderConfig, Params, init_params
from consistency_jax.models.huggingface import Model
from consistency_jax.models.lora import LoraConfig

CONFIG = DecoderConfig(
    vocab_size=97, hidden=48, layers=2, heads=6, kv_heads=2, head_dim=8, mlp=80, qkv_bias=True, out_bias=True
)


TOKENS = np.random.default_rng(0).integers(3, 97, (2, 24))


LORA = LoraConfig(rank=4, alpha=6.0)


def flat(params: Params) -> dict[str, jax.Array]:
    return traverse_util.flatten_dict(params, sep="/")


def adapted(model: Model, lora: LoraConfig = LORA) -> Model:
    """The model with adapters that do something: B is random."""
    model = add_adapters(model, lora, seed=1)
    rng = np.random.default_rng(2)
    params = jax.tree.map_with_path(
        lambda path, p: jnp.asarray(rng.normal(0, 0.2, p.shape), p.dtype) if path[-1].key == "lora_b" else p,
        model.params,
    )
    return dataclasses.replace(model, params=params)


def random_params(config: DecoderConfig) -> Params:
    return jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
