"""What several keys say together: each that cannot be is told by name, with what would be right."""

import pytest

from consistency_jax.config.checks import check_pairs_fit, validate
from consistency_jax.config.defaults import default
from consistency_jax.errors import ConfigError


def changed(**changes):
    """The default config of some model, with these changes: {"a.b": value}."""
    config = default()
    config.model.path = "somewhere"
    for name, value in changes.items():
        *sections, key = name.split(".")
        place = config
        for section in sections:
            place = place[section]
        place[key] = value
    return config


MLC = {"auxiliary.mlc.weight": 0.8}
WRITTEN = {"objective.name": "pco_rollout", "rollout.source": "generate"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batching.items": 6, "batching.accumulate": 3},
        MLC,
        MLC | {"objective.name": "sft", "auxiliary.mlc.split": "prompts"},
        WRITTEN,
        {"model.path": "", "pretrain.total_steps": 5},
        {"data.chat_template": "tokenizer", "data.system_prompt": "Be brief."},
        {"mesh.data": 1, "mesh.fsdp": -1},
    ],
)
def test_what_goes_together_passes(changes):
    config = changed(**changes)
    before = config.to_dict()
    validate(config)
    assert config.to_dict() == before  # nothing is filled in or put right on the way


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batching.items": 5, "batching.accumulate": 2}, "accumulate=2 must divide batching.items=5"),
        (
            MLC | {"auxiliary.mlc.split": "p", "auxiliary.mlc.items": 5, "batching.accumulate": 2},
            "accumulate=2 must divide auxiliary.mlc.items=5",
        ),
        (
            MLC | {"objective.name": "sft"},
            "takes them one by one for sft; set batching.name=grouped, or name a split",
        ),
        (MLC | {"selection.name": "calm"}, "a preference pair in one language alone, or name a split"),
        ({"batching.name": "grouped", "batching.languages": 2}, "set batching.languages=0"),
        (
            WRITTEN | {"data.boundary": "joint"},
            "data.boundary='joint' does not go with rollout.source=generate",
        ),
        (WRITTEN | {"objective.candidates": "pair"}, "objective.candidates='pair' does not go with"),
        (WRITTEN | {"rollout.max_tokens": 1023}, "max_tokens=1023 leaves no room .* data.max_length=1024"),
        (
            {"evaluation.generation.splits": ("dev",)},
            "names 'dev', which is not measured; data.test has: test",
        ),
        ({"evaluation.safety.harmless.source": "polyrefuse"}, "set evaluation.safety.harmful.source"),
        ({"selection.engine": "http://here:1/v1"}, "set selection.engine_model"),
        (
            {"data.languages": ("en", "sw"), "selection.instructions": {"sv": "Svara."}},
            "data.languages names no 'sv'.*it names en, sw",
        ),
        ({"model.path": ""}, "no model: give --config.model.path"),
        ({"data.system_prompt": "Be brief."}, "set --config.data.chat_template=tokenizer"),
        (
            {"model.path": "", "pretrain.total_steps": 5, "data.chat_template": "tokenizer"},
            "which the embedded base model has not",
        ),
        ({"mesh.data": 3}, "does not cover the 1 device"),
        ({"lora.rank": 4, "lora.targets": "q_proj"}, "matches no projection"),
    ],
)
def test_what_does_not_go_together_is_told(changes, message):
    with pytest.raises(ConfigError, match=message):
        validate(changed(**changes))


def test_a_fault_of_one_of_several_stages_names_it():
    config = changed(stages=("sft", "dco"))
    config.stage = {"dco": {"batching": {"items": 5, "accumulate": 2}}}
    with pytest.raises(ConfigError, match="^stage dco: batching.accumulate=2"):
        validate(config)


def test_sections_values_and_missing_keys_are_told_apart():
    config = changed()
    del config.data
    config.data = 3
    with pytest.raises(
        ConfigError, match="config key data=3 should hold settings: bos, boundary, chat_template"
    ):
        validate(config)
    config = changed()
    del config.optimizer["schedule"]
    with pytest.raises(ConfigError, match="optimizer.schedule is missing; start from .*default"):
        validate(config)
    with pytest.raises(ConfigError, match="unknown config key 'data.sorce' .did you mean 'source'"):
        validate(changed(**{"data.sorce": "jsonl"}))


@pytest.mark.parametrize(
    ("name", "fits"),
    [("dpo", True), ("orpo", True), ("sft", True), ("dco", False), ("mpo", False), ("sft_all", False)],
)
def test_pairs_of_one_language_fit_what_compares_none(name, fits):
    check_pairs_fit(changed(**{"objective.name": name}))  # without pairs all do
    for where in ({"data.train.pairs": "pairs.jsonl"}, {"selection.name": "calm"}):
        config = changed(**{"objective.name": name}, **where)
        if fits:
            check_pairs_fit(config)
        else:
            message = (
                f"'{name}' {'takes no label' if name == 'sft_all' else 'compares languages'}, and the preference pairs "
                f"of {next(iter(where))}=.*use dpo, ipo, orpo, sft, simpo"
            )
            with pytest.raises(ConfigError, match=message):
                check_pairs_fit(config)
