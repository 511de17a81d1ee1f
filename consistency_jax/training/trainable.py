"""Which parameters are trained. They come in two trees: those that are trained, which have gradients and optimizer
state and are checkpointed, and frozen ones, which are only read (what `optimizer.freeze` finds; with adapters, the
whole base model).
"""

import re

from flax import traverse_util
from ml_collections import ConfigDict

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import DecoderConfig, Params, abstract_params
from consistency_jax.models.lora import is_adapter


def check_trainable(config: ConfigDict) -> None:
    """Raises ConfigError for a base that is quantised, and no adapters beside it."""
    if config.lora.base != "none" and not config.lora.rank:
        raise ConfigError(
            f"lora.base={config.lora.base} leaves nothing to train but adapters: give --config.lora.rank=16"
        )


def trained_names(config: DecoderConfig, freeze: str) -> frozenset[str]:
    """Names ("layers/mlp/up/kernel") of the parameters that are trained: of all, or of the adapters where the model has
    some, those that `freeze` does not find.

    Args:
      freeze: a regular expression searched in names; empty freezes nothing.

    Raises:
      ConfigError: where `freeze` finds nothing, or everything.
    """
    names = frozenset(traverse_util.flatten_dict(abstract_params(config), sep="/"))
    if config.lora:
        names = frozenset(filter(is_adapter, names))
    frozen = {name for name in names if freeze and re.search(freeze, name)}
    if freeze and len(frozen) in (0, len(names)):
        what = "every parameter" if frozen else "no parameter"
        raise ConfigError(
            f"optimizer.freeze={freeze!r} matches {what}; there are: {', '.join(sorted(names))}"
        )
    return names - frozen


def split_params(params: Params, trained: frozenset[str]) -> tuple[Params, Params]:
    """(trained, frozen), two nested dicts without a leaf in common; leaves may be anything, shardings too."""
    flat = traverse_util.flatten_dict(params, sep="/")
    parts = (
        {name: leaf for name, leaf in flat.items() if (name in trained) is wanted} for wanted in (True, False)
    )
    trained_part, frozen_part = (traverse_util.unflatten_dict(part, sep="/") for part in parts)
    return trained_part, frozen_part


def merge_params(*parts: Params) -> Params:
    """The inverse of `split_params`; arrays are shared, not copied."""
    flat = [traverse_util.flatten_dict(part, sep="/") for part in parts]
    return traverse_util.unflatten_dict({name: leaf for part in flat for name, leaf in part.items()}, sep="/")
