"""The embedded world: a small model that knows more in English than in Swahili, made more consistent by DCO.

    python -m consistency_jax.train --config=configs/tiny.py --workdir=runs/tiny

A 1.3 M parameter Llama is pretrained on Unicode CLDR facts told unequally (English always, Swahili 15 %) and with
mistakes that each language has of its own, on sentences that mix two languages and on a dictionary of the names;
then DCO sees the questions of the train split, without labels.

What it shows and what was found on the way: docs/tiny.md. In short, on 181 held-out facts (mean of five seeds): CLC of
all pairs of languages +7.4, English -1.4 % right, the other languages +8.1, Swahili +16.6; on facts whose countries,
cities and languages DCO never saw, little or nothing changes. Settings were chosen on the validation split.

Time: about 5 minutes on 2 cores (4 of them the pretraining, which is cached).

Other options (--config=configs/tiny.py:key=value,...): `method` (METHODS below, or any objective), `unseen` (languages
joined by +, which are tested but not trained on), `relation` (train on one kind of fact, test on all others), `en`
(DCO's weight of English; larger keeps it closer to what it was; 0: the method's own). `python benchmarks/methods.py`
runs and compares them.
"""

from ml_collections import ConfigDict

from consistency_jax.config import ConfigError, default, names, parse_arg, stages_of
from consistency_jax.objectives import OBJECTIVES

# language -> share of the facts that the base model is told in it
TOLD = {"en": 1.0, "fr": 0.6, "ru": 0.45, "zh": 0.4, "ar": 0.35, "hi": 0.25, "sw": 0.15}
# language -> share of its statements that are wrong, in that language's own way
WRONG = {"en": 0.03, "fr": 0.06, "ru": 0.1, "zh": 0.1, "ar": 0.12, "hi": 0.15, "sw": 0.2}
# language -> how readily a sentence mixes it with another
MIXED = {"en": 1.0, "fr": 0.8, "ru": 0.7, "zh": 0.6, "ar": 0.6, "hi": 0.5, "sw": 0.4}
RELATIONS = (
    "city_country",
    "city_currency",
    "city_language",
    "country_currency",
    "country_language",
    "language_country",
    "language_script",
)

# What each method changes, an objective of its name aside. Learning rates were chosen on the validation split
# (benchmarks/tune.py).
METHODS = {
    "dco": {"optimizer": {"learning_rate": 4e-4}},
    "dco_random": {  # as published: two languages and two candidates drawn for each item
        "objective": {"partners": "random", "candidates": "pair"},
        "batching": {"languages": 2},
        "optimizer": {"learning_rate": 1e-4},
    },
    "pco_exact": {"optimizer": {"learning_rate": 2e-4}},
    "sft": {"optimizer": {"learning_rate": 4e-4}},
    "dpo": {"optimizer": {"learning_rate": 2e-5}},
    "dpo_grouped": {
        "objective": {"name": "dpo"},
        "batching": {"name": "grouped"},
        "optimizer": {"learning_rate": 2e-5},
    },
    # CALM: of each fact the answer of most languages, against what a language says otherwise.
    "calm": {
        "objective": {"name": "dpo"},
        "selection": {"name": "calm"},
        "optimizer": {"learning_rate": 5e-6},
    },
    # CM-Align: answers that the model writes, the one most like the English one against the least alike.
    "cm_align": {
        "objective": {"name": "dpo"},
        "selection": {"name": "cm_align", "max_tokens": 12, "stop": (" —",)},
        "optimizer": {"learning_rate": 5e-6},
    },
    "dpo_mlc": {
        "objective": {"name": "dpo"},
        "batching": {"name": "grouped"},
        "auxiliary": {"mlc": {"weight": 0.8, "width": 128}},
        "optimizer": {"learning_rate": 2e-5},
    },
    "mpo": {"optimizer": {"learning_rate": 5e-5}},
    "pco_rollout": {"optimizer": {"learning_rate": 2e-4}},
    "sft_all": {"optimizer": {"learning_rate": 2e-4}},
    "simpo": {"optimizer": {"learning_rate": 2e-5}},
    "orpo": {"optimizer": {"learning_rate": 2e-4}},
    "orpo_grouped": {
        "objective": {"name": "orpo"},
        "batching": {"name": "grouped"},
        "optimizer": {"learning_rate": 2e-4},
    },
    "dpo_dco": {  # each stage has the steps of a run
        "stages": ("dpo", "dco"),
        "stage": {
            "dpo": {"optimizer": {"learning_rate": 2e-5}},
            "dco": {"optimizer": {"learning_rate": 4e-4}},
        },
    },
}
# DCO's weight of English where it is not 30. With a drawn partner X moves to r_X + v_en / v_X * r_en: 30 would be a
# factor of 30, so the published 1.
ENGLISH = {"dco_random": 1.0}


def get_config(arg: str | None = None) -> ConfigDict:
    """The config; options `lr` and `en` other than 0 are those of all stages."""
    given = parse_arg(
        arg,
        method="dco",
        seed=0,
        steps=350,
        pretrain=2600,
        lr=0.0,
        en=0.0,
        items=12,
        unseen="",
        relation="",
    )
    unseen = names(given.unseen)
    choices = [("method", given.method, METHODS | OBJECTIVES), *(("unseen", name, TOLD) for name in unseen)]
    choices += [("relation", given.relation, RELATIONS)] if given.relation else []
    for key, value, known in choices:
        if value not in known:
            raise ConfigError(f"--config option {key}={value!r}; choose from {', '.join(known)}")
    config = default()
    config.seed = given.seed
    config.total_steps = given.steps

    config.model.architecture = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "initializer_range": 128**-0.5,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }
    config.data.source = "cldr"
    config.data.languages = tuple(TOLD)
    config.data.test = ("test", "test_disjoint")
    config.data.max_length = 128

    config.pretrain.total_steps = given.pretrain
    config.pretrain.options = {"told": TOLD, "wrong": WRONG, "mixed": MIXED}
    config.pretrain.vocabulary = 5000
    config.pretrain.sentences = 40
    config.pretrain.optimizer.update(
        name="muon", learning_rate=3e-3, warmup_steps=130, end=0.02, b2=0.98, weight_decay=0.1
    )

    config.batching.items = given["items"]
    config.batching.shapes = 2
    config.evaluation.normalization = "sum"  # the very table that DCO trains; every candidate is one name
    config.evaluation.every = 200
    config.checkpoint.every = 100
    if given.method in OBJECTIVES:
        config.objective.name = given.method
    config.update(METHODS.get(given.method, {}))
    steer = {language: 1.0 for language in TOLD} | {"en": given.en or ENGLISH.get(given.method, 30.0)}
    # "one" is the weighted mean itself: others sharpen, and a model this small then forgets.
    for option, value in {"scale": "one", "steer": steer}.items():
        if any(option in OBJECTIVES[stage.config.objective.name].keys for stage in stages_of(config)):
            config.objective[option] = value
    if given.en and not config.objective.get("steer"):
        raise ConfigError(
            f"--config option en={given.en:g} does nothing with method={given.method}; leave it out"
        )
    if config.selection.name and config.batching.name == "random":  # pairs are of one language each
        config.batching.items *= len(TOLD)
    if given.lr:
        for settings in (config, *config.stage.values()):
            settings.optimizer.learning_rate = given.lr
    if unseen:
        config.data.train.languages = tuple(language for language in TOLD if language not in unseen)
        if not config.data.train.languages:
            raise ConfigError(f"--config option unseen={given.unseen!r} leaves no language to train on")
    if given.relation:
        config.data.train.groups = (given.relation,)
        config.data.test_groups = tuple(name for name in RELATIONS if name != given.relation)
        config.data.test = ("test",)  # the other splits do not have facts of every kind
        config.evaluation.every = 0
    return config
