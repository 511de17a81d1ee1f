"""Laws of the decoder on packed token trees, and of the ways it can run."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from packed_rows import FIELDS, Forest, packed, sequence

from consistency_jax.models.attention import attend, mask_bias, tree_mask
from consistency_jax.models.decoder import (
    Decoder,
    DecoderConfig,
    LayerType,
    Params,
    abstract_params,
    init_params,
    logical_axes,
    logits,
)
from consistency_jax.models.lora import LoraConfig
from consistency_jax.models.rotary import Rope

SMALL = DecoderConfig(
    vocab_size=61, hidden=32, layers=3, heads=6, kv_heads=2, head_dim=8, mlp=40, initializer_range=0.3
)
EVERYTHING = dataclasses.replace(
    SMALL,
    norm_offset=True,
    norm_sites="both",
    qk_norm="head",
    qkv_bias=True,
    out_bias=True,
    mlp_bias=True,
    layer_types=(
        LayerType(4, Rope(theta=100.0)),
        LayerType(None, Rope(theta=1e4, scaling="linear", factor=2.0)),
        LayerType(4, Rope(theta=100.0)),
    ),
    rope_style="interleaved",
    activation="gelu_tanh",
    attention_cap=5.0,
    final_cap=7.0,
    logit_scale=0.5,
    query_scale=0.4,
    embedding_scale=3.0,
    tied=False,
)
PARALLEL = dataclasses.replace(
    SMALL, norm="layer", parallel_block=True, logit_scale=0.1, qk_norm="own_scales"
)
BEHIND = dataclasses.replace(
    SMALL,
    norm_sites="behind",
    qk_norm="width",
    activation="xielu",
    gated=False,
    layer_types=(LayerType(), LayerType(3, None), LayerType(None, None)),
)
CONFIGS = {"llama": SMALL, "everything": EVERYTHING, "parallel": PARALLEL, "behind": BEHIND}


def randomized(config: DecoderConfig, seed: int = 0) -> Params:
    """Random parameters with norms and biases away from where they start."""
    params = init_params(config, jax.random.key(seed))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return structure.unflatten(x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys))


@functools.partial(jax.jit, static_argnums=0)
def _states(config: DecoderConfig, params: Params, fields: list[jax.Array]) -> jax.Array:
    return Decoder(config).apply({"params": params}, *fields)


def run(config: DecoderConfig, params: Params, *rows: dict[str, np.ndarray]) -> np.ndarray:
    """Hidden states [R, T, D] of rows, padded to the longest: one call, one compilation."""
    longest = max(len(row["tree"]) for row in rows)
    fields = [
        jnp.asarray(np.stack([np.pad(row[name], (0, longest - len(row[name]))) for row in rows]))
        for name in FIELDS
    ]
    return np.asarray(_states(config, params, fields))


def random_forest(rng: np.random.Generator, trees: int = 3) -> Forest:
    def some(low: int, high: int) -> np.ndarray:
        return rng.integers(0, 61, rng.integers(low, high))

    return [(some(1, 9), [some(0, 6) for _ in range(rng.integers(0, 4))]) for _ in range(trees)]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_trees_in_a_row_equal_separate_sequences(config: DecoderConfig) -> None:
    rng = np.random.default_rng(0)
    params = randomized(config)
    forest = random_forest(rng)
    row = packed(forest)
    paths = [
        (number, index, trunk, branch)
        for number, (trunk, branches) in enumerate(forest, 1)
        for index, branch in enumerate([np.zeros(0, int), *branches])
    ]
    alone = run(config, params, *(sequence(np.concatenate([trunk, branch])) for _, _, trunk, branch in paths))
    hidden = run(config, params, row)[0]
    assert np.isfinite(hidden).all()
    for (number, index, trunk, branch), states in zip(paths, alone, strict=True):
        # float32 sums over rows of another length, mostly masked: 3e-6 seen on states up to 3.4.
        mine = (row["tree"] == number) & (row["branch"] == 0)
        np.testing.assert_allclose(hidden[mine], states[: len(trunk)], atol=3e-5)
        if index:
            mine = (row["tree"] == number) & (row["branch"] == index)
            np.testing.assert_allclose(hidden[mine], states[len(trunk) : len(trunk) + len(branch)], atol=3e-5)


def test_changing_one_tree_never_changes_a_neighbour() -> None:
    rng = np.random.default_rng(1)
    params = randomized(EVERYTHING)
    row = packed(random_forest(rng))
    changed = dict(row, tokens=np.where(row["tree"] == 2, (row["tokens"] + 7) % 61, row["tokens"]))
    before, after = run(EVERYTHING, params, row, changed)
    others = row["tree"] != 2
    np.testing.assert_array_equal(before[others], after[others])  # exactly: masked weights are exact zeros
    assert (before[~others] != after[~others]).any(-1).all()


def test_padding_gives_finite_states_and_gradients_and_takes_no_part() -> None:
    row = {
        name: jnp.asarray(value)[None]
        for name, value in packed(random_forest(np.random.default_rng(2))).items()
    }
    real = (row["tree"] > 0)[..., None]
    params = randomized(SMALL)

    def loss(params: Params, tokens: jax.Array) -> jax.Array:
        states = Decoder(SMALL).apply(
            {"params": params}, tokens, row["positions"], row["tree"], row["branch"]
        )
        return jnp.sum(jnp.where(real, states, 0.0) ** 2)

    grad = jax.jit(jax.value_and_grad(loss))
    value, gradient = grad(params, row["tokens"])
    _, other = grad(params, jnp.where(real[..., 0], row["tokens"], 5))
    assert np.isfinite(value)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(gradient))
    jax.tree.map(np.testing.assert_array_equal, gradient["layers"], other["layers"])
    nothing = {name: np.zeros(12, np.int32) for name in FIELDS}
    assert np.isfinite(run(SMALL, params, nothing)).all()


def brute_force_mask(row: dict[str, np.ndarray], window: int | None) -> np.ndarray:
    length = len(row["tokens"])
    seen = np.zeros((length, length), bool)
    for t in range(length):
        for s in range(t + 1):
            own_branch = row["branch"][s] in (0, row["branch"][t])
            near = window is None or row["positions"][t] - row["positions"][s] < window
            seen[t, s] = row["tree"][s] == row["tree"][t] and own_branch and near
    return seen


@pytest.mark.parametrize("window", [None, 1, 3])
def test_mask_equals_brute_force_with_windows_in_positions(window: int | None) -> None:
    for seed in range(5):
        row = packed(random_forest(np.random.default_rng(seed)))
        ours = tree_mask(*(jnp.asarray(row[n])[None] for n in ("positions", "tree", "branch")), window)[0]
        np.testing.assert_array_equal(np.asarray(ours), brute_force_mask(row, window))


def test_attention_equals_plain_softmax_with_repeated_keys() -> None:
    rng = np.random.default_rng(3)
    row = packed(random_forest(rng))
    length = len(row["tokens"])
    query = rng.normal(size=(length, 6, 8))
    key, value = rng.normal(size=(2, length, 2, 8))
    mask = brute_force_mask(row, None)
    expected = np.zeros((length, 6, 8))
    for head in range(6):
        scores = np.where(mask, 3 * np.tanh(query[:, head] @ key[:, head // 3].T / 3), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        expected[:, head] = weights / weights.sum(-1, keepdims=True) @ value[:, head // 3]
    arrays = (jnp.asarray(x, jnp.float32)[None] for x in (query, key, value))
    ours = attend(*arrays, mask_bias(jnp.asarray(mask)[None]), cap=3.0, backend="xla")[0]
    np.testing.assert_allclose(np.asarray(ours), expected, atol=2e-6)  # float32 against float64


RUNS = {
    "remat full": {"remat": "full"},
    "remat wide": {"remat": "wide"},
    "remat dots, inlined": {"remat": "dots", "scan_layers": False},
}


@pytest.mark.parametrize("how", RUNS.values(), ids=RUNS.keys())
def test_how_it_runs_does_not_change_values_or_gradients(how: dict) -> None:
    params = randomized(EVERYTHING)
    row = packed(random_forest(np.random.default_rng(4)))
    fields = [jnp.asarray(v)[None] for v in row.values()]

    @functools.partial(jax.jit, static_argnums=0)
    def outcome(config: DecoderConfig, params: Params) -> tuple[jax.Array, Params]:
        def loss(params: Params) -> jax.Array:
            return jnp.sum(jnp.sin(Decoder(config).apply({"params": params}, *fields)))

        return jax.value_and_grad(loss)(params)

    plain, other = outcome(EVERYTHING, params), outcome(dataclasses.replace(EVERYTHING, **how), params)
    # The same float32 operations, fused otherwise, so rounded otherwise.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(a).max() + 1)), plain, other
    )


def test_bfloat16_follows_float32() -> None:
    params = randomized(SMALL)
    row = packed(random_forest(np.random.default_rng(5)))
    fields = [jnp.asarray(v)[None] for v in row.values()]

    def gradient(dtype: str) -> np.ndarray:
        config = dataclasses.replace(SMALL, dtype=dtype)

        def loss(params: Params) -> jax.Array:
            states = Decoder(config).apply({"params": params}, *fields).astype(jnp.float32)
            return jnp.sum(jnp.sin(states))

        tree = jax.jit(jax.grad(loss))(params)
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    wide, narrow = gradient("float32"), gradient("bfloat16")
    cosine = wide @ narrow / np.linalg.norm(wide) / np.linalg.norm(narrow)
    assert cosine > 0.995  # 8 bits of mantissa through 3 layers


def test_caps_and_scales_reach_the_logits() -> None:
    params = randomized(EVERYTHING)
    hidden = jax.random.normal(jax.random.key(0), (4, 32)) * 10
    raw = np.asarray(hidden) @ np.asarray(params["head"]["weight"]).T
    ours = np.asarray(logits(params, EVERYTHING, hidden))
    np.testing.assert_allclose(ours, 7 * np.tanh(raw * 0.5 / 7), atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_parameter_has_logical_axes(config: DecoderConfig) -> None:
    shapes, axes = abstract_params(config), logical_axes(config)
    is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
    pairs = list(zip(jax.tree.leaves(shapes), jax.tree.leaves(axes, is_leaf=is_spec), strict=True))
    assert all(len(shape.shape) == len(spec) and None not in spec for shape, spec in pairs)
    params = init_params(config, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    assert config.num_params == sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kv_heads": 4}, "not a multiple"),
        ({"head_dim": 7}, "odd"),
        ({"layer_types": (LayerType(),) * 2}, "layer_types names 2 layers, the model has 3"),
        ({"norm": "batch"}, "norm = 'batch'; known: rms, layer"),
        ({"attention": "flash9"}, "unknown attention backend 'flash9'; known: auto, xla, splash, cudnn"),
        ({"remat": "some"}, "known: none, dots, wide, full"),
        ({"layers": 0}, "at least 1"),
        (
            {"gated": False, "lora": LoraConfig(4, targets="gate")},
            "'gate' finds the gate alone, and this .* none",
        ),
        ({"norm_sites": "nowhere"}, "known: before, behind, both"),
        ({"qk_norm": "tail"}, "known: none, head, own_scales, width"),
    ],
)
def test_bad_configs_name_the_field(changes: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(SMALL, **changes)
