"""Useful FLOPs, counted by hand; tests/aot/test_prove.py holds them against compiled programs."""

import numpy as np
import pytest

from consistency_jax.aot.shapes import Load, abstract_batch
from consistency_jax.data.packing.rows import Shape
from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.flops import forward_flops, mask_cost, step_flops

CONFIG = DecoderConfig(vocab_size=3000, hidden=256, layers=2, heads=4, kv_heads=2, head_dim=64, mlp=640)
SHAPE = Shape(rows=4, length=128, sources=48, targets=96, groups=2)
BATCH = abstract_batch(Load(SHAPE, items=1, languages=1, candidates=1))


def test_a_forward_pass_is_its_products():
    tokens, layer = 4 * 128, 256 * (256 + 2 * 128 + 256) + 3 * 256 * 640  # q, k and v, output; gate, up, down
    attention = 2 * 4 * 128**2 * 4 * 64  # scores, and sums of values: of all keys of a row, for every head
    expected = 2 * (2 * (tokens * layer + attention) + 96 * 256 * 3000)
    assert forward_flops(CONFIG, BATCH) == expected
    assert step_flops(CONFIG, BATCH) == 3 * expected


def test_frozen_parameters_cost_no_gradient_of_their_own():
    mlp = 3 * CONFIG.layers * CONFIG.hidden * CONFIG.mlp
    names = [f"layers/attention/{part}/kernel" for part in ("query", "key", "value", "out")]
    names += ["embedding/weight", "head/weight"]
    spared = step_flops(CONFIG, BATCH) - step_flops(CONFIG, BATCH, names)
    assert spared == pytest.approx(2 * 4 * 128 * mlp)


def test_micro_batches_are_counted_together():
    three = BATCH._replace(tokens=np.zeros((3, 4, 128)), sources=np.zeros((3, 2, 48)))
    assert step_flops(CONFIG, three) == 3 * step_flops(CONFIG, BATCH)


def test_a_dense_mask_costs_small_models_more():
    # 8 heads of 64 and of 8: 8 x (4 H + 300) over twice the multiply-adds of a layer
    large = DecoderConfig(vocab_size=9, hidden=512, layers=8, heads=8, kv_heads=8, head_dim=64, mlp=1536)
    small = DecoderConfig(vocab_size=9, hidden=64, layers=5, heads=8, kv_heads=4, head_dim=8, mlp=172)
    assert mask_cost(large) == pytest.approx(8 * 556 / (2 * (4 * 512 * 512 + 3 * 512 * 1536)))
    assert mask_cost(small) == pytest.approx(1 / 34, rel=0.05)
