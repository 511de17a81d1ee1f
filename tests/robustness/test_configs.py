"""Configs, broken: a strange value in any key is refused by name, or does what the key says; never a traceback.

What is accepted is harmless by a rule: it is of the type of the key's default, numbers are finite, and a config that
was accepted is read back from its config.json as the same.
"""

import json
import math
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from mutations import Outcomes

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.config.parsing import parse_arg, to_json
from consistency_jax.config.stages import flattened
from consistency_jax.objectives import OBJECTIVES

pytestmark = pytest.mark.slow
VALUES = (
    *(
        0,
        -1,
        -2,
        1,
        3,
        2**31,
        2**64,
        10**30,
        0.0,
        -0.5,
        0.5,
        1.5,
        1e300,
        math.nan,
        math.inf,
        -math.inf,
        True,
        False,
    ),
    *("", " ", "x", "a:b", "[", "\0", "../..", "~", "é", "x" * 3000, None),
    *((), ("x",), (1,), (("x",),), [], ["en", "en"], {}, {"x": 1}, {"x": {"y": "z"}}, {"": None}),
)


def put(config: ConfigDict, key: str, value: object) -> None:
    """Sets a key to a value of any type, as a config.json may hold it."""
    *parts, last = key.split(".")
    with config.ignore_type(), config.unlocked():
        here = config
        for part in parts:
            here = here[part]
        here[last] = value


@pytest.mark.parametrize("objective", ["dco", "pco_rollout", "dpo"])
def test_each_key_with_each_value(objective: str) -> None:
    plain, outcomes = default(), Outcomes()
    plain.model.path = "somewhere"
    plain.objective.name = objective
    keys = sorted(flattened(plain.to_dict()))
    for key in (
        keys if objective == "dco" else [key for key in keys if key.startswith(("objective", "rollout"))]
    ):
        was = flattened(plain.to_dict())[key]
        for value in VALUES:
            config = ConfigDict(plain.to_dict())
            label = f"{key}={value!r:.80}"

            def checked(config: ConfigDict = config, key: str = key, value: object = value) -> ConfigDict:
                put(config, key, value)
                validate(config)
                return config

            found = outcomes.of(label, checked)
            if isinstance(found, Exception):
                continue
            given = found.to_dict()
            for part in key.split("."):
                given = given[part]
            if was is None:  # the objective's own option, which this one has not, or by its own type
                continue
            if isinstance(was, bool) or isinstance(given, bool):
                assert type(was) is type(given), label
            elif isinstance(was, int | float):
                assert type(given) in (int, type(was)), label
                assert math.isfinite(given), label
            elif isinstance(was, str):
                assert isinstance(given, str) or (given, was) == (None, ""), label
            again = json.loads(to_json(found))
            assert json.loads(json.dumps(again, allow_nan=False)) == again, label
    assert outcomes.counts["error"] > len(VALUES)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_options_of_objectives(objective: str) -> None:
    outcomes = Outcomes()
    for key in OBJECTIVES[objective].keys:
        for value in VALUES:
            config = default()
            config.model.path = "somewhere"
            config.objective.name = objective
            put(config, f"objective.{key}", value)
            outcomes.of(f"{objective}.{key}={value!r:.80}", lambda config=config: validate(config))
    assert outcomes.counts["error"] > len(VALUES) // 2
    assert outcomes.counts["accepted"]


def test_words_behind_the_colon() -> None:
    outcomes = Outcomes()
    words = (
        "",
        ",",
        "=",
        "a",
        "a=",
        "=a",
        "path",
        "path=",
        "path==",
        "path=a,b",
        "path=a,path=b",
        "steps=x",
        "steps=1e3",
    )
    words += (
        "steps=-1",
        "steps=nan",
        "steps=0x10",
        "lr=inf",
        "lr=",
        "lr=1e-5,",
        "lora=True",
        "runs=None",
        "runs=2.5",
    )
    words += (
        "path=\0",
        "path=é",
        "path=~",
        "path=a=b",
        "names=en+",
        "flag=yes",
        "flag=1",
        "flag=true",
        "steps=１",
    )
    for word in words:
        options = {"path": "", "steps": 10, "lr": 1e-5, "lora": 0, "flag": False, "runs": 1, "names": "en"}
        outcomes.of(word, lambda word=word, options=options: parse_arg(word, **options))
    assert outcomes.counts["error"] >= 12


def test_configs_of_this_project_with_strange_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    monkeypatch.chdir(tmp_path)
    outcomes = Outcomes()
    for file in sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for word in (
            *(
                "path=x",
                "data=none",
                "data=",
                "data=~/x.jsonl",
                "data_path=\0",
                "method=",
                "method=no",
                "languages=+",
            ),
            *(
                "languages=en+en",
                "languages=xx",
                "steps=-5",
                "steps=0",
                "lr=-1",
                "lora=-3",
                "seed=-1",
                "size=none",
            ),
            *(
                "trained=-1",
                "tested=-2",
                "en=-1",
                "en=0",
                "weight=nan",
                "anchor=xx",
                "items=0",
                "prompts=-1",
                "pretrain=-1",
            ),
        ):

            def checked(module=module, word: str = word) -> None:
                config = module.get_config(word)
                if "model" in config and not config.model.path:
                    config.model.path = "somewhere"
                validate(config)

            outcomes.of(f"{file.name}:{word}", checked)
    assert outcomes.counts["error"] > 50
