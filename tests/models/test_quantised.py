"""Kernels in 8 and 4 bits: what is stored, what a product makes of it, what it costs, and how a folder is read so."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapted_models import CONFIG, LORA, TOKENS, adapted, flat, random_params
from flax import traverse_util

from consistency_jax.errors import CheckpointError, ConfigError
from consistency_jax.models.adapters import merge_adapters, quantise
from consistency_jax.models.decoder import REMATS, Decoder, Params, abstract_params, init_params
from consistency_jax.models.huggingface import Model, load_pretrained, save_pretrained
from consistency_jax.models.quantised import LEVELS, block_of, dequantise, quantised_kernel, quantised_product
from consistency_jax.models.quantised import quantise as quantise_kernel
from consistency_jax.runtime.mesh import make_mesh
from consistency_jax.training.trainable import merge_params, split_params, trained_names

# The levels that the authors of nf4 published (appendix E).
PUBLISHED = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635)
PUBLISHED += (-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725)
PUBLISHED += (0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941)
PUBLISHED += (0.7229568362236023, 1.0)
BASES = ("int8", "nf4")


@pytest.fixture(scope="module")
def model() -> Model:
    config = dataclasses.replace(CONFIG, initializer_range=0.2)
    return Model(config, random_params(config))


def kernel(inputs: int, outputs: int = 24) -> np.ndarray:
    return np.random.default_rng(inputs).normal(0, 0.3, (inputs, outputs)).astype(np.float32)


def nearest(weights: np.ndarray, base: str) -> np.ndarray:
    """What is nearest to each weight, of all that its block can hold; looked for one by one."""
    block, out = np.gcd(len(weights), 64), np.empty_like(weights)
    steps = np.array(PUBLISHED) if base == "nf4" else np.arange(-127, 128) / 127
    for start in range(0, len(weights), block):
        for column in range(weights.shape[1]):
            own = weights[start : start + block, column]
            values = steps * np.abs(own).max()
            out[start : start + block, column] = values[np.abs(own[:, None] - values).argmin(1)]
    return out


def test_levels_are_the_published_ones():
    np.testing.assert_allclose(LEVELS, PUBLISHED, atol=2e-7)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("inputs", [128, 96, 80])
def test_each_weight_becomes_the_nearest_that_its_block_has(inputs, base):
    weights = kernel(inputs)
    stored = quantise_kernel(jnp.asarray(weights), base)
    found = np.asarray(dequantise(**stored, dtype=jnp.float32))
    np.testing.assert_allclose(found, nearest(weights, base), atol=1e-6)
    bits = sum(leaf.nbytes for leaf in stored.values()) * 8 / weights.size
    assert bits == {"int8": 8, "nf4": 4}[base] + 32 / np.gcd(inputs, 64)


@pytest.mark.parametrize("base", BASES)
def test_a_block_of_zeros_stays_zeros_and_the_largest_stays_itself(base):
    weights = kernel(128)
    weights[:64, 3] = 0.0
    found = np.asarray(dequantise(**quantise_kernel(jnp.asarray(weights), base), dtype=jnp.float32))
    assert (found[:64, 3] == 0).all()
    largest = np.abs(weights[64:]).argmax(0)
    np.testing.assert_allclose(
        found[64:][largest, np.arange(24)], weights[64:][largest, np.arange(24)], rtol=1e-6
    )


def test_codes_hang_on_no_quotient():
    """At and beside the ties, where a division that is off in its last place would take another code."""
    scale = np.float32(127 * 0.37) * np.float32(1 / 127)
    ties = (np.arange(-63, 63, 2, dtype=np.float32) + np.float32(0.5)) * scale
    for near, expected in (
        (np.nextafter(ties, np.float32(-9e9)), np.arange(-63, 63, 2)),
        (ties, np.arange(-63, 63, 2)),
        (np.nextafter(ties, np.float32(9e9)), np.arange(-62, 63, 2)),
    ):
        weights = np.concatenate([near, [np.float32(127 * 0.37)]]).astype(np.float32)[:, None]
        codes = np.asarray(quantise_kernel(jnp.asarray(weights), "int8")["codes"])[:-1, 0]
        np.testing.assert_array_equal(codes, expected)


def test_blocks_of_few_inputs_are_refused():
    assert [block_of(size) for size in (4096, 576, 80, 8)] == [64, 64, 16, 8]
    with pytest.raises(ValueError, match="a kernel of 36 inputs cannot be quantised: 8 must divide them"):
        dataclasses.replace(CONFIG, base="nf4", mlp=36)
    with pytest.raises(ValueError, match="base = 'int4'; known: none, int8, nf4"):
        dataclasses.replace(CONFIG, base="int4")


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_product_and_its_gradient_are_those_of_the_dequantised_kernel(base, dtype):
    stored = quantise_kernel(jnp.asarray(kernel(128)), base)
    whole = np.asarray(dequantise(**stored, dtype=dtype)).astype(np.float64)
    rng = np.random.default_rng(1)
    x, g = (jnp.asarray(rng.normal(size=(16, size)), dtype) for size in (128, 24))
    y, pull = jax.vjp(lambda x: quantised_product(x, stored["codes"], stored["scales"], ("embed", "mlp")), x)
    assert y.dtype == x.dtype
    error = {"float32": 1e-5, "bfloat16": 2.0**-7}[dtype]
    for ours, exact in (
        (y, np.asarray(x).astype(np.float64) @ whole),
        (pull(g)[0], np.asarray(g).astype(np.float64) @ whole.T),
    ):
        np.testing.assert_allclose(
            np.asarray(ours).astype(np.float64), exact, rtol=error, atol=error * np.abs(exact).max()
        )


@pytest.mark.parametrize("base", BASES)
def test_a_quantised_model_is_the_model_of_its_dequantised_kernels(model, base):
    quantised = quantise(model, base)
    own, plain = flat(quantised.params), {}
    for name, leaf in flat(model.params).items():
        stem = name.removesuffix("/kernel")
        plain[name] = leaf
        if stem != name:
            parts = [own.pop(f"{stem}/{part}") for part in ("codes", "scales")]
            plain[name] = jax.vmap(lambda *parts: dequantise(*parts, dtype=jnp.float32))(*parts)
        else:
            assert own.pop(name) is leaf
    assert not own
    expected = dataclasses.replace(model, params=traverse_util.unflatten_dict(plain, sep="/")).apply(TOKENS)
    np.testing.assert_allclose(quantised.apply(TOKENS), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - model.apply(TOKENS)).max() > 1e-3
    assert quantised.config.num_params == model.config.num_params
    assert f"{base} projections" in repr(quantised)


@pytest.mark.parametrize("base", BASES)
def test_new_parameters_have_the_shapes_of_quantised_ones(model, base):
    quantised = quantise(model, base)
    assert jax.tree.map(jnp.shape, quantised.params) == jax.tree.map(
        jnp.shape, abstract_params(quantised.config)
    )
    made = Model(
        quantised.config, jax.jit(init_params, static_argnums=0)(quantised.config, jax.random.key(0))
    )
    assert 0.1 < np.asarray(made.apply(TOKENS)).std() < 10


@pytest.mark.parametrize("base", BASES)
def test_a_folder_read_quantised_is_the_model_quantised(model, base, tmp_path):
    save_pretrained(model, tmp_path / "model")
    expected = flat(quantise(load_pretrained(tmp_path / "model", dtype="bfloat16"), base).params)
    read = load_pretrained(tmp_path / "model", dtype="bfloat16", base=base)
    split = load_pretrained(
        tmp_path / "model", dtype="bfloat16", base=base, mesh=make_mesh((1, jax.device_count(), 1))
    )
    assert read.config.base == base
    for found in (flat(read.params), flat(split.params)):
        assert set(found) == set(expected)
        for name, leaf in expected.items():
            np.testing.assert_array_equal(found[name], leaf)
    with pytest.raises(CheckpointError, match=f"the model is quantised \\({base}\\)"):
        save_pretrained(read, tmp_path / "out")
    narrow = dataclasses.replace(model.config, mlp=36)
    save_pretrained(Model(narrow, random_params(narrow)), tmp_path / "narrow")
    with pytest.raises(ConfigError, match="narrow: a kernel of 36 inputs"):
        load_pretrained(tmp_path / "narrow", base=base)


def test_no_two_whole_kernels_are_there_while_a_model_is_read():
    def layers() -> Iterator[jax.Array]:
        for layer in range(3):
            alive = [array.shape for array in jax.live_arrays() if array.dtype == jnp.float32]
            assert (1, 128, 7) not in alive
            yield jnp.asarray(kernel(128, 7)[None] + layer)

    stored = dict(quantised_kernel("block/kernel", 3, layers(), "nf4", {}))
    for layer in range(3):
        expected = quantise_kernel(jnp.asarray(kernel(128, 7) + layer), "nf4")
        for part, leaf in expected.items():
            np.testing.assert_array_equal(stored[f"block/{part}"][layer], leaf)


def test_adapters_are_not_merged_into_quantised_kernels(model):
    policy = adapted(quantise(model, "nf4"), LORA)
    assert np.abs(policy.apply(TOKENS) - quantise(model, "nf4").apply(TOKENS)).max() > 0.1
    with pytest.raises(ValueError, match="into the original kernels, not into their nf4"):
        merge_adapters(policy)
    with pytest.raises(ValueError, match="kernels in nf4 cannot be had in int8"):
        quantise(policy, "int8")


@pytest.mark.parametrize("remat", REMATS)
def test_no_kernel_is_kept_for_the_backward_pass(remat):
    """A step's memory holds one layer's kernels at a time: more layers add what activations need and no more."""

    def temporaries(base: str, layers: int) -> int:
        config = dataclasses.replace(
            CONFIG, hidden=128, mlp=1024, layers=layers, lora=LORA, base=base, remat=remat
        )
        parts = split_params(abstract_params(config), trained_names(config, ""))
        tokens = jnp.zeros((1, 8), jnp.int32)

        def total(trained: Params, frozen: Params) -> jax.Array:
            inputs = (tokens, tokens, tokens + 1, tokens)
            return Decoder(config).apply({"params": merge_params(trained, frozen)}, *inputs).sum()

        return jax.jit(jax.grad(total)).lower(*parts).compile().memory_analysis().temp_size_in_bytes

    more = temporaries("nf4", 10) - temporaries("nf4", 4)
    assert more - (temporaries("none", 10) - temporaries("none", 4)) < 3 * 128 * 1024 * 4
