"""What a family declares, and the parts of config.json that families share."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from consistency_jax.errors import UserError
from consistency_jax.models.decoder import DecoderConfig, Rope

HfConfig = Mapping[str, Any]


class ConfigError(UserError):
    """A config.json that cannot be run as it says."""


@dataclasses.dataclass(frozen=True)
class Weight:
    """Where one of our parameters lies in a Hugging Face checkpoint.

    `name` holds "{layer}" for a parameter with a leading [layers] axis: one tensor a layer. `transpose`
    swaps the two axes of each tensor (torch stores a projection as [out, in], we as [in, out]).
    """

    name: str
    transpose: bool = False


@dataclasses.dataclass(frozen=True)
class Family:
    """The rules of a family.

    `from_hf`: config.json -> DecoderConfig.
    `names`: our parameter path, as "layers/mlp/up/kernel", -> Weight.
    `to_hf`: a config.json for a model without a source folder (a sourced model's is copied, never written).
    `aliases`: tensors that may be stored beside the one they repeat (a tied head), name -> repeated name.
    """

    from_hf: Callable[[HfConfig], DecoderConfig]
    names: Callable[[DecoderConfig], dict[str, Weight]]
    to_hf: Callable[[DecoderConfig], dict[str, Any]]
    aliases: Callable[[DecoderConfig], dict[str, str]] = lambda config: {}


def required(hf: HfConfig, key: str) -> Any:
    """hf[key], or a ConfigError that names the key."""
    if hf.get(key) is None:
        raise ConfigError(f"config.json has no {key!r}")
    return hf[key]


def read_activation(hf: HfConfig, key: str = "hidden_act") -> str:
    """Our name of the config's activation."""
    known = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
    name = hf.get(key, "silu")
    if name not in known:
        raise ConfigError(f"config.json: {key} = {name!r} is not supported; supported: {', '.join(known)}")
    return known[name]


def read_rope(hf: HfConfig, parameters: HfConfig | None = None, theta_key: str = "rope_theta") -> Rope:
    """Rotary settings of transformers 4 (`rope_theta`, `rope_scaling`) or 5 (all in `rope_parameters`).

    Args:
      parameters: the settings of one kind of layer, where config.json holds several kinds.
      theta_key: where transformers 4 keeps the base.
    """
    settings = parameters if parameters is not None else hf.get("rope_parameters")
    settings = dict(settings if settings is not None else hf.get("rope_scaling") or {})
    theta = settings.get("rope_theta", hf.get(theta_key, 10_000.0))
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
