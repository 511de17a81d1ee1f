"""The one decoder-only transformer: every supported family is a `DecoderConfig` of it.

A block, in one breath: norm, attend, add, norm, feed forward, add (or, in parallel, norm once and add both).
Layers are stacked: every parameter of a layer has a leading axis [layers], run by `nn.scan`.

Letters: R rows, T tokens, N query heads, K kv heads, H head dim, D model, F feed forward, V vocabulary.
Parameters (a plain nested dict, kernels are [in, out]):

    embedding/weight [V, D]      head/weight [V, D] (untied only)      final_norm/scale [D]
    layers/attention_norm/scale [L, D]            layers/mlp_norm/scale [L, D] (not in a parallel block)
    layers/attention/{query,key,value,out}/{kernel,bias}
    layers/attention/{query,key}_norm/scale [L, H], or [L, N, H] and [L, K, H] with a scale for each head
    layers/mlp/{gate,up,down}/{kernel,bias}       layers/{attention,mlp}_post_norm/scale [L, D]
    {lora_a,lora_b} beside a kernel that has an adapter (`lora.py`)
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from consistency_jax.data.packing.attention_blocks import QueryBlocks
from consistency_jax.models.attention import (
    BACKENDS,
    Problem,
    attend,
    block_tables,
    cached_mask,
    check_backend,
    choose_backend,
    soft_cap,
    tree_mask,
)
from consistency_jax.models.kv_cache import Cache, KeysValues
from consistency_jax.models.lora import LoraConfig, Projection
from consistency_jax.models.projection import dot_general

Params = dict[str, Any]

REMATS = ("none", "full", "dots")
ACTIVATIONS = {"silu": nn.silu, "gelu_tanh": functools.partial(nn.gelu, approximate=True)}


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary frequencies of one kind of layer: theta ** (-2i / H), then scaled.

    `theta` None means no rotation at all. `scaling` "linear" divides every frequency by `factor`; "llama3"
    divides long wavelengths by `factor`, keeps short ones, and blends between (Llama 3.1's `rope_scaling`).
    """

    theta: float | None = 10_000.0
    scaling: str = "none"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_length: int = 8192

    def __post_init__(self) -> None:
        if self.scaling not in ("none", "linear", "llama3"):
            raise ValueError(f"unknown rope scaling {self.scaling!r}; known: none, linear, llama3")

    def frequencies(self, head_dim: int) -> np.ndarray:
        """f32[H / 2], radians per position."""
        if self.theta is None:
            return np.zeros(head_dim // 2, np.float32)
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        frequencies = (1.0 / np.float32(self.theta) ** exponents).astype(np.float32)
        if self.scaling == "linear":
            return frequencies / np.float32(self.factor)
        if self.scaling == "llama3":
            low, high = self.low_frequency_factor, self.high_frequency_factor
            wavelength = 2 * np.pi / frequencies
            keep = np.clip((self.original_length / wavelength - low) / (high - low), 0.0, 1.0)
            return ((1 - keep) * frequencies / self.factor + keep * frequencies).astype(np.float32)
        return frequencies


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Every trait in which the families differ. Defaults are Llama's; ValueError where traits clash."""

    vocab_size: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    # norms
    norm: str = "rms"  # "rms" or "layer" (no bias)
    norm_offset: bool = False  # scale by (1 + w) instead of w
    norm_eps: float = 1e-5
    pre_norm: bool = True  # norm before attention and before the mlp
    post_norm: bool = False  # norm of what attention and the mlp add
    qk_norm: bool = False  # norm of each query and key head, before the rotation
    qk_norm_per_head: bool = False  # every head has a scale of its own
    # attention
    qkv_bias: bool = False
    out_bias: bool = False
    query_scale: float | None = None  # None: head_dim ** -0.5
    attention_cap: float | None = None
    rope: Rope = Rope()
    rope_style: str = "half"  # pairs (i, i + H/2): "half"; pairs (2i, 2i + 1): "interleaved"
    window: int | None = None  # in positions, for the layers of `sliding`
    sliding: tuple[bool, ...] = ()  # one flag a layer; empty: all layers are global
    sliding_rope: Rope | None = None  # None: as `rope`
    # feed forward, block, ends
    activation: str = "silu"
    mlp_bias: bool = False
    parallel_block: bool = False
    embedding_scale: float | None = None
    tied: bool = True
    logit_scale: float | None = None
    final_cap: float | None = None
    max_length: int = 2048  # what the checkpoint was made for; nothing is cut here
    initializer_range: float = 0.02
    lora: LoraConfig | None = None  # adapters beside the kernels of projections
    # how it runs; none of these changes what the model is
    dtype: str = "float32"  # of activations and matmul inputs
    param_dtype: str = "float32"
    remat: str = "none"  # none | full | dots (keep the outputs of projections)
    scan_layers: bool = True  # False: every layer inlined (parameters stay stacked)
    attention: str = "auto"  # auto | xla | splash | cudnn

    def __post_init__(self) -> None:
        known = {
            "norm": ("rms", "layer"),
            "rope_style": ("half", "interleaved"),
            "activation": tuple(ACTIVATIONS),
            "remat": REMATS,
            "dtype": ("float32", "bfloat16", "float16", "float64"),
            "param_dtype": ("float32", "bfloat16", "float16", "float64"),
        }
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} = {getattr(self, name)!r}; known: {', '.join(choices)}")
        check_backend(self.attention)
        for name in ("vocab_size", "hidden", "layers", "heads", "kv_heads", "head_dim", "mlp"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}; must be at least 1")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads = {self.heads} is not a multiple of kv_heads = {self.kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim = {self.head_dim} is odd; rotary positions need pairs")
        if self.sliding and len(self.sliding) != self.layers:
            raise ValueError(f"sliding names {len(self.sliding)} layers, the model has {self.layers}")
        if any(self.sliding) and not self.window:
            raise ValueError("sliding layers need a window")
        if self.qk_norm_per_head and not self.qk_norm:
            raise ValueError("qk_norm_per_head needs qk_norm")
        if not (self.pre_norm or self.post_norm):
            raise ValueError("a block needs pre_norm or post_norm")

    @property
    def kinds(self) -> tuple[bool, ...]:
        """The kinds of layer that occur, as flags: sliding or not."""
        return tuple(sorted(set(self.sliding or (False,))))

    def differences(self, other: "DecoderConfig") -> list[str]:
        """Names of the fields by which the two are different models (how they run does not count)."""
        run = {"dtype", "param_dtype", "remat", "scan_layers", "attention"}
        fields = (f.name for f in dataclasses.fields(self) if f.name not in run)
        return [name for name in fields if getattr(self, name) != getattr(other, name)]

    @property
    def num_params(self) -> int:
        """Number of parameters, a tied head counted once."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(self)))


def _parameter(initializer: nn.initializers.Initializer, *names: str) -> nn.initializers.Initializer:
    return nn.with_logical_partitioning(initializer, names)


def _constrain(x: jax.Array, *names: str) -> jax.Array:
    return nn.with_logical_constraint(x, names)


class Norm(nn.Module):
    """RMSNorm, or LayerNorm without bias, over the last axis; computed in float32.

    `heads`: the name of the axis before the last, where each of its entries has a scale of its own.
    """

    config: DecoderConfig
    heads: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        initializer = nn.initializers.zeros if c.norm_offset else nn.initializers.ones
        names = ("norm",) if self.heads is None else (self.heads, "norm")
        shape = x.shape[-len(names) :]
        scale = self.param("scale", _parameter(initializer, *names), shape, jnp.dtype(c.param_dtype))
        scale = scale.astype(jnp.float32) + (1.0 if c.norm_offset else 0.0)
        x = x.astype(jnp.float32)
        if c.norm == "layer":
            x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + c.norm_eps)
        return (x * scale).astype(c.dtype)


def _dense(config: DecoderConfig, features: int, axes: tuple[str, str], bias: bool, name: str) -> Projection:
    return Projection(
        features,
        axes=axes,
        lora=config.lora,
        use_bias=bias,
        dtype=jnp.dtype(config.dtype),
        param_dtype=jnp.dtype(config.param_dtype),
        kernel_init=_parameter(nn.initializers.normal(config.initializer_range), *axes),
        bias_init=_parameter(nn.initializers.zeros, axes[1]),
        dot_general=functools.partial(dot_general, axes=axes),
        name=name,
    )


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array, style: str) -> jax.Array:
    """Rotary positions: x [R, T, heads, H]; cos, sin f32[R, T, 1, H / 2]. Returns x's dtype."""
    wide = x.astype(jnp.float32)
    if style == "half":
        a, b = jnp.split(wide, 2, axis=-1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
    a, b = wide[..., 0::2], wide[..., 1::2]
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape).astype(x.dtype)


class Attention(nn.Module):
    """Grouped-query self attention: x [R, T, D] -> [R, T, D], and the keys and values [R, T, K, H] of it."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: Any, cos: jax.Array, sin: jax.Array, cached: KeysValues | None = None
    ) -> tuple[jax.Array, KeysValues]:
        c = self.config

        def heads(name: str, count: int, axis: str) -> jax.Array:
            y = _dense(c, count * c.head_dim, ("embed", axis), c.qkv_bias, name)(x)
            y = checkpoint_name(y, "projection").reshape(*x.shape[:2], count, c.head_dim)
            return _constrain(y, "rows", "length", f"activation_{axis}", "head_dim")

        query, key = heads("query", c.heads, "heads"), heads("key", c.kv_heads, "kv_heads")
        value = heads("value", c.kv_heads, "kv_heads")
        if c.qk_norm:
            axes = ("heads", "kv_heads") if c.qk_norm_per_head else (None, None)
            query = Norm(c, axes[0], name="query_norm")(query)
            key = Norm(c, axes[1], name="key_norm")(key)
        # The scale rides on the query's rotation: no pass of its own over the queries or the logits.
        scale = c.head_dim**-0.5 if c.query_scale is None else c.query_scale
        query = rotate(query, cos * scale, sin * scale, c.rope_style)
        key = rotate(key, cos, sin, c.rope_style)
        out = attend(query, key, value, mask, cap=c.attention_cap, backend=c.attention, cached=cached)
        out = out.reshape(*x.shape[:2], c.heads * c.head_dim)
        out = _dense(c, c.hidden, ("heads", "embed"), c.out_bias, "out")(out)
        return checkpoint_name(out, "projection"), (key, value)


class Mlp(nn.Module):
    """Gated feed forward: down(activation(gate(x)) * up(x))."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        gate = checkpoint_name(_dense(c, c.mlp, ("embed", "mlp"), c.mlp_bias, "gate")(x), "projection")
        up = checkpoint_name(_dense(c, c.mlp, ("embed", "mlp"), c.mlp_bias, "up")(x), "projection")
        hidden = _constrain(ACTIVATIONS[c.activation](gate) * up, "rows", "length", "activation_mlp")
        down = _dense(c, c.hidden, ("mlp", "embed"), c.mlp_bias, "down")(hidden)
        return checkpoint_name(down, "projection")


class Block(nn.Module):
    """One layer. `tables` = (mask, cos, sin), each with a leading axis over `config.kinds`: `kind` picks.

    `cached`: keys and values [R, K, S, H] from before. `keep`: return those of x too, None otherwise. `places`: i32[N]
    in the flattened rows, whose states [N, D] after this layer are returned too; None for none.
    """

    config: DecoderConfig
    keep: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        kind: jax.Array,
        tables: tuple[Any, jax.Array, jax.Array],
        cached: KeysValues | None = None,
        places: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[KeysValues | None, jax.Array | None]]:
        c = self.config
        mixed = len(c.kinds) > 1
        mask, cos, sin = jax.tree.map(
            lambda t: jax.lax.dynamic_index_in_dim(t, kind, keepdims=False) if mixed else t[0], tables
        )

        def norm(y: jax.Array, name: str, present: bool) -> jax.Array:
            return Norm(c, name=name)(y) if present else y

        y = norm(x, "attention_norm", c.pre_norm)
        attended, new = Attention(c, name="attention")(y, mask, cos, sin, cached)
        attended = norm(attended, "attention_post_norm", c.post_norm)
        if c.parallel_block:
            x = x + attended + norm(Mlp(c, name="mlp")(y), "mlp_post_norm", c.post_norm)
        else:
            x = _constrain(x + attended, "rows", "length", "activation_embed")
            y = Mlp(c, name="mlp")(norm(x, "mlp_norm", c.pre_norm))
            x = x + norm(y, "mlp_post_norm", c.post_norm)
        x = _constrain(x, "rows", "length", "activation_embed")
        return x, (new if self.keep else None, None if places is None else x.reshape(-1, c.hidden)[places])


class Embedding(nn.Module):
    """A table [V, D]. As the input embedding it is looked up; as the head it only holds its weight."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, tokens: jax.Array | None = None) -> jax.Array:
        c = self.config
        initializer = _parameter(nn.initializers.normal(c.initializer_range), "vocab", "embed")
        weight = self.param("weight", initializer, (c.vocab_size, c.hidden), jnp.dtype(c.param_dtype))
        return weight if tokens is None else jnp.take(weight, tokens, axis=0, mode="clip")


class Decoder(nn.Module):
    """tokens -> hidden states after the final norm. The caller applies the head (`logits`) where needed.

    `keep`: return the keys and values of these tokens too, for a cache.
    """

    config: DecoderConfig
    keep: bool = False

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        tree: jax.Array,
        branch: jax.Array,
        places: jax.Array | None = None,
        cache: Cache | None = None,
        blocks: QueryBlocks | None = None,
    ) -> jax.Array | tuple[jax.Array, Any]:
        """tokens, positions, tree, branch: i32[R, T] (`data/packing/rows.py`) -> [R, T, D] in `config.dtype`.

        `places`: i32[N] in the flattened rows [R * T]; with them also [layers, N, D]: the states there, layer by layer.
        `cache`: what stands in the rows before these tokens. With `keep` also their own keys and values.
        """
        c = self.config
        problem = Problem(*tokens.shape, c.heads, c.kv_heads, c.head_dim, c.dtype, c.attention_cap)
        c = dataclasses.replace(c, attention="xla" if cache else choose_backend(c.attention, problem))
        # Looked up where a part of the width lies, then re-laid to whole rows: one step at a time, or the compiler
        # falls back on a copy of everything on every device (data and fsdp both above 1).
        x = _constrain(Embedding(c, name="embedding")(tokens), "lookup_rows", "length", "embed")
        if c.embedding_scale is not None:  # rounded to the parameters' type, as the families' own code does
            x = x * jnp.asarray(c.embedding_scale, c.param_dtype)
        x = x.astype(c.dtype)
        x = _constrain(x, "rows", "length", "activation_embed")

        block, length = Block, c.layers
        unroll = 1 if c.scan_layers else length
        if c.remat != "none":
            keep = {"full": None, "dots": jax.checkpoint_policies.save_only_these_names("projection")}
            # Inside a loop nothing can be merged with the forward pass; inlined layers could be.
            block = nn.remat(Block, prevent_cse=unroll >= length, policy=keep[c.remat])
        stack = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, 0, nn.broadcast),
            length=length,
            unroll=min(unroll, length),
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        flags = np.array([c.kinds.index(s) for s in c.sliding or (False,) * length], np.int32)
        tables = layer_tables(c, positions, tree, branch, cache, blocks)
        cached = (cache.key, cache.value) if cache else None
        x, (new, states) = stack(c, self.keep, name="layers")(x, flags, tables, cached, places)
        if not c.tied:
            Embedding(c, name="head")()
        x = Norm(c, name="final_norm")(x)
        if self.keep:
            return x, new
        return x if places is None else (x, states)


def layer_tables(
    config: DecoderConfig,
    positions: jax.Array,
    tree: jax.Array,
    branch: jax.Array,
    cache: Cache | None = None,
    blocks: QueryBlocks | None = None,
) -> tuple[Any, jax.Array, jax.Array]:
    """What layers need beside x, made once: the mask as `config.attention` takes it, every array of it
    [kinds, R, ...]; cos, sin f32[kinds, R, T, 1, H / 2]."""
    masks, angles = [], []
    for sliding in config.kinds:
        window = config.window if sliding else None
        if blocks is not None:
            masks.append(block_tables(positions, blocks, window))
        else:
            mask = tree_mask(positions, tree, branch, window)
            if cache:
                before = cached_mask(positions, tree, branch, cache.columns, window)
                mask = jnp.concatenate([before, mask], axis=-1)
            masks.append(BACKENDS[config.attention].prepare(_constrain(mask, "rows", "length", "keys")))
        rope = (config.sliding_rope or config.rope) if sliding else config.rope
        angles.append(positions[:, :, None, None].astype(jnp.float32) * rope.frequencies(config.head_dim))
    angle = jnp.stack(angles)
    return jax.tree.map(lambda *kinds: jnp.stack(kinds), *masks), jnp.cos(angle), jnp.sin(angle)


def head_weight(params: Mapping[str, Any], config: DecoderConfig) -> jax.Array:
    """The head [V, D]: the embedding where the two are tied."""
    return params["embedding" if config.tied else "head"]["weight"]


def finish_logits(logits: jax.Array, config: DecoderConfig) -> jax.Array:
    """The family's logit scale and final soft cap, on raw f32[..., V] products of hidden state and head."""
    if config.logit_scale is not None:
        logits = logits * config.logit_scale
    return soft_cap(logits, config.final_cap)


def logits(params: Mapping[str, Any], config: DecoderConfig, hidden: jax.Array) -> jax.Array:
    """hidden [..., D] -> f32[..., V]. Makes them all: `scoring/logps.py` has the chunked form for training."""
    return head_logits(head_weight(params, config).astype(hidden.dtype), config, hidden)


def head_logits(weight: jax.Array, config: DecoderConfig, hidden: jax.Array) -> jax.Array:
    """hidden [..., D] and the head's weight [V, D] of the same type -> f32[..., V]."""
    raw = jax.lax.dot_general(
        hidden, weight, (((hidden.ndim - 1,), (1,)), ((), ())), preferred_element_type=jnp.float32
    )
    return finish_logits(raw, config)


def boxed_params(config: DecoderConfig, key: jax.Array) -> Params:
    """Random parameters in flax boxes that carry the logical axis names."""
    empty = jnp.zeros((1, 1), jnp.int32)
    config = dataclasses.replace(config, attention="xla")  # the one that takes a single token, on any mesh
    return Decoder(config).init(key, empty, empty, empty + 1, empty)["params"]


def init_params(config: DecoderConfig, key: jax.Array) -> Params:
    """Random parameters as a plain nested dict; jit it with out_shardings to make them where they belong."""
    return nn.unbox(boxed_params(config, key))


@functools.lru_cache(maxsize=32)
def _abstract_boxed(config: DecoderConfig) -> Params:
    return jax.eval_shape(functools.partial(boxed_params, config), jax.random.key(0))


def abstract_params(config: DecoderConfig) -> Params:
    """The tree of `init_params` as `jax.ShapeDtypeStruct`s; nothing is computed."""
    return nn.unbox(_abstract_boxed(config))


def logical_axes(config: DecoderConfig) -> Params:
    """The same tree with a `PartitionSpec` of logical names a parameter: ("layers", "embed", "mlp"), ...

    Names: vocab, embed, heads, kv_heads, mlp, norm, rank, layers. `nn.logical_to_mesh_sharding` takes this tree.
    Activations use: rows, length, keys, activation_embed, activation_heads, activation_kv_heads,
    activation_mlp, head_dim.
    """
    return nn.get_partition_spec(_abstract_boxed(config))
