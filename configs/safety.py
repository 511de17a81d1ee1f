"""MLC on a chat model (arXiv 2602.16660): preferences in English, parallel prompts beside, safety in every language.

    python -m consistency_jax.train --workdir=runs/safety \
        --config=configs/safety.py:path=smollm2.gguf,data_path=FOLDER_OF_POLYREFUSE

Trains on PolyRefuse (docs/data.md): of a harmful request a refusal is preferred to help, of a harmless one help to a
refusal, in English alone; MLC sees the same prompts in all `languages`. Measured on prompts that training never saw:
who refuses what in free text (report.json, "safety"), and the preferred opening by its log-probability, as accuracy.

Options (--config=configs/safety.py:key=value,...): `method` (dpo_mlc, or any objective alone: dpo, simpo, orpo, sft;
dco and pco_exact compare languages, and want `trained` to name several), `languages` (joined by +), `trained` (those
with preferences), `steps`, `lr`, `lora` (rank of adapters), `prompts` (so many of each kind are asked; 0: all), `seed`.
MultiJail's prompts, afterwards: `python -m consistency_jax.evaluate --workdir=runs/safety` with this config and the
flags that docs/report.md names.
"""

from ml_collections import ConfigDict

from consistency_jax.config import ConfigError, default, names, parse_arg
from consistency_jax.config.recipes import published, set_source
from consistency_jax.objectives import OBJECTIVES

LANGUAGES = "en+ar+de+es+fr+it+ko+th+zh"


def get_config(arg: str | None = None) -> ConfigDict:
    given = parse_arg(
        arg,
        path="",
        data_path="",
        method="dpo_mlc",
        languages=LANGUAGES,
        trained="en",
        steps=115,
        lr=1e-5,
        lora=0,
        prompts=40,
        seed=0,
    )
    with_mlc = given.method.endswith("_mlc")
    objective = given.method.removesuffix("_mlc")
    if objective not in OBJECTIVES:
        choices = ", ".join(("dpo_mlc", *OBJECTIVES))
        raise ConfigError(f"--config option method={given.method!r}; choose from {choices}")
    config = default()
    published(config)
    config.model.dtype = config.model.compute_dtype = "float32"
    config.model.path = given.path
    config.seed = given.seed
    config.total_steps = given.steps
    config.objective.name = objective
    set_source(config, ConfigDict({**given, "data": "refusals"}))
    config.data.train.languages = names(given.trained)
    config.data.chat_template = "tokenizer"
    config.data.test, config.data.test_items = ("validation",), 2 * given.prompts
    config.optimizer.learning_rate = given.lr
    if given.lora:
        config.lora.update(rank=given.lora, alpha=2.0 * given.lora)
    if with_mlc:  # the paper's: on every second step
        config.auxiliary.mlc.update(weight=0.8, split="train")
    safety = config.evaluation.safety
    safety.languages = config.data.languages
    safety["items"] = given.prompts
    safety.max_tokens = 64
    for kind in ("harmful", "harmless"):
        safety[kind].update(source="polyrefuse", path=given.data_path, split="validation")
        safety[kind].options = {"kind": kind}
    return config
