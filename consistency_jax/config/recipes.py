"""The papers' experiments as configs: one function, from which configs/gemma3.py, qwen3.py, ... are made."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from consistency_jax.config.defaults import default
from consistency_jax.config.parsing import names, parse_arg
from consistency_jax.data.sources import SOURCES, source_of
from consistency_jax.data.sources.language_files import ENDINGS, data_files, form_of
from consistency_jax.data.sources.source import Experiment
from consistency_jax.errors import ConfigError, nearest
from consistency_jax.models.families import find_family
from consistency_jax.models.published import PUBLISHED, published_config
from consistency_jax.runtime.files import HUB_ID, expanded

SLOWER_ON_XCSQA = ("google/gemma-3-4b-pt", "google/gemma-3-12b-pt", "meta-llama/Llama-3.1-8B")  # lr 1e-6
# Options of every config that reads a table of any columns, or a source that takes an option of this name.
COLUMNS = dict.fromkeys(
    ("prompt", "candidates", "gold", "language", "id", "group", "answers", "numbered", "part", "join"), ""
)
METHODS = ("dco", "dco_all", "sft", "dpo", "simpo", "orpo", "pco_exact", "pco_rollout")


def paper_config(arg: str | None, sizes: Mapping[str, str], size: str) -> ConfigDict:
    """The config of a published experiment (PCO/DCO paper, section "Training set-up" of its code).

    Args:
      arg: what stands behind the colon of --config; its keys:
        size       which of `sizes`
        path       folder or hub id to load instead of the published one
        data       any source with answers (docs/data.md), as hub (JRQi/MMMLU, JRQi/BMLAMA17); data_path is its folder,
                   file or Hub id. Splits are the published ones, by seed. Or a file, a folder, a data set of the Hub
        prompt, candidates, gold, language, id, group, answers, numbered, part, join
                   its columns, and how they are read (data/sources/mapped.py)
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
        **COLUMNS,
        method="dco",
        steer_en=1.0,
        lora=0,
        lr=0.0,
        steps=0,
        seed=0,
        runlocal=False,
    )
    for key, known in (("size", sizes), ("method", METHODS)):
        if given[key] not in known:
            raise ConfigError(f"--config option {key}={given[key]!r}; choose from {', '.join(known)}")
    config = default()
    published(config)
    config.seed = given.seed
    hub_id = sizes[given.size]
    config.model.path = given.path or hub_id
    config.model.remat = "full"
    config.mesh.update(data=1, fsdp=-1, tensor=1)
    experiment = set_source(config, given)
    config.total_steps = experiment.steps
    config.data.max_length = 1024
    if given.method == "dco":
        config.batching.languages = 2
        config.objective.update(candidates="pair", partners="random")
        if experiment.instances:
            config.data.options["instances"] = experiment.instances
    config.objective.name = given.method.removesuffix("_all")
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


def set_source(config: ConfigDict, given: ConfigDict, bare: bool = False) -> Experiment:
    """Sets what a config trains on or measures.

    Args:
      given: options of a config. `data`: a source with answers, or a file, a folder or a data set of the Hub;
        `data_path`: the source's folder, file or Hub id; `languages`, joined by +: empty: those that the source's
        experiment is published with, in that order; and COLUMNS, options of the source of that name.
      bare: also sources without candidates, and a table's column `targets`.

    Returns:
      How the source is trained on.

    Raises:
      ConfigError: an unknown source, or one of bare prompts.
    """
    name, path = given.data, given.data_path
    columns = {key: given[key] for key in (*COLUMNS, "targets") if given.get(key)}
    if name not in SOURCES and not path:
        name, path = _source_at(name, bool(columns)), name
    known = [each for each in SOURCES if bare or source_of(each).answers]
    if name not in known:
        raise ConfigError(
            f"--config option data={given.data!r}{nearest(given.data, known)}; choose from {', '.join(known)}, or give "
            "a file, a folder or a data set of the Hub, OWNER/NAME"
        )
    source = source_of(name)
    published = source.languages_at(path) if source.languages_at else source.experiment.languages
    config.data.source, config.data.path = name, path
    config.data.options = dict(source.experiment.options) | columns
    config.data.languages = names(given.get("languages", "")) or published
    return source.experiment


def _source_at(place: str, mapped: bool) -> str:
    """The source that reads a file, a folder or a data set of the Hub; the word itself where it is none of these.

    Args:
      mapped: whether columns are named.
    """
    file = expanded(place)
    tables = [file] if form_of(file) in ENDINGS else data_files(file) if place and file.is_dir() else []
    if not mapped and any(form_of(each) == ".jsonl" for each in (file, *tables)):
        return "jsonl"
    if tables or mapped and (file.is_file() or HUB_ID.fullmatch(place) or "{language}" in place):
        return "mapped"
    if file.suffix or file.exists():
        return "jsonl"  # whose errors name the place
    return "mapped" if HUB_ID.fullmatch(place) else place


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
    small = {
        "architectures": [find_family(hf)[1].architecture],  # the text model's
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
    }
    if "max_window_layers" in text:
        small |= {"max_window_layers": 2}
    if any(published_config(hub_id).windows):
        small |= {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]}
    if "query_pre_attn_scalar" in text:
        small |= {"query_pre_attn_scalar": 16}
    return text | small


def published(config: ConfigDict) -> None:
    """Sets the published recipe's weights, optimizer and batch: full fine-tuning in bfloat16, AdamW.

    Weights, moments and updates are bfloat16, rounded to nearest; lr 1e-5 (1e-6 was used for XCSQA with gemma-3-4b,
    gemma-3-12b and Llama-3.1-8B), linear decay without warm-up, clipping at 1, batches of 4 items. How those are drawn
    (2 languages x 2 answers) is `batching.languages` and `objective.candidates`.

    `data.bos` stays as it is: the published code puts BOS wherever a tokenizer names one, and those of its base models
    put it themselves (gemma, Llama, Aya) or name none (Qwen). Of other models "named" gives its tokens, in training
    and evaluation alike.
    """
    config.model.dtype = config.model.compute_dtype = "bfloat16"
    config.lora.rank = 0
    config.optimizer.update(default().optimizer)
    config.batching["items"] = 4
