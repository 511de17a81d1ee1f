"""Texts of configs: the options behind a config's name, functions named in a key, and the JSON that a workdir keeps."""

import importlib
import json
import re
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from consistency_jax.config.stages import filled
from consistency_jax.errors import ConfigError, nearest

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
# key, whether a value follows, and it; one in quotes is a JSON string, so that it may hold commas.
_OPTION = re.compile(r'([^,=]*)(=)?("(?:[^"\\]|\\.)*"(?=,|$)|[^,]*)(?:,|$)')


def names(text: str) -> tuple[str, ...]:
    """The names that are joined by + or commas."""
    return tuple(filter(None, re.split("[+,]", text)))


def parse_arg(arg: str | None, **defaults: Any) -> ConfigDict:
    """Parses the part behind the colon of --config=file.py:key=value,... into typed values.

    A bare `key` means True for a boolean default. Types follow the defaults. A value in double quotes may hold commas.

    Raises:
      ConfigError: for a key that the config does not take or a value of another type.
    """
    values, given = dict(defaults), set()
    for key, has_value, text in _OPTION.findall(arg or ""):
        if not key and not has_value:
            continue  # behind the last comma
        if key not in defaults:
            raise ConfigError(
                f"--config takes no option {key!r}{nearest(key, defaults)}; it takes: {', '.join(sorted(defaults))} "
                "(several languages are joined by +)"
            )
        if key in given:
            raise ConfigError(f"--config option {key!r} is given twice")
        given.add(key)
        kind = type(defaults[key])
        if not has_value and kind is not bool:
            raise ConfigError(f"--config option {key!r} needs a value: {key}=...")
        text = text if has_value else "true"
        try:
            if text.startswith('"'):
                text = json.loads(text)
            if kind is bool:
                values[key] = {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            else:
                values[key] = kind(text)
        except (ValueError, KeyError) as error:
            raise ConfigError(f"--config option {key}={text!r} should be {KINDS[kind]}") from error
    return ConfigDict(values)


def to_json(config: ConfigDict) -> str:
    """The config as stable, readable JSON text, `filled`: what a workdir stores and a resumed run compares."""
    return (
        json.dumps(filled(config).to_dict(), indent=2, sort_keys=True, ensure_ascii=False, default=list)
        + "\n"
    )


def named_function(key: str, name: str) -> Callable:
    """The function that a config's key names as package.module:function.

    Raises:
      ConfigError: naming the key, where it cannot be imported.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}={name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"{key}={name!r} is {found!r:.60}, and no function")
    return found
