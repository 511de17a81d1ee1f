"""The papers' experiment on a real language model, small enough for a laptop: Gemma 3 270M, SmolLM2 135M, Qwen2.5 0.5B.

    python -m consistency_jax.train --workdir=runs/real/dco \
        --config=configs/real.py:path=gemma.gguf,data_path=FOLDER

`path` is a GGUF file, a Hugging Face folder or a hub id; `data_path` is BMLAMA-17 in its original form (docs/data.md).
A method trains on the published split of 5,000 questions; `tested` of the 1,792 others, evenly spaced, are reported.
Everything is in float32, all parameters are trained.

Options (--config=configs/real.py:key=value,...): `method` (METHODS below, or any objective), `languages`, `unseen`
(languages joined by +, which are tested but not trained on), `en` (DCO's weight of English; with the published pairs
the factor b = en by which others are drawn to English), `steps`, `lr`, `lora` (rank of adapters), `freeze` (parameters
that stay as they are, embedding say), `trained` (so many questions of the train split, evenly spaced; 0: all),
`tested`, `groups` (joined by +: relations of the facts, say), `seed`. data=cldr takes the embedded facts, of FACTS; any
table's columns are named as in configs/audit.py.

What is measured so far: docs/real.md. `python benchmarks/real.py` runs the methods, one after another, and writes their
table; a run takes half an hour to an hour on 2 cores with 270 M parameters.
"""

from ml_collections import ConfigDict

from consistency_jax.config import ConfigError, default, names, parse_arg
from consistency_jax.config.recipes import COLUMNS, published, set_source
from consistency_jax.objectives import OBJECTIVES, options_of

LANGUAGES = "en+fr+es+ru+vi+tr"
# Relations of the embedded facts that a small model knows in English, and whose names are not ranked by their length
# alone (as currencies are): docs/real.md.
FACTS = ("city_country", "city_language", "country_language", "language_country")
PAIRS = {"objective": {"partners": "random", "candidates": "pair"}, "batching": {"languages": 2}}
# What each method changes, an objective of its name aside.
METHODS = {
    "dco": PAIRS,  # as published: two languages and two candidates drawn for each item
    "dco_all": {"objective": {"name": "dco"}},  # all candidates in all languages at once
    "pco_exact": {},
    "sft": {},
    "sft_grouped": {"objective": {"name": "sft"}, "batching": {"name": "grouped"}},
    "dpo": {},
    "dpo_mlc": {
        "objective": {"name": "dpo"},
        "batching": {"name": "grouped"},
        "auxiliary": {"mlc": {"weight": 0.8}},
    },
    "calm": {"objective": {"name": "dpo"}, "selection": {"name": "calm"}},
    "dpo_dco": {"stages": ("dpo", "dco"), "stage": {"dco": PAIRS}},
}


def get_config(arg: str | None = None) -> ConfigDict:
    given = parse_arg(
        arg,
        path="",
        data="bmlama17",
        data_path="",
        **COLUMNS,
        method="dco",
        languages=LANGUAGES,
        unseen="",
        en=1.0,
        steps=1250,
        lr=1e-5,
        lora=0,
        freeze="",
        trained=0,
        tested=600,
        groups="",
        seed=0,
    )
    if given.method not in METHODS | OBJECTIVES:
        choices = ", ".join({**METHODS, **OBJECTIVES})
        raise ConfigError(f"--config option method={given.method!r}; choose from {choices}")
    config = default()
    published(config)
    config.model.dtype = config.model.compute_dtype = "float32"
    config.model.path = given.path
    config.seed = given.seed
    config.total_steps = given.steps
    experiment = set_source(config, given)
    unseen = names(given.unseen)
    if unseen:
        if not config.data.languages or set(unseen) & set(config.data.languages):
            told = ", ".join(config.data.languages) or "all that the data has"
            raise ConfigError(f"unseen={given.unseen} should be none of the languages trained on: {told}")
        config.data.train.languages = config.data.languages
        config.data.languages += unseen
    config.data.train["items"], config.data.test_items = given.trained, given.tested
    config.data.train.groups = config.data.test_groups = names(given.groups)
    config.optimizer.freeze = given.freeze
    config.optimizer.learning_rate = given.lr
    if given.lora:
        config.lora.update(rank=given.lora, alpha=2.0 * given.lora)
    own = METHODS.get(given.method, {})
    config.objective.name = given.method if given.method in OBJECTIVES else config.objective.name
    config.update(own)
    if (
        given.method == "dco" and experiment.instances and not unseen
    ):  # instances are drawn from all languages
        config.data.options["instances"] = experiment.instances
    if given.en != 1.0:
        config.objective.steer = {"en": given.en}
    if given.data == "cldr":  # each candidate is one name, however many tokens it has
        config.evaluation.normalization = "sum"
        together = options_of(config.objective).get("partners") == "all" and not config.stages
        if config.objective.name == "dco" and together:
            config.objective.scale = "one"
        if not given.groups:
            config.data.train.groups = config.data.test_groups = FACTS
    return config
