"""Which values may stand in a config: checked before anything runs."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from consistency_jax.config.defaults import OPTIMIZERS, ROUNDINGS, default
from consistency_jax.config.stages import generates, languages_apart, nearest, stages_of
from consistency_jax.errors import ConfigError
from consistency_jax.models.attention import CHOICES
from consistency_jax.models.configured import lora_config
from consistency_jax.objectives import OBJECTIVES
from consistency_jax.objectives.pco_rollout import KLS
from consistency_jax.runtime.mesh import mesh_shape
from consistency_jax.table import NORMALIZATIONS

FREE = (
    "model.architecture",
    "data.options",
    "objective.steer",
    "pretrain.options",
    "evaluation.groups",
    "evaluation.safety.harmful.options",
    "evaluation.safety.harmless.options",
    "selection.instructions",
    "stage",
)


def validate(config: ConfigDict, devices: int = 1) -> None:
    """Checks keys and values, so that a mistake is told before any work starts.

    Raises:
      ConfigError: naming the key, the value and what would be right.
    """
    _check_keys(config.to_dict(), default().to_dict(), "")
    stages = stages_of(config)
    for stage in stages:
        try:
            _validate_stage(stage.config, devices)
        except ConfigError as error:
            raise ConfigError(f"stage {stage.name}: {error}" if len(stages) > 1 else str(error)) from None


def _validate_stage(config: ConfigDict, devices: int) -> None:
    _check_keys(config.to_dict(), default().to_dict(), "")
    _one_of(config, "data.on_error", ("raise", "skip"))
    _one_of(config, "data.boundary", ("separate", "joint"))
    _one_of(config, "data.chat_template", ("off", "tokenizer"))
    _one_of(config, "evaluation.boundary", ("separate", "joint"))
    _one_of(config, "evaluation.normalization", NORMALIZATIONS)
    _one_of(config, "objective.name", tuple(OBJECTIVES))
    _one_of(config, "objective.partners", ("all", "random"))
    _one_of(config, "objective.candidates", ("all", "pair"))
    _one_of(config, "objective.scale", ("mean", "product", "one"))
    _one_of(config, "objective.normalization", ("mean", "sum"))
    _one_of(config, "objective.rejected", ("random", "hardest"))
    _one_of(config, "objective.kl", KLS)
    if config.objective.samples < 2:
        raise ConfigError(
            f"objective.samples={config.objective.samples} must be at least 2: one is the other's baseline"
        )
    _one_of(config, "batching.name", ("random", "grouped"))
    _validate_selection(config)
    _validate_rollout(config)
    _validate_written(config)
    _one_of(config, "model.remat", ("none", "full", "dots"))
    _one_of(config, "model.attention", CHOICES)
    for name in ("model.dtype", "model.compute_dtype"):
        _one_of(config, name, ("float32", "bfloat16"))
    for name in ("optimizer", "pretrain.optimizer"):
        _one_of(config, f"{name}.name", OPTIMIZERS)
        _one_of(config, f"{name}.state_dtype", ("", "float32", "bfloat16"))
        _one_of(config, f"{name}.rounding", ROUNDINGS)
        _one_of(config, f"{name}.schedule", ("linear", "cosine", "constant"))
        _positive(config, f"{name}.learning_rate")
        for key in ("warmup_steps", "clip_norm", "weight_decay", "end"):
            _at_least_0(config, f"{name}.{key}")
    for name in [
        "total_steps",
        "batching.items",
        "batching.accumulate",
        "batching.shapes",
        "data.max_length",
        "logging.every",
        "checkpoint.every",
        "checkpoint.keep",
        "evaluation.tokens",
        "evaluation.bootstrap",
    ]:
        _positive(config, name)
    if config.batching.items % config.batching.accumulate:
        raise ConfigError(
            f"batching.accumulate={config.batching.accumulate} must divide batching.items={config.batching.items}"
        )
    _check_mlc(config)
    if config.batching.name == "grouped" and config.batching.languages:
        raise ConfigError(
            "batching.name=grouped takes items in all their languages: set batching.languages=0, "
            "or batching.name=random to draw some"
        )
    lora_config(config)
    for language, weight in config.objective.steer.items():
        if not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            raise ConfigError(f"objective.steer.{language}={weight!r} must be a number greater than 0")
    for name, members in config.evaluation.groups.items():
        if isinstance(members, str) or not all(isinstance(entry, str) for entry in members):
            raise ConfigError(f"evaluation.groups.{name}={members!r} must hold languages")
    _positive(config, "objective.beta")
    if not 0 <= config.objective.label_smoothing < 0.5:
        raise ConfigError(
            f"objective.label_smoothing={config.objective.label_smoothing} must lie in [0, 0.5): "
            "at 0.5 labels would say nothing"
        )
    if not OBJECTIVES[config.objective.name].unlabelled:
        names = ", ".join(name for name, objective in OBJECTIVES.items() if objective.unlabelled)
        if config.objective.false_examples:
            raise ConfigError(
                f"objective.false_examples leaves the gold answers out, which {config.objective.name} learns from; "
                f"it is for {names}"
            )
        if config.objective.candidates == "pair":
            raise ConfigError(
                f"objective.candidates='pair' draws two candidates to compare across languages, which "
                f"{config.objective.name} does not; it is for {names}"
            )
    if config.objective.name == "mpo" and config.objective.rejected != "random":
        raise ConfigError(
            f"objective.rejected={config.objective.rejected!r} takes another wrong answer in every language, and mpo "
            "compares the same two answers across languages; set --config.objective.rejected=random"
        )
    for name in ("objective.gamma", "objective.margin", "objective.odds_weight"):
        _at_least_0(config, name)
    for name in ("data.train.items", "data.test_items", "batching.languages", "batching.row_length"):
        _at_least_0(config, name)
    for name in ("seed", "evaluation.every"):
        _at_least_0(config, name)
    if not config.data.test:
        raise ConfigError("data.test=() names no split to measure; give one or more")
    for name in (
        "data.languages",
        "data.train.languages",
        "data.train.groups",
        "data.test",
        "data.test_groups",
    ):
        if not all(isinstance(entry, str) for entry in _get(config, name)):
            raise ConfigError(f"{name}={_get(config, name)!r} must hold names")
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


def _check_own_prompts(config: ConfigDict) -> None:
    if languages_apart(config):
        why = f"batching.name=random takes them one by one for {config.objective.name}; set batching.name=grouped"
    elif config.selection.name:
        why = "a question may have a preference pair in one language alone"
    else:
        return
    raise ConfigError(
        f"auxiliary.mlc compares the languages of an item, and {why}, or name a split of multilingual prompts in "
        "--config.auxiliary.mlc.split"
    )


def _check_mlc(config: ConfigDict) -> None:
    _at_least_0(config, "auxiliary.mlc.weight")
    for key in ("tau", "width", "every", "items"):
        _positive(config, f"auxiliary.mlc.{key}")
    settings = config.auxiliary.mlc
    if settings.layer < -1:
        raise ConfigError(
            f"auxiliary.mlc.layer={settings.layer} should be the number of a layer, from 0, or -1: after the final norm"
        )
    if settings.split and settings["items"] % config.batching.accumulate:
        raise ConfigError(
            f"batching.accumulate={config.batching.accumulate} must divide auxiliary.mlc.items={settings['items']}"
        )
    if settings.weight and not settings.split:
        _check_own_prompts(config)


def _validate_rollout(config: ConfigDict) -> None:
    rollout = config.rollout
    _one_of(config, "rollout.source", ("candidates", "generate"))
    for name in ("rollout.max_tokens", "rollout.temperature", "rollout.translations"):
        _positive(config, name)
    _at_least_0(config, "rollout.top_k")
    _check_draw(config, "rollout")
    if rollout.translator not in ("table", "model") and ":" not in rollout.translator:
        raise ConfigError(
            f"rollout.translator={rollout.translator!r} must be table, model or package.module:function"
        )
    if not generates(config):
        return
    if rollout.max_tokens + 2 > config.data.max_length:
        raise ConfigError(
            f"rollout.max_tokens={rollout.max_tokens} leaves no room for a prompt in data.max_length="
            f"{config.data.max_length} tokens; lower the one or raise the other"
        )
    unfit = {  # key -> the one value that generated answers go with
        "data.boundary": "separate",
        "objective.candidates": "all",
        "objective.false_examples": False,
        "auxiliary.mlc.split": "",
    }
    for name, value in unfit.items():
        if _get(config, name) != value:
            raise ConfigError(
                f"{name}={_get(config, name)!r} does not go with rollout.source=generate, whose answers are drawn "
                f"behind the prompt alone; set --config.{name}={value!r}"
            )


def _validate_written(config: ConfigDict) -> None:
    _one_of(config, "evaluation.generation.match", ("normalised", "exact"))
    for name in ("evaluation.generation", "evaluation.safety"):
        _positive(config, f"{name}.max_tokens")
        for key in ("items", "temperature", "top_k"):
            _at_least_0(config, f"{name}.{key}")
        _check_draw(config, name)
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
    if safety.judge != "patterns" and ":" not in safety.judge:
        raise ConfigError(
            f"evaluation.safety.judge={safety.judge!r} must be patterns or package.module:function"
        )


def _check_draw(config: ConfigDict, name: str) -> None:
    """top_p and stop of a section that says how answers are drawn."""
    options = _get(config, name)
    if not 0 < options.top_p <= 1:
        raise ConfigError(f"{name}.top_p={options.top_p} must lie in (0, 1]")
    if not all(isinstance(text, str) and text for text in options.stop):
        raise ConfigError(f"{name}.stop={tuple(options.stop)!r} must hold texts, none empty")


def _validate_selection(config: ConfigDict) -> None:
    _one_of(config, "selection.name", ("", "gold", "random", "calm", "cm_align"))
    _one_of(config, "selection.rejected", ("random", "hardest"))
    _one_of(config, "selection.form", ("likelihood", "sampling"))
    _one_of(config, "selection.agreeing", ("drop", "random"))
    _one_of(config, "selection.task", ("mathematics", "code", "general"))
    for name in ("selection.margin", "selection.samples", "selection.temperature", "selection.top_k"):
        _at_least_0(config, name)
    for name in ("selection.batch", "selection.max_tokens"):
        _positive(config, name)
    selection = config.selection
    _check_draw(config, "selection")
    if selection.engine != "sampler" and not selection.engine.startswith(("http://", "https://")):
        raise ConfigError(
            f"selection.engine={selection.engine!r} must be sampler, or a server's http(s)://..."
        )
    if selection.engine != "sampler" and not selection.engine_model:
        raise ConfigError(
            f"selection.engine={selection.engine!r} is a server, which must be told the model's name there: "
            "set selection.engine_model"
        )
    if selection.translator not in ("", "model") and ":" not in selection.translator:
        raise ConfigError(
            f"selection.translator={selection.translator!r} must be model, package.module:function, or empty"
        )
    for language, text in selection.instructions.items():
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"selection.instructions.{language}={text!r} must be a text")
        known = tuple(config.data.languages)
        if known and language not in known:
            raise ConfigError(
                f"selection.instructions.{language}: data.languages names no {language!r}{nearest(language, known)}; "
                f"it names {', '.join(known)}"
            )


def check_pairs_fit(config: ConfigDict) -> None:
    """Refuses preference pairs where the objective compares languages: a pair has only one.

    Raises:
      ConfigError: naming the objective and what would be right.
    """
    where = (
        "data.train.pairs" if config.data.train.pairs else "selection.name" if config.selection.name else ""
    )
    one_language = np.ones((1, 1, 2), bool), np.zeros(1, np.int32), ("",)
    if where and not OBJECTIVES[config.objective.name].usable(*one_language)[0]:
        fit = (name for name, objective in OBJECTIVES.items() if objective.usable(*one_language)[0])
        raise ConfigError(
            f"objective.name={config.objective.name!r} compares languages, and the preference pairs of "
            f"{where}={_get(config, where)!r} are of one language each; "
            f"use {', '.join(fit)}, or train on the split itself: {where}=''"
        )


def _check_keys(config: Mapping, reference: Mapping, prefix: str) -> None:
    for key, value in config.items():
        name = f"{prefix}{key}"
        if key not in reference:
            raise ConfigError(
                f"unknown config key {name!r}{nearest(key, reference)}; here stand: {', '.join(sorted(reference))}"
            )
        expected = reference[key]
        if isinstance(expected, Mapping) != isinstance(value, Mapping):
            raise ConfigError(f"config key {name}={value!r} should be like the default {expected!r}")
        if isinstance(expected, Mapping) and name not in FREE:
            _check_keys(value, expected, f"{name}.")
        elif not isinstance(expected, Mapping) and not _same_kind(value, expected):
            raise ConfigError(f"config key {name}={value!r} should be of type {type(expected).__name__}")
    for key in reference:
        if key not in config and f"{prefix[:-1]}" not in FREE:
            raise ConfigError(
                f"config key {prefix}{key} is missing; start from consistency_jax.config.default()"
            )


def _same_kind(value: Any, expected: Any) -> bool:
    if isinstance(expected, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(expected, bool)
    if isinstance(expected, (tuple, list)):
        return isinstance(value, (tuple, list))
    if isinstance(expected, float):
        return isinstance(value, (int, float))
    return isinstance(value, type(expected))


def _get(config: ConfigDict, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


def _one_of(config: ConfigDict, name: str, known: tuple[str, ...]) -> None:
    value = _get(config, name)
    if value not in known:
        raise ConfigError(
            f"{name}={value!r} is unknown{nearest(str(value), known)}; choose from {', '.join(known)}"
        )


def _positive(config: ConfigDict, name: str) -> None:
    if not _get(config, name) > 0:
        raise ConfigError(f"{name}={_get(config, name)} must be greater than 0")


def _at_least_0(config: ConfigDict, name: str) -> None:
    if not _get(config, name) >= 0:
        raise ConfigError(f"{name}={_get(config, name)} must not be negative")
