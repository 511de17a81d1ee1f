"""The one decoder-only transformer: every supported family is a `DecoderConfig` of it.

A block, in one breath: norm, attend, add, norm, feed forward, add (or, in parallel, norm once and add both).
Layers are stacked: every parameter of a layer has a leading axis [layers], run by `nn.scan`.

Letters: R rows, T tokens, N query heads, K kv heads, H head dim, D model, F feed forward, V vocabulary.
Parameters (a plain nested dict, kernels are [in, out]):

    embedding/weight [V, D]      head/weight [V, D] (untied only)      final_norm/scale [D]
    layers/attention_norm/scale [L, D]            layers/mlp_norm/scale [L, D] (not in a parallel block)
    layers/attention/{query,key,value,out}/{kernel,bias}
    layers/attention/{query,key}_norm/scale [L, H], or [L, N, H] and [L, K, H], or [L, N * H] and [L, K * H] (`qk_norm`)
    layers/mlp/{gate,up,down}/{kernel,bias}       layers/{attention,mlp}_post_norm/scale [L, D]
    layers/mlp/activation/{alpha_p,alpha_n} [L, 1] (xielu only)
    {lora_a,lora_b} beside a kernel that has an adapter (`lora.py`)
    {codes,scales} in the place of a kernel that is quantised (`quantised.py`)
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
from consistency_jax.models.activations import ACTIVATIONS, XIelu
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
from consistency_jax.models.lora import PROJECTIONS, LoraConfig, Projection
from consistency_jax.models.projection import dot_general, head_product, looked_up
from consistency_jax.models.quantised import BASES, block_of
from consistency_jax.models.rotary import Rope, rotate, rotations

Params = dict[str, Any]

# What a layer keeps for the backward pass; the rest is computed again. From the most memory to the least.
KEPT = {"none": None, "dots": ("projection", "wide"), "wide": ("projection",), "full": ()}
REMATS = tuple(KEPT)


@dataclasses.dataclass(frozen=True)
class LayerType:
    """In what layers of one model differ: `window` in positions (None: no limit) and `rope` (None: no positions)."""

    window: int | None = None
    rope: Rope | None = Rope()

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError(f"a window of {self.window} positions; it must be at least 1, or None")


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
    norm_sites: str = "before"  # attention and the mlp, "behind" them (norm of what they add), or "both"
    # Norm of queries and keys before the rotation. "head": of each head, one scale for all; "own_scales": of each head,
    # each with a scale of its own; "width": of all heads together.
    qk_norm: str = "none"
    # attention
    qkv_bias: bool = False
    out_bias: bool = False
    query_scale: float | None = None  # None: head_dim ** -0.5
    attention_cap: float | None = None
    rope_style: str = "half"  # pairs (i, i + H/2): "half"; pairs (2i, 2i + 1): "interleaved"
    layer_types: tuple[LayerType, ...] = (LayerType(),)  # one a layer; a single one is every layer's
    # feed forward, block, ends
    activation: str = "silu"
    gated: bool = True  # the mlp has a gate
    mlp_bias: bool = False
    parallel_block: bool = False
    embedding_scale: float | None = None
    tied: bool = True
    logit_scale: float | None = None
    final_cap: float | None = None
    max_length: int = 2048  # what the checkpoint was made for; nothing is cut here
    initializer_range: float = 0.02
    lora: LoraConfig | None = None  # adapters beside the kernels of projections
    base: str = "none"  # how those kernels are stored: as parameters, or quantised: int8 | nf4
    # how it runs; none of these changes what the model is
    dtype: str = "float32"  # of activations and matmul inputs
    param_dtype: str = "float32"
    remat: str = "none"  # none | dots (keep what projections give) | wide (but gate and up) | full
    scan_layers: bool = True  # False: every layer inlined (parameters stay stacked)
    attention: str = "auto"  # auto | xla | splash | cudnn

    def __post_init__(self) -> None:
        known = {
            "norm": ("rms", "layer"),
            "norm_sites": ("before", "behind", "both"),
            "qk_norm": ("none", "head", "own_scales", "width"),
            "rope_style": ("half", "interleaved"),
            "activation": (*ACTIVATIONS, "xielu"),
            "base": BASES,
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
        if (
            self.lora
            and not self.gated
            and not any(map(self.lora.finds, set(PROJECTIONS) - {"layers/mlp/gate"}))
        ):
            raise ValueError(
                f"lora.targets={self.lora.targets!r} finds the gate alone, and this model has none"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim = {self.head_dim} is odd; rotary positions need pairs")
        if self.base != "none":
            for inputs in (self.hidden, self.heads * self.head_dim, self.mlp):
                block_of(inputs)
        if len(self.layer_types) not in (1, self.layers):
            raise ValueError(f"layer_types names {len(self.layer_types)} layers, the model has {self.layers}")
        # Each trait is said in one way, so that `differences` sees only what is different.
        if len(set(self.layer_types)) == 1:
            object.__setattr__(self, "layer_types", self.layer_types[:1])
        if self.query_scale == self.head_dim**-0.5:
            object.__setattr__(self, "query_scale", None)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The windows that occur, each once."""
        return tuple(dict.fromkeys(layer.window for layer in self.layer_types))

    @property
    def ropes(self) -> tuple[Rope | None, ...]:
        """The rotary settings that occur, each once."""
        return tuple(dict.fromkeys(layer.rope for layer in self.layer_types))

    @property
    def each_layer(self) -> tuple[LayerType, ...]:
        """The type of each layer, in order."""
        return self.layer_types * (self.layers // len(self.layer_types))

    def differences(self, other: "DecoderConfig") -> list[str]:
        """Names of the fields by which the two are different models (how they run does not count)."""
        run = {"dtype", "param_dtype", "remat", "scan_layers", "attention"}
        fields = (f.name for f in dataclasses.fields(self) if f.name not in run)
        return [name for name in fields if getattr(self, name) != getattr(other, name)]

    @property
    def num_params(self) -> int:
        """Number of parameters, a tied head counted once; those that are quantised as they were."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(self.unquantised)))

    @property
    def unquantised(self) -> "DecoderConfig":
        """The same model with kernels that are parameters."""
        return dataclasses.replace(self, base="none")


def _parameter(initializer: nn.initializers.Initializer, *names: str) -> nn.initializers.Initializer:
    return nn.with_logical_partitioning(initializer, names)


def _constrain(x: jax.Array, *names: str) -> jax.Array:
    return nn.with_logical_constraint(x, names)


class Norm(nn.Module):
    """RMSNorm, or LayerNorm without bias, over the last axis; computed in float32.

    `axes`: logical names of the scale's axes, which are the last ones of x.
    """

    config: DecoderConfig
    axes: tuple[str, ...] = ("norm",)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        initializer = nn.initializers.zeros if c.norm_offset else nn.initializers.ones
        shape = x.shape[-len(self.axes) :]
        scale = self.param("scale", _parameter(initializer, *self.axes), shape, jnp.dtype(c.param_dtype))
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
        base=config.base,
        use_bias=bias,
        dtype=jnp.dtype(config.dtype),
        param_dtype=jnp.dtype(config.param_dtype),
        kernel_init=_parameter(nn.initializers.normal(config.initializer_range), *axes),
        bias_init=_parameter(nn.initializers.zeros, axes[1]),
        dot_general=functools.partial(dot_general, axes=axes),
        name=name,
    )


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
            y = checkpoint_name(y, "projection")
            normed = c.qk_norm if name != "value" else "none"
            if normed == "width":
                y = Norm(c, (axis,), name=f"{name}_norm")(y)
            y = y.reshape(*x.shape[:2], count, c.head_dim)
            y = _constrain(y, "rows", "length", f"activation_{axis}", "head_dim")
            if normed in ("head", "own_scales"):
                y = Norm(c, ("norm",) if normed == "head" else (axis, "norm"), name=f"{name}_norm")(y)
            return y

        query, key = heads("query", c.heads, "heads"), heads("key", c.kv_heads, "kv_heads")
        value = heads("value", c.kv_heads, "kv_heads")
        # The scale rides on the query's rotation: no pass of its own over the queries or the logits.
        scale = c.head_dim**-0.5 if c.query_scale is None else c.query_scale
        query = rotate(query, cos * scale, sin * scale, c.rope_style)
        key = rotate(key, cos, sin, c.rope_style)
        out = attend(query, key, value, mask, cap=c.attention_cap, backend=c.attention, cached=cached)
        out = out.reshape(*x.shape[:2], c.heads * c.head_dim)
        out = _dense(c, c.hidden, ("heads", "embed"), c.out_bias, "out")(out)
        return checkpoint_name(out, "projection"), (key, value)


class Mlp(nn.Module):
    """Feed forward: down(activation(gate(x)) * up(x)), or where it has no gate, down(activation(up(x)))."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config

        def wide(name: str) -> jax.Array:
            return checkpoint_name(_dense(c, c.mlp, ("embed", "mlp"), c.mlp_bias, name)(x), "wide")

        activation = ACTIVATIONS.get(c.activation) or XIelu(c.param_dtype, name="activation")
        hidden = activation(wide("gate")) * wide("up") if c.gated else activation(wide("up"))
        hidden = _constrain(hidden, "rows", "length", "activation_mlp")
        down = _dense(c, c.hidden, ("mlp", "embed"), c.mlp_bias, "down")(hidden)
        return checkpoint_name(down, "projection")


class Block(nn.Module):
    """One layer. `tables` = (masks, (cos, sin)), with leading axes over `config.windows` and over `config.ropes`;
    `picks`: where in them the layer's own stand.

    `cached`: keys and values [R, K, S, H] from before. `keep`: return those of x too, None otherwise. `places`: i32[N]
    in the flattened rows, whose states [N, D] after this layer are returned too; None for none.
    """

    config: DecoderConfig
    keep: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        picks: tuple[jax.Array, jax.Array],
        tables: tuple[Any, tuple[jax.Array, jax.Array]],
        cached: KeysValues | None = None,
        places: jax.Array | None = None,
    ) -> tuple[jax.Array, tuple[KeysValues | None, jax.Array | None]]:
        c = self.config

        def pick(table: Any, place: jax.Array) -> Any:  # which layer this is is known on the device only
            return jax.tree.map(
                lambda t: t[0] if len(t) == 1 else jax.lax.dynamic_index_in_dim(t, place, keepdims=False),
                table,
            )

        mask, (cos, sin) = map(pick, tables, picks)
        before, behind = c.norm_sites != "behind", c.norm_sites != "before"

        def norm(y: jax.Array, name: str, present: bool) -> jax.Array:
            return Norm(c, name=name)(y) if present else y

        y = norm(x, "attention_norm", before)
        attended, new = Attention(c, name="attention")(y, mask, cos, sin, cached)
        attended = norm(attended, "attention_post_norm", behind)
        if c.parallel_block:
            x = x + attended + norm(Mlp(c, name="mlp")(y), "mlp_post_norm", behind)
        else:
            x = _constrain(x + attended, "rows", "length", "activation_embed")
            y = Mlp(c, name="mlp")(norm(x, "mlp_norm", before))
            x = x + norm(y, "mlp_post_norm", behind)
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
        return weight if tokens is None else looked_up(weight, tokens)


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
            keep = jax.checkpoint_policies.save_only_these_names(*KEPT[c.remat])
            # Inside a loop nothing can be merged with the forward pass; inlined layers could be.
            block = nn.remat(Block, prevent_cse=unroll >= length, policy=keep)
        stack = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, 0, nn.broadcast),
            length=length,
            unroll=min(unroll, length),
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        picks = [(c.windows.index(layer.window), c.ropes.index(layer.rope)) for layer in c.each_layer]
        tables = layer_tables(c, positions, tree, branch, cache, blocks)
        cached = (cache.key, cache.value) if cache else None
        x, (new, states) = stack(c, self.keep, name="layers")(
            x, tuple(np.array(picks, np.int32).T), tables, cached, places
        )
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
) -> tuple[Any, tuple[jax.Array, jax.Array]]:
    """What layers need beside x, made once: the masks as `config.attention` takes them, every array [windows, R, ...];
    cos and sin f32[ropes, R, T, 1, H / 2]."""
    masks = []
    for window in config.windows:
        if blocks is not None:
            masks.append(block_tables(positions, blocks, window))
        else:
            mask = tree_mask(positions, tree, branch, window)
            if cache:
                before = cached_mask(positions, tree, branch, cache.columns, window)
                mask = jnp.concatenate([before, mask], axis=-1)
            masks.append(BACKENDS[config.attention].prepare(_constrain(mask, "rows", "length", "keys")))
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *masks)
    return stacked, rotations(config.ropes, positions, config.head_dim)


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
    return finish_logits(head_product(hidden, weight), config)


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
    Activations use: rows, lookup_rows, length, keys, activation_embed, activation_heads, activation_kv_heads,
    activation_mlp, head_dim.
    """
    return nn.get_partition_spec(_abstract_boxed(config))
