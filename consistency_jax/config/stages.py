"""The stages of a run, each with a config of its own: the run's, with what `config.stage` says of it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from consistency_jax.config.defaults import KEYS
from consistency_jax.errors import ConfigError, nearest
from consistency_jax.objectives import OBJECTIVES, options_of

STAGE_KEYS = (
    "total_steps",
    "data.train",
    "selection",
    "objective",
    "rollout",
    "auxiliary",
    "batching",
    "optimizer",
)  # what stages may differ in


class Stage(NamedTuple):
    """A stage of a run: one training, from parameters to parameters."""

    name: str  # in logs
    folder: str  # of its checkpoints, in the workdir
    pairs: str  # file of the preference pairs that it makes, if it does
    config: ConfigDict  # the run's, with what the stage sets otherwise


def stages_of(config: ConfigDict) -> tuple[Stage, ...]:
    """The stages of a run, without the pretraining: one where `config.stages` names none.

    Raises:
      ConfigError: stages that cannot be.
    """
    names = tuple(config.stages)
    if odd := [name for name in names if not isinstance(name, str) or not re.fullmatch(r"\w[\w-]*", name)]:
        raise ConfigError(f"stages lists {odd[0]!r}: names are letters, digits, _ and - (folders have them)")
    if "pretrain" in names:
        if config.model.path:
            raise ConfigError(
                "stages lists pretrain, which makes the embedded base model; leave it out, or model.path empty"
            )
        if names[0] != "pretrain" or len(names) == 1:
            raise ConfigError(f"stages={names}: pretrain stands first, with objectives after it")
        names = names[1:]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"stages={names} lists a stage twice; give one another name, and its settings in config.stage"
        )
    for name in config.stage:
        if name not in names:
            raise ConfigError(f"stage.{name} is set, but stages={names} does not list it")
    if not names:
        return (Stage(config.objective.name, "checkpoints", "pairs.jsonl", config),)
    configs = [_stage_config(config, name) for name in names]
    _keep_own_options(config, dict(zip(names, configs, strict=True)))
    if len(names) == 1:
        return (Stage(names[0], "checkpoints", "pairs.jsonl", configs[0]),)
    return tuple(
        Stage(name, f"checkpoints/{n}-{name}", f"pairs-{n}-{name}.jsonl", own)
        for n, (name, own) in enumerate(zip(names, configs, strict=True), start=1)
    )


def _stage_config(config: ConfigDict, name: str) -> ConfigDict:
    """The config with what its stage of that name sets otherwise, as a config without stages."""
    own = config.stage.get(name, ConfigDict())
    if not isinstance(own, ConfigDict):
        raise ConfigError(f"stage.{name}={own!r} should hold settings: {', '.join(STAGE_KEYS)}")
    own = own.to_dict()
    flat = flattened(own)
    for key in flat:
        if not f"{key}.".startswith(tuple(f"{known}." for known in STAGE_KEYS)):
            raise ConfigError(
                f"stage.{name}.{key}: a stage may set {', '.join(STAGE_KEYS)}; all else holds for the run"
            )
    _check_sections(own, config, f"stage.{name}")
    if flat.get("optimizer.freeze", config.optimizer.freeze) != config.optimizer.freeze:
        raise ConfigError(
            f"stage.{name}.optimizer.freeze: all stages train the same parameters; set optimizer.freeze"
        )
    if "objective.name" not in flat:
        if name not in OBJECTIVES:
            raise ConfigError(
                f"stages names {name!r}, which is no objective{nearest(name, OBJECTIVES)}: say which with "
                f"stage.{name}.objective.name; there are: {', '.join(OBJECTIVES)}"
            )
        own.setdefault("objective", {})["name"] = name
    merged = config.copy_and_resolve_references()
    merged.stages, merged.stage = (), ConfigDict()
    try:
        merged.update(own)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"stage.{name}: {error}") from None
    return merged


def _keep_own_options(config: ConfigDict, stages: Mapping[str, ConfigDict]) -> None:
    """Of the run's own `objective` each stage keeps what its objective takes; what none takes stays, to be refused."""
    takes = {name: set(_options(own.objective.name)) for name, own in stages.items()}
    for name, own in stages.items():
        set_here = config.stage.get(name, {}).get("objective", {})
        for option in set().union(*takes.values()) - takes[name] - set(set_here):
            if option in own.objective:
                del own.objective[option]


def _options(name: str) -> Mapping[str, Any]:
    return OBJECTIVES[name].keys if name in OBJECTIVES else {}


def filled(config: ConfigDict) -> ConfigDict:
    """The config as a workdir keeps it: each stage with all options that its objective takes, and with no others (those
    of workdirs from before they were refused had no effect)."""
    result, staged = config.copy_and_resolve_references(), bool(config.stages)
    if staged:
        result.objective = ConfigDict({"name": config.objective.name})
    for stage in stages_of(config):
        section = stage.config.objective
        KEYS["objective"]["name"].check("objective.name", section.name)
        if staged and stage.name not in result.stage:
            result.stage[stage.name] = ConfigDict()
        place = result.stage[stage.name] if staged else result
        place.objective = ConfigDict({"name": section.name} | options_of(section))
    return result


def selects(config: ConfigDict) -> bool:
    """Whether preference pairs are to be made of the items, and trained on instead."""
    return bool(config.selection.name and not config.data.train.pairs)


def _check_sections(own: Mapping, known: ConfigDict, name: str) -> None:
    """Refuses a value where a section stands, and settings where a value does; other keys are checked once merged."""
    for key, value in own.items():
        if key not in known:
            continue
        expected, place = known[key], f"{name}.{key}"
        if isinstance(expected, ConfigDict) and not isinstance(value, Mapping):
            raise ConfigError(f"{place}={value!r} should hold settings: {', '.join(expected.keys())}")
        if isinstance(expected, ConfigDict):
            _check_sections(value, expected, place)
        elif isinstance(value, Mapping) and expected is not None:
            raise ConfigError(f"{place}={value!r} should be of type {type(expected).__name__}")


def flattened(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flattened(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def languages_apart(config: ConfigDict) -> bool:
    """Whether an example is a single language of an item, rather than an item with its languages."""
    return config.batching.name == "random" and not OBJECTIVES[config.objective.name].crosslingual


def generates(config: ConfigDict) -> bool:
    """Whether the answers that a config trains on are drawn from the policy, step by step, as free text."""
    return config.objective.name == "pco_rollout" and config.rollout.source == "generate"


def method_of(stages: Sequence[Stage]) -> str:
    """The objectives of a run, their steps and items."""
    told = []
    for name, _, _, config in stages:
        objective = (
            config.objective.name if name == config.objective.name else f"{name} ({config.objective.name})"
        )
        made = f" on pairs of {config.selection.name}" if selects(config) else ""
        counts = {"step": config.total_steps, "item": config.batching["items"]}
        steps, items = (f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items())
        told.append(f"{objective}{made}, {steps} of {items}")
    return "; then ".join(told)


def model_name(config: ConfigDict) -> str:
    """What a run's model is called: the last part of its path, and how it is quantised."""
    name = config.model.path.rstrip("/").rpartition("/")[2] or "embedded base model"
    return name if config.lora.base == "none" else f"{name} in {config.lora.base}"
