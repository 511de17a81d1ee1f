"""The decoder that `config.model` and `config.lora` describe."""

import dataclasses

from ml_collections import ConfigDict

from consistency_jax.errors import ConfigError
from consistency_jax.models.decoder import DecoderConfig
from consistency_jax.models.families import find_family
from consistency_jax.models.gguf import is_gguf
from consistency_jax.models.huggingface import read_decoder
from consistency_jax.models.lora import LoraConfig
from consistency_jax.models.published import PUBLISHED, published_config
from consistency_jax.runtime.files import expanded

AUTO = "auto"  # model.remat: the first of REMATS with which a train step fits the device


def abstract_model(config: ConfigDict) -> DecoderConfig:
    """The decoder that `config.model` names, without its weights, set to compute as the config says.

    Raises:
      ConfigError: where the path is no folder and no published model, or the architecture is no decoder.
    """
    model = config.model
    path = expanded(model.path)
    if model.path and (path.is_dir() or is_gguf(path)):
        decoder = read_decoder(path)[1]
    elif model.path in PUBLISHED:
        decoder = published_config(model.path)
    elif model.path:
        raise ConfigError(
            f"model.path={model.path!r} is no folder here and its shapes are not known; give a folder with its "
            f"config.json (no weights are needed), or one of: {', '.join(PUBLISHED)}"
        )
    else:
        vocabulary = model.architecture.get("vocab_size", config.pretrain.vocabulary)
        decoder = made_here(config, vocabulary)[1]
    try:
        return dataclasses.replace(
            computing(config, decoder), lora=lora_config(config), base=config.lora.base
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def lora_config(config: ConfigDict) -> LoraConfig | None:
    """The adapters that `config.lora` asks for, None for rank 0.

    Raises:
      ConfigError: settings that no adapter can have, or targets that find no projection.
    """
    if not config.lora.rank:
        return None
    try:
        return LoraConfig(**{key: value for key, value in config.lora.items() if key != "base"})
    except ValueError as error:
        raise ConfigError(str(error)) from None


def made_here(config: ConfigDict, vocabulary: int) -> tuple[str, DecoderConfig]:
    """The architecture's name and the decoder that `config.model.architecture` describes.

    Raises:
      ConfigError: where it describes none.
    """
    hf = config.model.architecture.to_dict() | {"vocab_size": vocabulary}
    try:
        name, family = find_family(hf)
        return name, computing(config, family.from_hf(hf))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.architecture: {error}") from error


def computing(config: ConfigDict, decoder: DecoderConfig) -> DecoderConfig:
    """The decoder set to compute as `config.model` says; where `remat` is for training to choose, without any."""
    return dataclasses.replace(
        decoder,
        param_dtype=config.model.dtype,
        dtype=config.model.compute_dtype,
        remat="none" if config.model.remat == AUTO else config.model.remat,
        attention=config.model.attention,
        scan_layers=config.model.scan_layers,
    )
