"""Which values may stand in a config: checked before anything runs.

What may stand in a single key is told by its row in defaults.py; here is what concerns several.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from consistency_jax.config.defaults import KEYS, default, rows
from consistency_jax.config.stages import generates, languages_apart, selects, stages_of
from consistency_jax.errors import ConfigError, nearest
from consistency_jax.models.configured import lora_config
from consistency_jax.objectives import OBJECTIVES, options_of
from consistency_jax.runtime.mesh import mesh_shape


def validate(config: ConfigDict, devices: int = 1) -> None:
    """Checks keys and values, so that a mistake is told before any work starts.

    Raises:
      ConfigError: naming the key, the value and what would be right.
    """
    plain = config.to_dict()
    _check_keys(plain, default().to_dict(), "")
    for name in ("stages", "stage"):
        KEYS[""][name].check(name, plain[name])
    stages = stages_of(config)
    if config.rollout.source == "generate" and not any(generates(stage.config) for stage in stages):
        names = ", ".join(dict.fromkeys(stage.config.objective.name for stage in stages))
        raise ConfigError(f"rollout.source=generate is of pco_rollout, and does nothing with {names}")
    for stage in stages:
        try:
            _validate_stage(stage.config, devices)
        except ConfigError as error:
            raise ConfigError(f"stage {stage.name}: {error}" if len(stages) > 1 else str(error)) from None


def _validate_stage(config: ConfigDict, devices: int) -> None:
    plain = config.to_dict()
    _check_keys(plain, default().to_dict(), "")
    KEYS["objective"]["name"].check("objective.name", config.objective.name)
    _check_options(plain["objective"])
    for name, row in rows(config.objective.name).items():
        value = _get(plain, name)  # null stands for an unset option, and for no text
        if value is not None or not (name.startswith("objective.") or row.default == ""):
            row.check(name, value)
    _check_selection(config)
    if generates(config):
        _check_rollout(config)
    _check_free_text(config)
    _check_batching(config)
    lora_config(config)
    if not config.model.path and not config.pretrain.total_steps:
        raise ConfigError(
            "no model: give --config.model.path=FOLDER_OR_HUB_ID (a Hugging Face checkpoint), "
            "or set pretrain.total_steps to make a small one"
        )
    if config.data.system_prompt and config.data.chat_template == "off":
        raise ConfigError(
            "data.system_prompt is set, but data.chat_template=off gives no place to put it; "
            "set --config.data.chat_template=tokenizer"
        )
    if config.data.chat_template == "tokenizer" and not config.model.path:
        raise ConfigError(
            "data.chat_template=tokenizer needs a model with a chat template, which the embedded base model has not; "
            "give --config.model.path=FOLDER_OR_HUB_ID or set --config.data.chat_template=off"
        )
    mesh_shape(config, devices)


def _check_options(section: Mapping[str, Any]) -> None:
    """Refuses options that belong to another objective."""
    name, own = section["name"], OBJECTIVES[section["name"]].keys
    for key, value in section.items():
        if key == "name" or key in own or value is None or value == {}:
            continue
        owners = ", ".join(other for other, objective in OBJECTIVES.items() if key in objective.keys)
        raise ConfigError(
            f"objective.{key}={value!r}: {name} takes no {key}; it takes: {', '.join(own) or 'no option'} "
            f"({key} is for {owners})"
        )


def _check_batching(config: ConfigDict) -> None:
    batching, mlc = config.batching, config.auxiliary.mlc
    for name, items in (("batching", batching["items"]), ("auxiliary.mlc", mlc["items"])):
        if items % batching.accumulate and (name == "batching" or mlc.split):
            raise ConfigError(f"batching.accumulate={batching.accumulate} must divide {name}.items={items}")
    if batching.name == "grouped" and batching.languages:
        raise ConfigError(
            "batching.name=grouped takes items in all their languages: set batching.languages=0, "
            "or batching.name=random to draw some"
        )
    if mlc.weight and not mlc.split:
        _check_own_prompts(config)


def _check_own_prompts(config: ConfigDict) -> None:
    if languages_apart(config):
        why = f"batching.name=random takes them one by one for {config.objective.name}; set batching.name=grouped"
    elif selects(config):
        why = "a question may have a preference pair in one language alone"
    else:
        return
    raise ConfigError(
        f"auxiliary.mlc compares the languages of an item, and {why}, or name a split of multilingual prompts in "
        "--config.auxiliary.mlc.split"
    )


def _check_rollout(config: ConfigDict) -> None:
    """What goes with answers that the policy writes."""
    rollout, own = config.rollout, options_of(config.objective)
    if rollout.max_tokens + 2 > config.data.max_length:
        raise ConfigError(
            f"rollout.max_tokens={rollout.max_tokens} leaves no room for a prompt in data.max_length="
            f"{config.data.max_length} tokens; lower the one or raise the other"
        )
    unfit = {  # key -> (what stands there, the one value that generated answers go with)
        "data.boundary": (config.data.boundary, "separate"),
        "objective.candidates": (own["candidates"], "all"),
        "objective.false_examples": (own["false_examples"], False),
        "auxiliary.mlc.split": (config.auxiliary.mlc.split, ""),
    }
    for name, (value, fit) in unfit.items():
        if value != fit:
            raise ConfigError(
                f"{name}={value!r} does not go with rollout.source=generate, whose answers are drawn "
                f"behind the prompt alone; set --config.{name}={fit!r}"
            )


def _check_free_text(config: ConfigDict) -> None:
    for split in config.evaluation.generation.splits:
        if split not in config.data.test:
            raise ConfigError(
                f"evaluation.generation.splits names {split!r}, which is not measured; data.test has: "
                f"{', '.join(config.data.test)}"
            )
    safety = config.evaluation.safety
    if safety.harmless.source and not safety.harmful.source:
        raise ConfigError(
            "evaluation.safety.harmless is there to compare with harmful prompts; set evaluation.safety.harmful.source"
        )


def _check_selection(config: ConfigDict) -> None:
    selection = config.selection
    if selection.engine != "sampler" and not selection.engine_model:
        raise ConfigError(
            f"selection.engine={selection.engine!r} is a server, which must be told the model's name there: "
            "set selection.engine_model"
        )
    for language in selection.instructions:
        known = tuple(config.data.languages)
        if known and language not in known:
            raise ConfigError(
                f"selection.instructions.{language}: data.languages names no {language!r}{nearest(language, known)}; "
                f"it names {', '.join(known)}"
            )


def check_pairs_fit(config: ConfigDict) -> None:
    """Refuses preference pairs where the objective compares languages, of which a pair has only one, or does not ask
    which answer is right.

    Raises:
      ConfigError: naming the objective and what would be right.
    """
    where = (
        "data.train.pairs" if config.data.train.pairs else "selection.name" if config.selection.name else ""
    )
    one_language = np.ones((1, 1, 2), bool), np.zeros(1, np.int32), ("",)
    usable = [name for name, own in OBJECTIVES.items() if own.usable(*one_language)[0]]
    fit = [name for name in usable if OBJECTIVES[name].labels]
    if where and config.objective.name not in fit:
        does = "takes no label" if config.objective.name in usable else "compares languages"
        raise ConfigError(
            f"objective.name={config.objective.name!r} {does}, and the preference pairs of "
            f"{where}={_get(config, where)!r} are of one language each; "
            f"use {', '.join(fit)}, or train on the split itself: {where}=''"
        )


def _check_keys(config: Mapping, reference: Mapping, prefix: str) -> None:
    """Refuses keys that are not known, values where a section stands, and missing keys; options of objectives may be
    missing."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if key not in reference:
            raise ConfigError(
                f"unknown config key {name!r}{nearest(key, reference)}; here stand: {', '.join(sorted(reference))}"
            )
        expected = reference[key]
        if isinstance(expected, Mapping) and expected:
            if not isinstance(value, Mapping):
                raise ConfigError(f"config key {name}={value!r} should hold settings: {', '.join(expected)}")
            _check_keys(value, expected, f"{name}.")
    for key in reference:
        if key not in config and (prefix != "objective." or key == "name"):
            raise ConfigError(
                f"config key {prefix}{key} is missing; start from consistency_jax.config.default()"
            )


def _get(config: Any, name: str) -> Any:
    """What stands there; None for an option of an objective that is unset."""
    for part in name.split("."):
        config = config.get(part)
    return config
