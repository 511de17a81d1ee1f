"""What a family declares, and what families share: the keys of config.json and the names of tensors.

Two generations of config.json are read alike. transformers 4 writes `rope_theta`, `rope_scaling` and a sliding
pattern, 5 writes `rope_parameters` and `layer_types`; where both are given, the winner is transformers 5's.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import DecoderConfig, Rope

HfConfig = Mapping[str, Any]

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
LAYER_TYPES = {"full_attention": False, "sliding_attention": True}


@dataclasses.dataclass(frozen=True)
class Weight:
    """Where one of our parameters lies in a Hugging Face checkpoint.

    `name` holds "{layer}" for a parameter with a leading [layers] axis: one tensor a layer. It begins with "model."
    or is the head's, "lm_head.weight"; a folder may have other beginnings (`PREFIXES` of `huggingface.py`).
    `transpose` swaps the two axes of each tensor (torch stores a projection as [out, in], we as [in, out]).
    """

    name: str
    transpose: bool = False


def tensor_names(config: DecoderConfig) -> dict[str, Weight]:
    """Our parameter path -> its tensors, for the names that all families so far agree on.

    Only one name means two things: `post_attention_layernorm` is the norm before the mlp, unless the block also
    norms what it adds (`post_norm`); then it is what it says, and the norm before the mlp has a name of its own.
    """
    mapping = {
        "embedding/weight": Weight("model.embed_tokens.weight"),
        "final_norm/scale": Weight("model.norm.weight"),
    }
    if not config.tied:
        mapping["head/weight"] = Weight("lm_head.weight")
    norms = {"attention_norm": "input_layernorm"}
    if config.post_norm:
        norms |= {
            "attention_post_norm": "post_attention_layernorm",
            "mlp_norm": "pre_feedforward_layernorm",
            "mlp_post_norm": "post_feedforward_layernorm",
        }
    elif not config.parallel_block:
        norms["mlp_norm"] = "post_attention_layernorm"
    if config.qk_norm:
        norms |= {"attention/query_norm": "self_attn.q_norm", "attention/key_norm": "self_attn.k_norm"}
    projections = {
        "attention/query": ("self_attn.q_proj", config.qkv_bias),
        "attention/key": ("self_attn.k_proj", config.qkv_bias),
        "attention/value": ("self_attn.v_proj", config.qkv_bias),
        "attention/out": ("self_attn.o_proj", config.out_bias),
        "mlp/gate": ("mlp.gate_proj", config.mlp_bias),
        "mlp/up": ("mlp.up_proj", config.mlp_bias),
        "mlp/down": ("mlp.down_proj", config.mlp_bias),
    }
    layer = "model.layers.{layer}."
    for ours, theirs in norms.items():
        mapping[f"layers/{ours}/scale"] = Weight(f"{layer}{theirs}.weight")
    for ours, (theirs, bias) in projections.items():
        mapping[f"layers/{ours}/kernel"] = Weight(f"{layer}{theirs}.weight", transpose=True)
        if bias:
            mapping[f"layers/{ours}/bias"] = Weight(f"{layer}{theirs}.bias")
    return mapping


def tied_head(config: DecoderConfig) -> dict[str, str]:
    """Some writers store the tied head beside the embedding."""
    return {"lm_head.weight": "model.embed_tokens.weight"} if config.tied else {}


@dataclasses.dataclass(frozen=True)
class Family:
    """The rules of a family.

    `from_hf`: config.json -> DecoderConfig.
    `to_hf`: a config.json for a model without a source folder (a sourced model's is copied, never written).
    `names`: our parameter path, as "layers/mlp/up/kernel", -> Weight.
    `aliases`: tensors that may be stored beside the one they repeat (a tied head), name -> repeated name.
    `other_parts`: regular expression of tensors that belong to no text model (a vision tower). They are left
      alone on import and copied from the source folder on export.
    `text_modules`: where transformers keeps the modules whose tensors `names` calls "model.".
    """

    from_hf: Callable[[HfConfig], DecoderConfig]
    to_hf: Callable[[DecoderConfig], dict[str, Any]]
    names: Callable[[DecoderConfig], dict[str, Weight]] = tensor_names
    aliases: Callable[[DecoderConfig], dict[str, str]] = tied_head
    other_parts: str | None = None
    text_modules: str = "model."


# ---------------------------------------------------------------------------------------------------- reading


def required(hf: HfConfig, key: str) -> Any:
    """hf[key], or a ConfigError that names the key."""
    if hf.get(key) is None:
        raise ConfigError(f"config.json has no {key!r}")
    return hf[key]


def read_common(
    hf: HfConfig, eps: str = "rms_norm_eps", activation: str = "hidden_act", rope: bool = True
) -> dict[str, Any]:
    """The fields of `DecoderConfig` that every family's config.json tells in the same way.

    Args:
      hf: the file, laid over the family's defaults.
      eps, activation: the two keys that go by several names.
      rope: read the rotary settings too; False where a family has several of them.
    """
    hidden, heads = required(hf, "hidden_size"), required(hf, "num_attention_heads")
    if required(hf, activation) not in ACTIVATIONS:
        raise ConfigError(
            f"config.json: {activation} = {hf[activation]!r} is not supported; supported: {', '.join(ACTIVATIONS)}"
        )
    bias = bool(hf.get("attention_bias", False))
    common = {
        "vocab_size": required(hf, "vocab_size"),
        "hidden": hidden,
        "layers": required(hf, "num_hidden_layers"),
        "heads": heads,
        "kv_heads": hf.get("num_key_value_heads") or heads,
        "head_dim": hf.get("head_dim") or hidden // heads,
        "mlp": required(hf, "intermediate_size"),
        "norm_eps": required(hf, eps),
        "qkv_bias": bias,
        "out_bias": bias,
        "activation": ACTIVATIONS[hf[activation]],
        "tied": bool(hf.get("tie_word_embeddings")),
        "max_length": required(hf, "max_position_embeddings"),
        "initializer_range": hf.get("initializer_range", 0.02),
    }
    return common | ({"rope": read_rope(hf)} if rope else {})


def read_rope(hf: HfConfig, settings: HfConfig | None = None) -> Rope:
    """Rotary settings of transformers 4 (`rope_theta`, `rope_scaling`) or 5 (all in `rope_parameters`).

    Args:
      settings: those of one kind of layer, where config.json holds several kinds.
    """
    if settings is None:
        settings = hf.get("rope_scaling") or hf.get("rope_parameters") or {}
    if any(isinstance(value, Mapping) for value in settings.values()):
        raise ConfigError(
            "config.json: rope_parameters by layer type are not supported for this architecture"
        )
    theta = settings.get("rope_theta", hf.get("rope_theta", 10_000.0))
    kind = settings.get("rope_type", settings.get("type", "default"))
    if settings.get("partial_rotary_factor", hf.get("partial_rotary_factor", 1.0)) not in (None, 1.0):
        raise ConfigError("config.json: partial_rotary_factor other than 1 is not supported")
    try:
        if kind == "default":
            return Rope(theta=float(theta))
        if kind == "linear":
            return Rope(theta=float(theta), scaling="linear", factor=float(settings["factor"]))
        if kind == "llama3":
            return Rope(
                theta=float(theta),
                scaling="llama3",
                factor=float(settings["factor"]),
                low_frequency_factor=float(settings["low_freq_factor"]),
                high_frequency_factor=float(settings["high_freq_factor"]),
                original_length=int(settings["original_max_position_embeddings"]),
            )
    except KeyError as missing:
        raise ConfigError(f"config.json: rope settings of type {kind!r} lack {missing}") from None
    raise ConfigError(f"config.json: rope type {kind!r} is not supported; supported: default, linear, llama3")


def every_nth_global(hf: HfConfig, pattern: int) -> tuple[bool, ...]:
    """One flag a layer, sliding or not, of a model whose every `pattern`-th layer is global."""
    if pattern < 1:
        raise ConfigError(f"config.json: sliding_window_pattern = {pattern}; must be at least 1")
    return tuple((i + 1) % pattern != 0 for i in range(required(hf, "num_hidden_layers")))


def read_sliding(hf: HfConfig, otherwise: Callable[[], tuple[bool, ...]]) -> tuple[bool, ...]:
    """One flag a layer, sliding or not: from `layer_types`, or where older files have none, `otherwise`."""
    kinds = hf.get("layer_types")
    if kinds is None:
        return otherwise()
    unknown = sorted(set(kinds) - set(LAYER_TYPES))
    if unknown:
        raise ConfigError(
            f"config.json: layer_types {unknown} are not supported; supported: {', '.join(LAYER_TYPES)}"
        )
    return tuple(LAYER_TYPES[kind] for kind in kinds)


def canonical(config: DecoderConfig) -> DecoderConfig:
    """The same model, each trait said in one way: so that `differences` sees only what is different."""
    if not any(config.sliding):
        config = dataclasses.replace(config, sliding=(), window=None, sliding_rope=None)
    return dataclasses.replace(
        config,
        sliding_rope=None if config.sliding_rope == config.rope else config.sliding_rope,
        query_scale=config.head_dim**-0.5 if config.query_scale is None else config.query_scale,
    )


# ---------------------------------------------------------------------------------------------------- writing


def write_common(
    config: DecoderConfig, eps: str = "rms_norm_eps", activation: str = "hidden_act"
) -> dict[str, Any]:
    """The inverse of `read_common`, but for the rotary settings."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        activation: {ours: theirs for theirs, ours in ACTIVATIONS.items() if theirs != "swish"}[
            config.activation
        ],
        "max_position_embeddings": config.max_length,
        "initializer_range": config.initializer_range,
        eps: config.norm_eps,
        "attention_bias": config.qkv_bias,
        "tie_word_embeddings": config.tied,
        "use_cache": True,
    }


def write_sliding(config: DecoderConfig) -> dict[str, Any]:
    """`layer_types` and the window; transformers asks for a window where no layer slides, too."""
    kinds = {flag: kind for kind, flag in LAYER_TYPES.items()}
    return {
        "sliding_window": config.window or 4096,
        "layer_types": [kinds[flag] for flag in config.sliding or (False,) * config.layers],
    }


def write_rope(rope: Rope) -> dict[str, Any]:
    """The inverse of `read_rope`, as transformers 5's `rope_parameters`."""
    if rope.theta is None:
        raise ConfigError("rope with theta None (no rotation) has no form in rope_parameters")
    written: dict[str, Any] = {"rope_type": "default", "rope_theta": rope.theta}
    if rope.scaling != "none":
        written |= {"rope_type": rope.scaling, "factor": rope.factor}
    if rope.scaling == "llama3":
        written |= {
            "low_freq_factor": rope.low_frequency_factor,
            "high_freq_factor": rope.high_frequency_factor,
            "original_max_position_embeddings": rope.original_length,
        }
    return written


def checked(
    config: DecoderConfig, written: dict[str, Any], from_hf: Callable[[HfConfig], DecoderConfig]
) -> dict[str, Any]:
    """`written`, or a ConfigError naming the traits that it does not say."""
    differing = canonical(config).differences(canonical(from_hf(written)))
    if differing:
        architecture = written["architectures"][0]
        raise ConfigError(f"{', '.join(differing)} cannot be said in {architecture}'s config.json")
    return written
