"""Texts of configs: options that are typed, functions by name, and JSON that stays the same."""

import json

import pytest

from consistency_jax.config.defaults import default
from consistency_jax.config.parsing import named_function, names, parse_arg, to_json
from consistency_jax.errors import ConfigError


def test_options_of_a_config_file_are_typed():
    assert parse_arg("steps=3,lr=0.5,fast", steps=1, lr=1.0, fast=False).to_dict() == {
        "steps": 3,
        "lr": 0.5,
        "fast": True,
    }
    with pytest.raises(ConfigError, match="no option 'step'.*did you mean 'steps'"):
        parse_arg("step=3", steps=1)
    with pytest.raises(ConfigError, match="steps='x' should be a whole number"):
        parse_arg("steps=x", steps=1)
    with pytest.raises(ConfigError, match="option 'size' needs a value: size=..."):
        parse_arg("size", size="4b")
    with pytest.raises(ConfigError, match="option 'steps' is given twice"):
        parse_arg("steps=1,steps=2", steps=1)


def test_a_value_of_another_type_is_told():
    with pytest.raises(ConfigError, match="fast='perhaps' should be true or false"):
        parse_arg("fast=perhaps", steps=1, fast=False)
    with pytest.raises(ConfigError, match="fast='' should be true or false"):
        parse_arg("fast=", fast=False)  # of a variable that is not set


def test_a_value_in_quotes_may_hold_commas():
    given = parse_arg('path="a,b=\\"c\\"",seed=3,data=x"y,', path="", seed=0, data="")
    assert given.to_dict() == {"path": 'a,b="c"', "seed": 3, "data": 'x"y'}
    with pytest.raises(ConfigError, match="--config option path=.* should be a text"):
        parse_arg(r'path="\q"', path="")


def test_names_are_joined_by_commas_or_plus():
    assert names("en,fr") == names("en+fr") == names("en+fr,") == ("en", "fr")
    assert names("") == ()


def test_a_function_is_found_by_name_and_told_with_its_key_where_it_is_not():
    assert named_function("selection.translator", "json:dumps") is json.dumps
    for name in ("json:nothing", "no_such_module:f", "json", ""):
        with pytest.raises(ConfigError, match=f"selection.translator='{name}' cannot be imported"):
            named_function("selection.translator", name)


def test_json_does_not_depend_on_the_order_of_keys_and_reads_back():
    one, other = default(), default()
    one.objective.steer, other.objective.steer = {"en": 1.0, "sw": 2.0}, {"sw": 2.0, "en": 1.0}
    assert to_json(one) == to_json(other)
    again = default()
    again.update(json.loads(to_json(one)))
    assert to_json(again) == to_json(one)


def test_what_is_named_is_a_function():
    with pytest.raises(ConfigError, match="rollout.translator='math:pi' is 3.14.*, and no function"):
        named_function("rollout.translator", "math:pi")
