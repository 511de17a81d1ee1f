"""Useful FLOPs of a step, counted by hand: multiply-adds x 2 of its matrix products, padding of rows included.

    forward   every kernel for every row token, attention's two products over all [T, T] of a row, the head for every
              state that predicts something
    backward  the same again for the gradients of inputs (attention: twice), and for the gradients of trained weights

What is computed a second time to save memory (remat) is not useful and is not counted.
"""

import math
import re
from collections.abc import Collection

from flax import traverse_util

from consistency_jax.data.packing.rows import Batch
from consistency_jax.models.decoder import DecoderConfig, abstract_params

PRODUCT = re.compile(r"layers/.*(kernel|lora_a|lora_b)$")  # parameters that every token is multiplied with


def step_flops(config: DecoderConfig, batch: Batch, trained: Collection[str] | None = None) -> float:
    """Useful FLOPs of one train step on one batch, of the whole mesh.

    Args:
      batch: arrays or their shapes; with micro-batches, of all of them (a leading axis).
      trained: names of the trained parameters ("layers/mlp/up/kernel"); None: all.
    """
    products, attention, head = _forward(config, batch)
    gradients = sum(flops for name, flops in products.items() if trained is None or name in trained)
    head_name = "embedding/weight" if config.tied else "head/weight"
    gradients += head if trained is None or head_name in trained else 0.0
    return 2 * (sum(products.values()) + head) + 3 * attention + gradients


SCORE_FLOPS = 300  # what a score (mask, exponential, memory) costs beside its products; measured on CPU


def mask_cost(config: DecoderConfig) -> float:
    """What a dense mask costs a row token for each key, in passes of a token through the layers without attention.

    About 1/1400 for 58 M parameters, where it was measured (hidden 512, 8 heads), 1/34 for 260 thousand (hidden 64).
    """
    projections = config.hidden * config.head_dim * (2 * config.heads + 2 * config.kv_heads)
    layer = 2 * (projections + (2 + config.gated) * config.hidden * config.mlp)
    return config.heads * (4 * config.head_dim + SCORE_FLOPS) / layer


def forward_flops(config: DecoderConfig, batch: Batch) -> float:
    """Useful FLOPs of scoring one batch; arguments as in `step_flops`."""
    products, attention, head = _forward(config, batch)
    return sum(products.values()) + attention + head


def _forward(config: DecoderConfig, batch: Batch) -> tuple[dict[str, float], float, float]:
    """FLOPs of the forward pass: of each layer parameter, of attention, of the head."""
    tokens, length, sources = (
        math.prod(batch.tokens.shape),
        batch.tokens.shape[-1],
        math.prod(batch.sources.shape),
    )
    flat = traverse_util.flatten_dict(abstract_params(config.unquantised), sep="/")
    products = {
        name: 2.0 * tokens * math.prod(leaf.shape) for name, leaf in flat.items() if PRODUCT.match(name)
    }
    attention = 4.0 * tokens * length * config.layers * config.heads * config.head_dim
    return products, attention, 2.0 * sources * config.hidden * config.vocab_size
