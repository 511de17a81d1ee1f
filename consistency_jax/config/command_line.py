"""What people write behind a command, as its flags take it: configs by name, options as flags of their own, tuples.

--config=gemma3            configs/gemma3.py, wherever the command is given
--path=MODEL --data=a,b    options of the config, as if they stood behind its colon
--config.data.languages=en,fr
"""

import ast
import difflib
import json
import re
from collections.abc import Container, Iterator, Sequence

from consistency_jax.config.defaults import KEYS
from consistency_jax.config.parsing import names
from consistency_jax.config.recipes import COLUMNS
from consistency_jax.errors import ConfigError
from consistency_jax.runtime.keys import TEXTS
from consistency_jax.runtime.shipped import config_file

_FLAG = re.compile(r"--?([A-Za-z_][\w.]*)(?:=(.*))?", re.DOTALL)


def as_flags(argv: Sequence[str], known: Container[str], flags: Sequence[str]) -> list[str]:
    """The words of a command line, the first being the command, with its options behind the colon of --config.

    Args:
      known: tells whether a name is a flag's.
      flags: names of the command's own, for a word that is near to one.

    Raises:
      ConfigError: a config that is not there, an option without a config, or what is neither flag nor option.
    """
    words, options, config = [argv[0]], [], None
    for word, name, value in _pairs(argv[1:], known):
        of_flag = words[-1].startswith("--") and "=" not in words[-1]  # the word may be that one's value
        if name == "config" and value is not None:
            config = value
        elif name and name.startswith("config."):
            words.append(word if value is None else f"--{name}={_as_tuple(name, value)}")
        elif name is None and re.match(r"\w+=", word) and not of_flag:
            raise ConfigError(f"{word!r} is neither a flag nor an option: write --{word}")
        elif name is None or name in known or name.removeprefix("no") in known:
            words.append(word)
        elif near := difflib.get_close_matches(name, flags, n=1, cutoff=0.8):
            raise ConfigError(f"--{name} is no flag (did you mean --{near[0]}?)")
        else:
            options += [name] if value is None else _options(name, value)
    if config is not None:
        file, _, given = config.partition(":")
        told = ",".join(filter(None, [given, *options]))
        words.insert(1, f"--config={config_file(file)}{':' * bool(told)}{told}")
    elif options:
        raise ConfigError(
            f"--{options[0]} is no flag of this command, and there is no config to be an option of: "
            "name one, --config=NAME; `consistency-jax configs` lists them"
        )
    return words


def _pairs(words: Sequence[str], known: Container[str]) -> Iterator[tuple[str, str | None, str | None]]:
    """(word, name, value) of each; a value may be the next word. No name: what is no flag, and all behind `--`."""
    number = 0
    while number < len(words):
        word = words[number]
        number += 1
        if word == "--":
            yield from ((each, None, None) for each in words[number - 1 :])
            return
        found = _FLAG.fullmatch(word)
        if not found:
            yield word, None, None
            continue
        name, value = found.groups()
        takes = name == "config" or name not in known and name.removeprefix("no") not in known
        if value is None and takes and number < len(words) and not words[number].startswith("-"):
            value = words[number]
            number += 1
        yield word, name, value


def _options(name: str, value: str) -> list[str]:
    """An option as its config takes it; --prompt=question,candidates=answers names two, as behind a colon."""
    if name not in COLUMNS or value.startswith('"'):
        return [f"{name}={_quoted(value)}"]
    first, *others = re.split(rf",\s*(?=(?:{'|'.join(COLUMNS)})=)", value)
    pairs = [(name, first), *(other.split("=", 1) for other in others)]
    return [f"{key}={_quoted(own)}" for key, own in pairs]


def _quoted(value: str) -> str:
    """An option's value as `parse_arg` reads it back, commas and all."""
    return json.dumps(value, ensure_ascii=False) if re.search('[,"]', value) else value


def _as_tuple(name: str, value: str) -> str:
    """The value of --config.KEY, where the key takes names and the value is written a,b or a+b as their tuple."""
    section, _, key = name.removeprefix("config.").rpartition(".")
    row = KEYS.get(section, {}).get(key)
    if not row or not isinstance(row.default, tuple) or row.allowed is TEXTS:  # a stop text may be a comma
        return value
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return repr(names(value))
    return value
