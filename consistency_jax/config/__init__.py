"""Configs: what may be set, and what each key is by default.

A config file in configs/ is python with `get_config(arg)`: it starts from `default()`, sets what differs and returns
it. `--config=configs/x.py:key=value` picks a variant through `parse_arg`, `--config.a.b=value` overrides one key; from
Python it is `get_config("x", "key=value")`.
"""

from consistency_jax.config.checks import validate
from consistency_jax.config.defaults import default
from consistency_jax.config.parsing import names, parse_arg
from consistency_jax.config.recipes import paper_config
from consistency_jax.config.stages import stages_of
from consistency_jax.errors import ConfigError
from consistency_jax.runtime.shipped import get_config

__all__ = [
    "ConfigError",
    "default",
    "get_config",
    "names",
    "paper_config",
    "parse_arg",
    "stages_of",
    "validate",
]
