"""The papers' experiments as configs: one function, from which configs/gemma3.py, qwen3.py, ... are made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from consistency_jax.config.defaults import default, optimizer_defaults
from consistency_jax.config.parsing import parse_arg
from consistency_jax.errors import ConfigError
from consistency_jax.models.published import PUBLISHED, published_config


class Data(NamedTuple):
    """What an experiment trains on."""

    steps: int  # optimizer steps of 4 items
    languages: str  # "": all that the data has
    instances: int = 0  # of method=dco, drawn as published; 0: drawn batch by batch


# bmlama17, mmmlu and xcsqa are the paper's (xcsqa: 800 questions, seven draws of each); hub is its own copies of them
DATA = {
    "bmlama17": Data(1250, "en fr nl es ru ja zh ko vi el hu he tr ca ar uk fa", 5000),
    "mmmlu": Data(1250, "en ar bn de es fr hi id it ja ko pt sw yo zh", 5000),
    "xcsqa": Data(1400, "en zh de es fr it ja nl pl pt ru ar vi hi sw ur", 5600),
    "hub": Data(1250, "", 5000),  # languages: by the name of data_path
    "bmlama53": Data(500, ""),
    "jsonl": Data(500, ""),
    "cldr": Data(350, "en fr ru zh ar hi sw"),
}
SLOWER_ON_XCSQA = ("google/gemma-3-4b-pt", "google/gemma-3-12b-pt", "meta-llama/Llama-3.1-8B")  # lr 1e-6
METHODS = ("dco", "dco_all", "sft", "dpo", "simpo", "orpo", "pco_exact", "pco_rollout")


def paper_config(arg: str | None, sizes: Mapping[str, str], size: str) -> ConfigDict:
    """The config of a published experiment (PCO/DCO paper, section "Training set-up" of its code).

    Args:
      arg: what stands behind the colon of --config; its keys:
        size       which of `sizes`
        path       folder or hub id to load instead of the published one
        data       bmlama17, mmmlu, xcsqa, hub (JRQi/MMMLU, JRQi/BMLAMA17), bmlama53, jsonl, cldr; data_path is its
                   folder, file or Hub id. Splits are the published ones, by seed
        method     dco (the published loss on the published instances: 2 languages, 2 candidates), dco_all (all
                   candidates and all languages at once: no noise from the draw, exactly consistent target),
                   pco_exact (PCO on the candidates, of all languages at once), pco_rollout (the same from answers
                   drawn among them), sft, dpo, simpo, orpo (on labels: gold against a random wrong candidate, in all
                   languages)
        steer_en   weight of English in DCO; larger keeps it closer to what it was
        lora       rank of the adapters; 0 trains all parameters
        lr, steps  0: as published
        runlocal   the same family at toy size with random weights, on embedded data: the real command on a laptop
      sizes: size -> hub id.
      size: the default one.

    Raises:
      ConfigError: an unknown size, data set or method.
    """
    given = parse_arg(
        arg,
        size=size,
        path="",
        data="bmlama17",
        data_path="",
        method="dco",
        steer_en=1.0,
        lora=0,
        lr=0.0,
        steps=0,
        seed=0,
        runlocal=False,
    )
    for key, known in (("size", sizes), ("data", DATA), ("method", METHODS)):
        if given[key] not in known:
            raise ConfigError(f"--config option {key}={given[key]!r}; choose from {', '.join(known)}")
    config = default()
    published(config)
    config.seed = given.seed
    hub_id = sizes[given.size]
    config.model.path = given.path or hub_id
    config.model.remat = "full"
    config.mesh.update(data=1, fsdp=-1, tensor=1)
    config.data.source, config.data.path = given.data, given.data_path
    data = DATA[given.data]
    config.total_steps = data.steps
    config.data.languages = languages_of_data(given.data, given.data_path)
    config.data.max_length = 1024
    if given.method == "dco":
        config.batching.languages = 2
        config.objective.update(candidates="pair", partners="random")
        if data.instances:
            config.data.options = {"instances": data.instances}
    config.objective.name = given.method.removesuffix("_all")
    if given.method == "simpo":
        config.objective.beta = 2.0
    if given.steer_en != 1.0:
        config.objective.steer = {"en": given.steer_en}
    if given.data == "xcsqa" and hub_id in SLOWER_ON_XCSQA:
        config.optimizer.learning_rate = 1e-6
    if given.lora:
        config.lora.update(rank=given.lora, alpha=2.0 * given.lora)
        config.optimizer.learning_rate = 1e-4
    config.optimizer.learning_rate = given.lr or config.optimizer.learning_rate
    config.total_steps = given.steps or config.total_steps
    if given.runlocal:
        run_local(config, hub_id)
        config.total_steps = given.steps or 4
    return config


def languages_of_data(name: str, path: str) -> tuple[str, ...]:
    """The published languages of a key of `DATA`, in their order; () for all that the data has.

    Those of a re-upload (hub), by whose order its instances are drawn, are told by its path.
    """
    if name != "hub":
        return tuple(DATA[name].languages.split())
    for part in reversed(Path(path).parts):
        for known in ("mmmlu", "bmlama17"):
            if known in part.lower().replace("-", ""):
                return tuple(DATA[known].languages.split())
    return ()


def run_local(config: ConfigDict, hub_id: str) -> None:
    """Turns a config into one that any laptop runs in under a minute: a toy of the same family, embedded data."""
    config.model.path = ""
    config.model.remat = "none"
    config.model.dtype = config.model.compute_dtype = "float32"
    config.model.architecture = toy(hub_id)
    config.data.source, config.data.path, config.data.options = "cldr", "", {}
    config.data.languages = ("en", "ru", "sw")
    config.data.max_length = 128
    config.data.train.update(items=64)
    config.pretrain.update(total_steps=2, vocabulary=1500, sentences=16)
    config.pretrain.options = {"told": {"en": 1.0, "ru": 0.5, "sw": 0.2}, "passes": 1}
    config.batching.shapes = 1
    config.evaluation.bootstrap = 200
    config.logging.every = 1


def toy(hub_id: str) -> dict[str, Any]:
    """A published config.json shrunk to toy size: the same traits, a vision part left out."""
    hf = PUBLISHED[hub_id]
    text = dict(hf.get("text_config") or hf)
    architecture = hf["architectures"][0]
    if architecture == "Gemma3ForConditionalGeneration":
        architecture = "Gemma3ForCausalLM"
    small = {
        "architectures": [architecture],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
        "max_window_layers": 2,
    }
    if published_config(hub_id).window:
        small |= {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]}
    if "query_pre_attn_scalar" in text:
        small |= {"query_pre_attn_scalar": 16}
    return text | small


def published(config: ConfigDict) -> None:
    """Sets the published recipe's weights, optimizer and batch: full fine-tuning in bfloat16, AdamW.

    Weights, moments and updates are bfloat16, rounded to nearest; lr 1e-5 (1e-6 was used for XCSQA with gemma-3-4b,
    gemma-3-12b and Llama-3.1-8B), linear decay without warm-up, clipping at 1, batches of 4 items. How those are drawn
    (2 languages x 2 answers) is `batching.languages` and `objective.candidates`.
    """
    config.model.dtype = config.model.compute_dtype = "bfloat16"
    config.lora.rank = 0
    config.optimizer.update(optimizer_defaults())
    config.batching["items"] = 4
