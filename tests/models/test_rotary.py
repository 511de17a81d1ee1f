"""Rotary frequencies against transformers' own, and the layer that has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from consistency_jax.models.families.family import read_rope
from consistency_jax.models.families.keys import Keys
from consistency_jax.models.rotary import Rope, rotate, rotations

LLAMA3 = {"low_freq_factor": 1.5, "high_freq_factor": 3.0, "original_max_position_embeddings": 1024}
YARN = {"beta_fast": 8.0, "beta_slow": 2.0, "attention_factor": 1.5}
SETTINGS = {
    "linear": ({}, {}),
    "llama3": (LLAMA3, {"low_frequency_factor": 1.5, "high_frequency_factor": 3.0, "original_length": 1024}),
    "yarn": (YARN | {"original_max_position_embeddings": 1024}, YARN | {"original_length": 1024}),
}


@pytest.mark.parametrize("theta", [300.0, 500_000.0])
@pytest.mark.parametrize("scaling", SETTINGS)
def test_frequencies_are_those_of_transformers(scaling: str, theta: float) -> None:
    transformers = pytest.importorskip("transformers")
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    theirs, ours = SETTINGS[scaling]
    settings = {"rope_type": scaling, "rope_theta": theta, "factor": 8.0, **theirs}
    config = transformers.LlamaConfig(hidden_size=96, num_attention_heads=3, rope_parameters=settings)
    expected, factor = rope_utils.ROPE_INIT_FUNCTIONS[scaling](config, device="cpu")
    rope = Rope(theta, scaling, 8.0, **ours)
    np.testing.assert_allclose(rope.frequencies(32), expected.numpy(), rtol=1e-5)  # float32
    assert rope.attention_factor == factor
    assert (np.abs(rope.frequencies(32) / Rope(theta).frequencies(32) - 1) > 0.1).any()


def test_the_length_that_yarn_begins_from_is_the_models_where_none_is_given() -> None:
    transformers = pytest.importorskip("transformers")
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    given = {"max_position_embeddings": 512, "rope_scaling": {"type": "yarn", "factor": 4.0}}
    config = transformers.LlamaConfig(hidden_size=96, num_attention_heads=3, **given)
    expected, factor = rope_utils.ROPE_INIT_FUNCTIONS["yarn"](config, device="cpu")
    rope = read_rope(Keys(given))
    np.testing.assert_allclose(rope.frequencies(32), expected.numpy(), rtol=1e-5)  # float32
    assert rope.attention_factor == pytest.approx(factor)


def test_a_layer_without_rotary_positions_is_turned_by_nothing_bit_for_bit() -> None:
    positions = jnp.arange(200).reshape(2, 100)
    cos, sin = rotations((Rope(attention_factor=1.25), None), positions, 8)
    assert cos.shape == sin.shape == (2, 2, 100, 1, 4)
    x = jax.random.normal(jax.random.key(0), (2, 100, 3, 8))
    for style in ("half", "interleaved"):
        np.testing.assert_array_equal(rotate(x, cos[1], sin[1], style), x)
        lengths = (jnp.linalg.norm(y, axis=-1) for y in (rotate(x, cos[0], sin[0], style), 1.25 * x))
        np.testing.assert_allclose(*lengths, rtol=1e-5)  # a turn keeps lengths; float32


def test_unknown_scaling_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown rope scaling 'dynamic'; known: none, linear, llama3, yarn"):
        Rope(scaling="dynamic")
