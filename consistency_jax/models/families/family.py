"""What a family declares, and what families share: the keys of config.json and the names of tensors.

Two generations of config.json are read alike. transformers 4 writes `rope_theta`, `rope_scaling` and a sliding
pattern, 5 writes `rope_parameters` and `layer_types`; where both are given, the winner is transformers 5's. Every key
is accounted for (`keys.py`).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import DecoderConfig, LayerType
from consistency_jax.models.families.keys import HfConfig, Keys
from consistency_jax.models.rotary import Rope

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh", "xielu": "xielu"}
FULL, SLIDING = "full_attention", "sliding_attention"
LAYER = "model.layers.{layer}."
# Kind of rotary scaling -> keys of rope_parameters -> fields of `Rope`.
_LENGTH = {"original_max_position_embeddings": "original_length"}
_BOUNDS = {"low_freq_factor": "low_frequency_factor", "high_freq_factor": "high_frequency_factor"}
ROPE_KEYS: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "linear": {"factor": "factor"},
    "llama3": {"factor": "factor", **_BOUNDS, **_LENGTH},
    "yarn": {"factor": "factor", "beta_fast": "beta_fast", "beta_slow": "beta_slow", **_LENGTH},
}


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
    """Our parameter path -> its tensors, for the names that nearly all families agree on.

    Only one name means two things: `post_attention_layernorm` is the norm before the mlp, unless the block norms what
    it adds; then it is what it says, and the norm before the mlp has a name of its own.
    """
    mapping = {
        "embedding/weight": Weight("model.embed_tokens.weight"),
        "final_norm/scale": Weight("model.norm.weight"),
    }
    if not config.tied:
        mapping["head/weight"] = Weight("lm_head.weight")
    norms = {}
    if config.norm_sites != "behind":
        both = config.norm_sites == "both"
        norms = {"attention_norm": "input_layernorm"}
        if not config.parallel_block:
            norms["mlp_norm"] = "pre_feedforward_layernorm" if both else "post_attention_layernorm"
    if config.norm_sites != "before":
        norms |= {
            "attention_post_norm": "post_attention_layernorm",
            "mlp_post_norm": "post_feedforward_layernorm",
        }
    if config.qk_norm != "none":
        norms |= {"attention/query_norm": "self_attn.q_norm", "attention/key_norm": "self_attn.k_norm"}
    projections = {
        "attention/query": ("self_attn.q_proj", config.qkv_bias),
        "attention/key": ("self_attn.k_proj", config.qkv_bias),
        "attention/value": ("self_attn.v_proj", config.qkv_bias),
        "attention/out": ("self_attn.o_proj", config.out_bias),
        "mlp/up": ("mlp.up_proj", config.mlp_bias),
        "mlp/down": ("mlp.down_proj", config.mlp_bias),
    } | ({"mlp/gate": ("mlp.gate_proj", config.mlp_bias)} if config.gated else {})
    for ours, theirs in norms.items():
        mapping[f"layers/{ours}/scale"] = Weight(f"{LAYER}{theirs}.weight")
    for ours, (theirs, bias) in projections.items():
        mapping[f"layers/{ours}/kernel"] = Weight(f"{LAYER}{theirs}.weight", transpose=True)
        if bias:
            mapping[f"layers/{ours}/bias"] = Weight(f"{LAYER}{theirs}.bias")
    if config.activation == "xielu":
        for name in ("alpha_p", "alpha_n"):
            mapping[f"layers/mlp/activation/{name}"] = Weight(f"{LAYER}mlp.act_fn.{name}")
    return mapping


def constants(config: DecoderConfig) -> dict[str, float]:
    """Tensors that checkpoints hold and nobody trains -> the only value that is run here."""
    xielu = {f"{LAYER}mlp.act_fn.beta": 0.5, f"{LAYER}mlp.act_fn.eps": -1e-6}
    return xielu if config.activation == "xielu" else {}


def tied_head(config: DecoderConfig) -> dict[str, str]:
    """Tensor that may be stored beside the one it repeats -> that one: some writers store the tied head."""
    return {"lm_head.weight": "model.embed_tokens.weight"} if config.tied else {}


@dataclasses.dataclass(frozen=True)
class Family:
    """The rules of a family.

    `architecture`, `model_type`: what a config.json written here says. (A sourced model's is copied, never written.)
    `defaults`: the keys of config.json that may be left out, with transformers' defaults.
    `read`: config.json -> the fields of `DecoderConfig` beside those that all families tell alike. Reads every key,
      whether it decides or not. Without "layer_types" among them, layers are alike and have no window.
    `write`: the inverse.
    `eps`, `activation`: two keys that go by several names. `attention_bias`: whether the key of that name is one.
    `ignored`: keys that its files may hold beside: with the only value that may stand there, or ... for any.
    `names`: our parameter path, as "layers/mlp/up/kernel", -> Weight.
    `other_parts`: where the text model is a part of a larger one (it is described by `text_config` then), a regular
      expression of the tensors of other parts (a vision tower). They are left alone on import and copied from the
      source folder on export. `beside`: as `ignored`, beside `text_config`.
    `text_modules`: where transformers keeps the modules whose tensors `names` calls "model.".
    """

    architecture: str
    model_type: str
    defaults: HfConfig
    read: Callable[[Keys], dict[str, Any]]
    write: Callable[[DecoderConfig], dict[str, Any]]
    eps: str = "rms_norm_eps"
    activation: str = "hidden_act"
    attention_bias: bool = True
    ignored: HfConfig = dataclasses.field(default_factory=dict)
    names: Callable[[DecoderConfig], dict[str, Weight]] = tensor_names
    other_parts: str | None = None
    beside: HfConfig = dataclasses.field(default_factory=dict)
    text_modules: str = "model."

    def from_hf(self, hf: HfConfig) -> DecoderConfig:
        """The decoder of a parsed config.json; ConfigError where it asks for what is not supported."""
        if self.other_parts is None:
            return self._read_text(hf)
        whole = Keys(hf, {"tie_word_embeddings": self.defaults.get("tie_word_embeddings", False)})
        config = self._read_text(whole.required("text_config"), "config.json's text_config")
        if bool(whole["tie_word_embeddings"]) != config.tied:
            raise ConfigError("config.json: tie_word_embeddings differs between the file and its text_config")
        whole.account(self.beside)
        return config

    def _read_text(self, given: HfConfig, where: str = "config.json") -> DecoderConfig:
        hf = Keys(given, self.defaults, where)
        hidden, heads, activation = map(hf.required, ("hidden_size", "num_attention_heads", self.activation))
        if activation not in ACTIVATIONS:
            raise ConfigError(
                f"{where}: {self.activation} = {activation!r} is not supported; supported: {', '.join(ACTIVATIONS)}"
            )
        bias = self.attention_bias and bool(hf.get("attention_bias", False))
        traits = {
            "vocab_size": hf.required("vocab_size"),
            "hidden": hidden,
            "layers": hf.required("num_hidden_layers"),
            "heads": heads,
            "kv_heads": hf.get("num_key_value_heads") or heads,
            "head_dim": hf.get("head_dim") or hidden // heads,
            "mlp": hf.required("intermediate_size"),
            "norm_eps": hf.required(self.eps),
            "qkv_bias": bias,
            "out_bias": bias,
            "activation": ACTIVATIONS[activation],
            "tied": bool(hf.get("tie_word_embeddings")),
            "max_length": hf.required("max_position_embeddings"),
            "initializer_range": hf.get("initializer_range") or 0.02,
        } | self.read(hf)
        if "layer_types" not in traits:
            traits["layer_types"] = (LayerType(rope=read_rope(hf)),)
        hf.account(self.ignored)
        return DecoderConfig(**traits)

    def to_hf(self, config: DecoderConfig) -> dict[str, Any]:
        """A config.json for a model made here; ConfigError where a trait is not this family's."""
        written = {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden,
            "intermediate_size": config.mlp,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_dim,
            self.activation: next(
                theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation
            ),
            "max_position_embeddings": config.max_length,
            "initializer_range": config.initializer_range,
            self.eps: config.norm_eps,
            **({"attention_bias": config.qkv_bias} if self.attention_bias else {}),
            "tie_word_embeddings": config.tied,
            "use_cache": True,
            **write_rope(config),
            **self.write(config),
        }
        differing = config.differences(self._read_text(written))
        if differing:
            raise ConfigError(f"{', '.join(differing)} cannot be said in {self.architecture}'s config.json")
        return written


# ---------------------------------------------------------------------------------------------------- reading


def read_rope(hf: Keys, settings: HfConfig | None = None) -> Rope:
    """Rotary settings of transformers 4 (`rope_theta`, `rope_scaling`) or 5 (all in `rope_parameters`).

    Args:
      settings: those of one kind of layer, where config.json holds several kinds.
    """
    older, newer = hf.get("rope_scaling"), hf.get("rope_parameters")
    settings = (older or newer or {}) if settings is None else settings
    if any(isinstance(value, Mapping) for value in settings.values()):
        raise ConfigError(
            "config.json: rope_parameters by layer type are not supported for this architecture"
        )
    given = {key: value for key, value in settings.items() if value is not None}
    defaults = {"beta_fast": 32.0, "beta_slow": 1.0}
    if length := hf.get("max_position_embeddings"):
        defaults["original_max_position_embeddings"] = length
    given = Keys(given, defaults, "config.json's rope_parameters")
    kind = given.get("rope_type", given.get("type", "default"))  # the second is the older name; both are read
    if kind not in ROPE_KEYS:
        raise ConfigError(
            f"config.json: rope type {kind!r} is not supported; supported: {', '.join(ROPE_KEYS)}"
        )
    if given.get("partial_rotary_factor", hf.get("partial_rotary_factor", 1.0)) not in (None, 1.0):
        raise ConfigError("config.json: partial_rotary_factor other than 1 is not supported")
    values = {ours: given.required(theirs) for theirs, ours in ROPE_KEYS[kind].items()}
    if kind == "yarn":

        def size(scale: float) -> float:
            return 0.1 * scale * math.log(max(values["factor"], 1.0)) + 1.0

        one, whole = given.get("mscale"), given.get("mscale_all_dim")
        usual = size(one) / size(whole) if one and whole else size(1.0)
        values["attention_factor"] = given.get("attention_factor", usual)
    values["theta"] = given.get("rope_theta", hf.get("rope_theta", 10_000.0))
    given.account({"truncate": True})
    plain = Rope()
    values = {name: type(getattr(plain, name))(value) for name, value in values.items()}
    return Rope(**values, scaling="none" if kind == "default" else kind)


def read_ropes(hf: Keys, local_theta: float) -> tuple[Rope, Rope]:
    """Rotary settings of global and of sliding layers where they differ, from either generation of config.json.

    transformers 4 keeps `rope_theta` and `rope_scaling` for global layers only; 5 keeps settings by kind of layer. As
    there, `rope_scaling` wins, and the base of sliding layers falls back on `local_theta`.
    """
    settings, scaling = hf.get("rope_parameters") or {}, hf.get("rope_scaling") or {}
    if not set(settings) <= {FULL, SLIDING}:
        raise ConfigError(f"config.json: rope_parameters must be given by layer type: {FULL}, {SLIDING}")
    if not all(isinstance(own, Mapping | None) for own in settings.values()):
        raise ConfigError("config.json: rope_parameters of a layer type must be an object")
    local = {"rope_theta": local_theta, **(settings.get(SLIDING) or {})}
    return read_rope(hf, (settings.get(FULL) or {}) | scaling), read_rope(hf, local)


def except_every_nth(interval: int) -> Callable[[int], bool]:
    """Whether layer i is as most are, where every `interval`-th is another."""
    return lambda i: (i + 1) % interval != 0


def read_layers(
    hf: Keys, window: int | None, slides: Callable[[int], bool], ropes: tuple[Rope | None, Rope | None]
) -> tuple[LayerType, ...]:
    """The type of each layer: from `layer_types`, or where older files have none, by whether it `slides`.

    Args:
      window: of the sliding layers.
      ropes: of global and of sliding layers.
    """
    layers, kinds = hf.required("num_hidden_layers"), hf.get("layer_types")
    if kinds is None:
        kinds = [SLIDING if slides(i) else FULL for i in range(layers)]
    unknown = sorted(set(kinds) - {FULL, SLIDING})
    if unknown:
        raise ConfigError(
            f"config.json: layer_types {unknown} are not supported; supported: {FULL}, {SLIDING}"
        )
    if len(kinds) != layers:
        raise ConfigError(f"config.json: layer_types names {len(kinds)} layers, the model has {layers}")
    if SLIDING in kinds and not window:
        raise ConfigError(f"config.json: layers of {SLIDING} need a sliding_window")
    types = {FULL: LayerType(None, ropes[0]), SLIDING: LayerType(window or None, ropes[1])}
    return tuple(types[kind] for kind in kinds)


# ---------------------------------------------------------------------------------------------------- writing


def write_layers(config: DecoderConfig) -> dict[str, Any]:
    """`layer_types` and the window; transformers asks for a window where no layer slides, too."""
    return {
        "sliding_window": next(filter(None, config.windows), 4096),
        "layer_types": [SLIDING if layer.window else FULL for layer in config.each_layer],
    }


def write_rope(config: DecoderConfig) -> dict[str, Any]:
    """The inverse of `read_rope` for one rope, as transformers 5 writes it, with its base as 4 does too."""
    rope = next(filter(None, config.ropes), Rope())
    return {"rope_parameters": rope_parameters(rope), "rope_theta": rope.theta}


def write_ropes(config: DecoderConfig) -> dict[str, Any]:
    """The inverse of `read_ropes`, as transformers 5 writes it; a kind that no layer is of gets the other's."""
    found = {SLIDING if layer.window else FULL: layer.rope for layer in reversed(config.layer_types)}
    full, local = (found.get(kind) or config.ropes[0] or Rope() for kind in (FULL, SLIDING))
    both = {FULL: rope_parameters(full), SLIDING: rope_parameters(local)}
    return {"rope_parameters": both, "rope_theta": full.theta}


def rope_parameters(rope: Rope) -> dict[str, Any]:
    """transformers 5's settings of one rope."""
    kind = "default" if rope.scaling == "none" else rope.scaling
    factor = {"attention_factor": rope.attention_factor} if kind == "yarn" else {}
    values = {theirs: getattr(rope, ours) for theirs, ours in ROPE_KEYS[kind].items()}
    return {"rope_type": kind, "rope_theta": rope.theta, **values, **factor}
